"""Resized images and their annotations to one padded batch: boxes scaled, masks rasterised at network resolution.

Letters: N images, H W padded height and width, M most objects of one image, G objects of the batch, K keypoints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor

from maskray.model.config import InputConfig, KeypointHeadConfig, LabelMap, ModelConfig
from maskray.model.structures import Batch, Targets
from maskray.platform.data.decode import Pixels, decode_row
from maskray.platform.data.keypoints import flip_keypoints, mirrored_order, read_keypoints
from maskray.platform.data.transforms import Resized, draw_augmentation, flip_boxes, padded_size, resize_image
from maskray.platform.job.data_config import DataConfig


@dataclass
class ImageTargets:
    """Ground truth of one image at network size, in its pixels.

    boxes (M, 4) float32, classes (M,) int64, masks (M, h, w) uint8, keypoints (M, K, 3) float32 x y visibility.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    masks: NDArray[np.uint8] | None = None
    keypoints: NDArray[np.float32] | None = None


@dataclass
class Sample:
    """One image ready for a batch: image (h, w, 3) at network size, original_size (height, width) before."""

    image: Resized
    image_id: int
    original_size: tuple[int, int]
    targets: ImageTargets | None = None
    flipped: bool = False


@dataclass(frozen=True)
class SampleBuilder:
    """Turns dataset rows into training samples: decode, draw, resize, flip, rasterise; a pure function of its fields.

    model says whether masks and keypoints are wanted; labels which class a category is, and which keypoints are pairs.
    """

    data: DataConfig
    input: InputConfig
    model: ModelConfig
    labels: LabelMap
    seed: int

    def build(self, row: Mapping[str, Any], epoch: int) -> Sample:
        """The sample of a row in an epoch; ValueError naming the image where it cannot be decoded."""
        edges = self.data.shorter_edge_train or (self.input.shorter_edge,)
        draw = draw_augmentation(self.seed, epoch, int(row["image_id"]), edges, self.data.flip)
        decoded = decode_row(row)
        image = resize_image(decoded, draw.shorter_edge, self.input.longer_edge_max, self.input.resize)
        original_size = (decoded.shape[0], decoded.shape[1])
        try:
            targets = self._targets(row, original_size, (image.shape[0], image.shape[1]))
        except ValueError as error:
            raise ValueError(f"image {row['image_id']} ({row['file_name']}): {error}") from None
        if draw.flip:
            image = image[:, ::-1]
            targets.boxes = flip_boxes(targets.boxes, image.shape[1])
            targets.masks = None if targets.masks is None else targets.masks[:, :, ::-1]
            if targets.keypoints is not None:
                orders = [self._mirrored_order(int(index)) for index in targets.classes]
                targets.keypoints = flip_keypoints(targets.keypoints, image.shape[1], orders)
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
        )

    def _mirrored_order(self, class_index: int) -> NDArray[np.int64]:
        """Of a category without keypoints none is labelled: any order will do."""
        names = self.labels.categories[class_index].keypoints
        return mirrored_order(names or ("",) * self.model.keypoint_head.num_keypoints)


def build_targets(
    annotations: Sequence[Mapping[str, Any]],
    original_size: tuple[int, int],
    size: tuple[int, int],
    class_indices: Mapping[int, int],
    min_box_pixels: float = 0.0,
    masks: bool = True,
    keypoints: KeypointHeadConfig | None = None,
) -> ImageTargets:
    """COCO annotations of one image as targets at network size; sizes are (height, width) in pixels.

    Boxes come from the annotated bbox, scaled and clipped; an object whose box has a side that is zero or below
    min_box_pixels is dropped, and so are crowd regions. keypoints is the head that wants them. ValueError naming the
    annotation where masks are wanted and one has no segmentation, or that has another number of keypoints.
    """
    height, width = size
    scale_y, scale_x = height / original_size[0], width / original_size[1]
    kept = [annotation for annotation in annotations if not annotation.get("iscrowd", 0)]
    boxes = np.array([annotation["bbox"] for annotation in kept], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    boxes *= (scale_x, scale_y, scale_x, scale_y)
    boxes = boxes.clip(0, (width, height, width, height))
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
    large = (sides > 0) & (sides >= min_box_pixels)
    kept = [annotation for annotation, keep in zip(kept, large) if keep]
    classes = np.array([class_indices[annotation["category_id"]] for annotation in kept], dtype=np.int64)
    targets = ImageTargets(boxes[large].astype(np.float32), classes)
    if masks:
        targets.masks = np.zeros((len(kept), height, width), dtype=np.uint8)
        for mask, annotation in zip(targets.masks, kept):
            mask[:] = rasterize(annotation, original_size, size)
    if keypoints is not None:
        targets.keypoints = read_keypoints(kept, keypoints, (scale_x, scale_y))
    return targets


def rasterize(
    annotation: Mapping[str, Any], original_size: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """The mask of an annotation at another size, (h, w) uint8 0/1; sizes are (height, width) in pixels.

    Polygons are scaled and then filled, by pycocotools' rule; an RLE is decoded and resampled bilinearly with
    antialiasing at 0.5. ValueError naming the annotation where it has no segmentation.
    """
    segmentation = annotation.get("segmentation")
    if not segmentation:
        raise ValueError(f"annotation {annotation['id']}: no segmentation to train a mask on")
    height, width = size
    if isinstance(segmentation, dict):
        full = decode_rle(segmentation)
        if full.shape == size:
            return full
        pixels = torch.from_numpy(full * np.uint8(255))[None, None]
        resized = torch.nn.functional.interpolate(pixels, size=size, mode="bilinear", antialias=True)
        return (resized[0, 0].numpy() >= 128).astype(np.uint8)
    scale = np.array([width / original_size[1], height / original_size[0]])
    polygons = [(np.asarray(polygon, dtype=np.float64).reshape(-1, 2) * scale).ravel() for polygon in segmentation]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)))


def decode_rle(segmentation: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The (height, width) uint8 0/1 mask of a COCO run-length encoding, compressed or not."""
    height, width = segmentation["size"]
    if isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(dict(segmentation), height, width)
    return np.ascontiguousarray(coco_mask.decode(segmentation))


def collate(samples: Sequence[Sample], multiple: int) -> Batch:
    """One batch of samples, with targets where all samples have them; multiple as in collate_images."""
    targets = [sample.targets for sample in samples if sample.targets is not None]
    batch = collate_images(
        [sample.image for sample in samples],
        [sample.image_id for sample in samples],
        [sample.original_size for sample in samples],
        multiple,
        targets if len(targets) == len(samples) else None,
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
) -> Batch:
    """Resized (h, w, 3) images of one dtype as one batch, padded at right and bottom to a multiple in pixels.

    multiple is the size_divisor of the model's backbone. original_sizes are (height, width) before resizing. Masks and
    keypoints are in the batch only where every image has them.
    """
    if not images:
        raise ValueError("a batch needs at least one image")
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    height, width = padded_size((max(height for height, _ in sizes), max(width for _, width in sizes)), multiple)
    view = np.zeros((len(images), 3, height, width), dtype=images[0].dtype)
    for index, (image, (image_height, image_width)) in enumerate(zip(images, sizes)):
        view[index, :, :image_height, :image_width] = image.transpose(2, 0, 1)
    return Batch(
        images=torch.from_numpy(view),
        image_sizes=torch.tensor(sizes, dtype=torch.int64),
        image_ids=torch.tensor(list(image_ids), dtype=torch.int64),
        original_sizes=torch.tensor(list(original_sizes), dtype=torch.int64),
        targets=None if targets is None else _collate_targets(targets, height, width),
    )


def _collate_targets(targets: Sequence[ImageTargets], height: int, width: int) -> Targets:
    counts = [len(target.classes) for target in targets]
    boxes = torch.zeros((len(targets), max(counts), 4), dtype=torch.float32)
    classes = torch.full((len(targets), max(counts)), -1, dtype=torch.int64)
    masks: Tensor | None = None
    if all(target.masks is not None for target in targets):
        masks = torch.zeros((sum(counts), height, width), dtype=torch.uint8)
    rows = [torch.from_numpy(target.keypoints) for target in targets if target.keypoints is not None]
    keypoints: Tensor | None = None
    if len(rows) == len(targets):
        keypoints = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    start = 0
    for index, (target, count) in enumerate(zip(targets, counts)):
        boxes[index, :count] = torch.from_numpy(target.boxes)
        classes[index, :count] = torch.from_numpy(target.classes)
        if masks is not None and target.masks is not None:
            _, mask_height, mask_width = target.masks.shape
            masks.numpy()[start : start + count, :mask_height, :mask_width] = target.masks
        start += count
    return Targets(boxes, classes, masks, keypoints)
