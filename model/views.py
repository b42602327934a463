"""Test-time augmentation: one answer from several views of an image, of other sizes and mirrored (paper, appendix B).

As Detectron does it: boxes are those of all views together, then NMS; masks and keypoints are looked for in the boxes
that remain, in every view, as the mean of the masks' probabilities and of the keypoints' heat maps.

Letters: N views of a batch, V views in all, K boxes of a batch, C classes, D detections, P keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maskray.model.boxes.coding import clip_boxes
from maskray.model.detections import select_detections
from maskray.model.heads.keypoint import decode_keypoints
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch, Detections

MOST_HELD_PIXELS = 4_000_000


@dataclass(frozen=True)
class Views:
    """Views of one image that are computed together: a batch of one padded size whose `flipped` is given."""

    batch: Batch

    @property
    def pixels(self) -> int:
        """Of all of them, padding included."""
        return self.batch.images.numel() // 3

    @property
    def mirrored(self) -> Tensor:
        """Which of them are mirror images, (N,) bool."""
        assert self.batch.flipped is not None
        return self.batch.flipped.to(self.batch.images.device)

    def to_image(self, boxes: Tensor, index: Tensor) -> Tensor:
        """Boxes (K, ..., 4) in pixels of views `index` (K,) to pixels of the image, clipped to it."""
        factors, widths, mirrored = self._of(index, boxes.ndim)
        boxes = torch.where(mirrored, _mirror(boxes, widths), boxes) * factors
        return clip_boxes(boxes, self.batch.original_sizes[0].to(boxes.device))

    def from_image(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (D, 4) of the image as seen in every view, (N D, 4) in pixels of it, and the views, (N D,)."""
        count = len(self.batch.images)
        index = torch.arange(count, device=boxes.device).repeat_interleave(len(boxes))
        factors, widths, mirrored = self._of(index, 2)
        seen = boxes.repeat(count, 1) / factors
        return torch.where(mirrored, _mirror(seen, widths), seen), index

    def _of(self, index: Tensor, ndim: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of views `index`: pixels of the image for one of theirs (x y x y), their widths, which are mirrored."""
        shape = (len(index), *(1,) * (ndim - 2))
        sizes = self.batch.image_sizes.to(index.device).float()
        factors = (self.batch.original_sizes.to(index.device).float() / sizes).flip(1).repeat(1, 2)
        widths, mirrored = sizes[:, 1], self.mirrored
        return factors[index].view(*shape, 4), widths[index].view(*shape, 1), mirrored[index].view(*shape, 1)


@torch.no_grad()
def detect_in_views(
    model: MaskRCNN,
    views: Sequence[Views],
    precision: str | None = None,
    keypoint_orders: Tensor | None = None,
    most_held: int = MOST_HELD_PIXELS,
) -> Detections:
    """Detections of one image, boxes in its own pixels, from all the views of it.

    keypoint_orders (C, P) int64 says for objects of each class which keypoint is in the place of each in a mirror
    image; needed where the model has keypoints and a view is mirrored. Maps of views of `most_held` pixels in all stay
    in memory until the boxes are known, 340 bytes a pixel for a pyramid of 256 channels; those of more views are
    computed a second time then. ValueError without views, and as MaskRCNN.detect().
    """
    if not views:
        raise ValueError("an image without views: give at least one")
    heads = model.roi_heads
    looks_again = heads.mask_head is not None or heads.keypoint_head is not None
    with model.inferring(views[0].batch.images.device.type, precision):
        held: dict[int, list[Tensor]] = {}
        boxes, scores = [], []
        for number, group in enumerate(views):
            features, proposals = model.find_proposals(group.batch)
            scored = heads.score(features, proposals, group.batch.image_sizes)
            most_held -= group.pixels
            if (
                looks_again and most_held >= 0
            ):  # a copy: those of another runtime lie where it writes those of the next views
                held[number] = [level.clone() for level in features]
            boxes.append(group.to_image(scored.boxes, scored.image_index))
            scores.append(scored.scores)
        index = torch.zeros(sum(map(len, boxes)), dtype=torch.int64, device=boxes[0].device)
        found = select_detections(torch.cat(scores), torch.cat(boxes), index, heads.inference)
        masks, heat_maps = [], []
        for number, group in enumerate(views if looks_again else ()):
            features = held.pop(number) if number in held else model.features(group.batch)
            if heads.mask_head is not None:
                masks.append(_masks(model, group, features, found))
            if heads.keypoint_head is not None:
                heat_maps.append(_heat_maps(model, group, features, found, keypoint_orders))
        if masks:
            found.masks = _mean(masks, views)
        if heat_maps:
            found.keypoints = decode_keypoints(_mean(heat_maps, views), found.boxes, heads.keypoint_config.score)
    return found


def _masks(model: MaskRCNN, views: Views, features: list[Tensor], found: Detections) -> Tensor:
    """Sum over the views of the probabilities (D, m, m) of the masks, as the image itself would show them."""
    boxes, index = views.from_image(found.boxes)
    classes = found.classes.repeat(len(views.mirrored))
    masks = model.roi_heads.find_masks(features, boxes, index, classes)
    masks = torch.where(views.mirrored[index][:, None, None], masks.flip(-1), masks)
    return masks.unflatten(0, (len(views.mirrored), len(found.boxes))).sum(dim=0)


def _heat_maps(
    model: MaskRCNN, views: Views, features: list[Tensor], found: Detections, orders: Tensor | None
) -> Tensor:
    """Sum over the views of the logits (D, P, m, m) of the keypoints, as the image itself would show them."""
    boxes, index = views.from_image(found.boxes)
    maps = model.roi_heads.heat_maps(features, boxes, index)
    if bool(views.mirrored.any()):
        if orders is None:
            raise ValueError("keypoints in a mirror image: keypoint_orders says which change places")
        order = orders.to(maps.device)[found.classes].repeat(len(views.mirrored), 1)
        mirrored = maps.gather(1, order[:, :, None, None].expand_as(maps)).flip(-1)
        maps = torch.where(views.mirrored[index][:, None, None, None], mirrored, maps)
    return maps.unflatten(0, (len(views.mirrored), len(found.boxes))).sum(dim=0)


def _mean(sums: list[Tensor], views: Sequence[Views]) -> Tensor:
    """Mean over all views of the sums over those of each group."""
    return torch.stack(sums).sum(dim=0) / sum(len(group.mirrored) for group in views)


def _mirror(boxes: Tensor, widths: Tensor) -> Tensor:
    """Boxes (..., 4) mirrored in images of widths (..., 1)."""
    x0, y0, x1, y1 = boxes.split(1, dim=-1)
    return torch.cat([widths - x1, y0, widths - x0, y1], dim=-1)
