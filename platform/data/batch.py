"""Resized images and their annotations to one padded batch: padded, with targets as the model takes them.

Letters: N images, H W padded height and width, M most objects of one image, G objects of the batch, K keypoints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskray.model.config import InputConfig, LabelMap, ModelConfig
from maskray.model.outlines import Outlines
from maskray.model.structures import Batch, Targets
from maskray.platform.data.augmentation import (
    COLOUR,
    PASTE,
    Draws,
    cut_randomly,
    drawn_size,
    jitter_colour,
    turn_randomly,
)
from maskray.platform.data.copy_paste import paste_objects
from maskray.platform.data.decode import Pixels, decode_row
from maskray.platform.data.keypoints import mirrored_order
from maskray.platform.data.targets import ImageTargets, build_targets, mirror
from maskray.platform.data.transforms import Resized, mirror_image, padded_size, resize_image, resize_to
from maskray.platform.job.data_config import DataConfig


@dataclass
class Sample:
    """One image ready for a batch: image (h, w, 3) at network size, original_size (height, width) before."""

    image: Resized
    image_id: int
    original_size: tuple[int, int]
    targets: ImageTargets
    flipped: bool = False


@dataclass(frozen=True)
class SampleBuilder:
    """Turns dataset rows into training samples: decode, resize, augment; a pure function of its fields.

    model says whether masks and keypoints are wanted; labels which class a category is, and which keypoints are pairs.
    """

    data: DataConfig
    input: InputConfig
    model: ModelConfig
    labels: LabelMap
    seed: int

    def build(self, row: Mapping[str, Any], epoch: int) -> Sample:
        """The sample of a row in an epoch (or EpochOrder.draws); ValueError naming the image that cannot be decoded.

        Where the row holds another one under "partner", objects of that one are pasted on it: none where that one
        cannot be decoded, which is told when its own turn comes.
        """
        draws, config = Draws(self.seed, epoch, int(row["image_id"])), self.data.augmentation
        sample = self._sample(row, draws)
        other = self._partner(row.get("partner"), draws)
        if other is not None:
            sample.image, sample.targets = paste_objects(
                (sample.image, sample.targets),
                (other.image, other.targets),
                draws.generator(PASTE),
                config.min_visible,
                self.data.min_box_pixels,
            )
        if config.color_jitter > 0:
            sample.image = jitter_colour(sample.image, draws.generator(COLOUR), config.color_jitter)
        return sample

    def _partner(self, row: Mapping[str, Any] | None, draws: Draws) -> Sample | None:
        if row is None:
            return None
        try:
            return self._sample(row, replace(draws, pasted=True))
        except ValueError:
            return None

    def _sample(self, row: Mapping[str, Any], draws: Draws) -> Sample:
        """The row as it is before anything is pasted on it."""
        config = self.data.augmentation
        edges = self.data.shorter_edge_train or (self.input.shorter_edge,)
        draw = draws.edge_and_flip(edges, self.data.flip)
        decoded = decode_row(row)
        original_size = (decoded.shape[0], decoded.shape[1])
        size = drawn_size(original_size, draws, draw.shorter_edge, config, self.input)
        image = resize_to(decoded, size, self.input.resize)
        try:
            targets = self._targets(row, original_size, size)
        except ValueError as error:
            raise ValueError(f"image {row['image_id']} ({row['file_name']}): {error}") from None
        image, targets = cut_randomly(image, targets, draws, config, self.data.min_box_pixels)
        orders = self._mirrored_orders(targets)
        if draw.flip:
            image, targets = mirror_image(image), mirror(targets, image.shape[1], orders)
        image, targets = turn_randomly(image, targets, draws, config, orders)
        return Sample(image, int(row["image_id"]), original_size, targets, draw.flip)

    def _targets(self, row: Mapping[str, Any], original_size: tuple[int, int], size: tuple[int, int]) -> ImageTargets:
        annotations = json.loads(row["annotations"])
        return build_targets(
            annotations,
            original_size,
            size,
            self.labels.class_indices,
            self.data.min_box_pixels,
            self.model.masks,
            self.model.keypoint_head if self.model.keypoints else None,
            self.data.objects_without_masks == "boxes_only",
        )

    def _mirrored_orders(self, targets: ImageTargets) -> list[NDArray[np.int64]]:
        """Of a category without keypoints none is labelled: any order will do. None where nothing is mirrored."""
        if not (self.model.keypoints and self.data.mirrors):
            return []
        unnamed = ("",) * self.model.keypoint_head.num_keypoints
        names = [self.labels.categories[int(index)].keypoints or unnamed for index in targets.classes]
        return [mirrored_order(of_object) for of_object in names]


def collate(samples: Sequence[Sample], multiple: int, least_side: int = 0) -> Batch:
    """One batch of samples; multiple and least_side as in collate_images."""
    batch = collate_images(
        [sample.image for sample in samples],
        [sample.image_id for sample in samples],
        [sample.original_size for sample in samples],
        multiple,
        [sample.targets for sample in samples],
        least_side,
    )
    batch.flipped = torch.tensor([sample.flipped for sample in samples])
    return batch


def single_image(image: Pixels, image_id: int, config: InputConfig, multiple: int) -> Batch:
    """An image (H, W, 3) uint8 as a batch of its own, resized as at inference; multiple as in collate_images."""
    resized = resize_image(image, config.shorter_edge, config.longer_edge_max, config.resize)
    return collate_images([resized], [image_id], [(image.shape[0], image.shape[1])], multiple)


def collate_images(
    images: Sequence[Resized],
    image_ids: Sequence[int],
    original_sizes: Sequence[tuple[int, int]],
    multiple: int,
    targets: Sequence[ImageTargets] | None = None,
    least_side: int = 0,
) -> Batch:
    """Resized (h, w, 3) images of one dtype as one batch, padded at right and bottom to a multiple in pixels.

    multiple is the size_divisor of the model's backbone. original_sizes are (height, width) before resizing. Masks and
    keypoints are in the batch only where every image has them. The batch is at least least_side high and wide. In
    memory channels come last, as the model wants them: an image is copied row by row.
    """
    if not images:
        raise ValueError("a batch needs at least one image")
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    largest = (max(least_side, *(height for height, _ in sizes)), max(least_side, *(width for _, width in sizes)))
    height, width = padded_size(largest, multiple)
    padded = np.zeros((len(images), height, width, 3), dtype=images[0].dtype)
    for place, image, (image_height, image_width) in zip(padded, images, sizes):
        place[:image_height, :image_width] = image
    return Batch(
        images=torch.from_numpy(padded).permute(0, 3, 1, 2),
        image_sizes=torch.tensor(sizes, dtype=torch.int64),
        image_ids=torch.tensor(list(image_ids), dtype=torch.int64),
        original_sizes=torch.tensor(list(original_sizes), dtype=torch.int64),
        targets=None if targets is None else _collate_targets(targets, height, width),
    )


def _collate_targets(targets: Sequence[ImageTargets], height: int, width: int) -> Targets:
    counts = [len(target.classes) for target in targets]
    boxes = torch.zeros((len(targets), max(counts), 4), dtype=torch.float32)
    classes = torch.full((len(targets), max(counts)), -1, dtype=torch.int64)
    for index, (target, count) in enumerate(zip(targets, counts)):
        boxes[index, :count] = torch.from_numpy(target.boxes)
        classes[index, :count] = torch.from_numpy(target.classes)
    collated = Targets(boxes, classes)
    outlines = [target.masks for target in targets if target.masks is not None]
    if len(outlines) == len(targets):
        collated.masks = Outlines.join(outlines, (height, width))
        if any(target.has_mask is not None for target in targets):
            flags = [np.ones(n, bool) if t.has_mask is None else t.has_mask for t, n in zip(targets, counts)]
            collated.has_mask = torch.from_numpy(np.concatenate(flags))
    rows = [torch.from_numpy(target.keypoints) for target in targets if target.keypoints is not None]
    if len(rows) == len(targets):
        collated.keypoints = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return collated
