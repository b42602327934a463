"""Ground truth of one image at network size: made of its annotations, cut, mirrored and turned with the image.

Letters: M objects of one image, K keypoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.model.config import KeypointHeadConfig
from maskray.model.outlines import Outlines
from maskray.platform.data import outlines as outline_moves
from maskray.platform.data.keypoints import flip_keypoints, read_keypoints
from maskray.platform.data.transforms import flip_boxes


@dataclass
class ImageTargets:
    """Ground truth of one image at network size, in its pixels.

    boxes (M, 4) float32, classes (M,) int64, masks of M outlines of a size (h, w), keypoints (M, K, 3) float32 x y
    visibility, has_mask (M,) bool or None where every object has a mask to learn.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    masks: Outlines | None = None
    keypoints: NDArray[np.float32] | None = None
    has_mask: NDArray[np.bool_] | None = None

    @property
    def masked(self) -> NDArray[np.bool_]:
        """Which objects have a mask, (M,)."""
        if self.masks is None:
            return np.zeros(len(self.classes), dtype=bool)
        return np.ones(len(self.classes), dtype=bool) if self.has_mask is None else self.has_mask

    def select(self, index: NDArray[np.int64]) -> ImageTargets:
        """The objects of an index (S,), in its order."""
        return ImageTargets(
            self.boxes[index],
            self.classes[index],
            None if self.masks is None else self.masks.select(index.tolist()),
            None if self.keypoints is None else self.keypoints[index],
            None if self.has_mask is None else self.has_mask[index],
        )


def build_targets(
    annotations: Sequence[Mapping[str, Any]],
    original_size: tuple[int, int],
    size: tuple[int, int],
    class_indices: Mapping[int, int],
    min_box_pixels: float = 0.0,
    masks: bool = True,
    keypoints: KeypointHeadConfig | None = None,
    masks_optional: bool = False,
) -> ImageTargets:
    """COCO annotations of one image as targets at network size; sizes are (height, width) in pixels.

    Boxes come from the annotated bbox, scaled and clipped; an object whose box has a side that is zero or below
    min_box_pixels is dropped, and so are crowd regions. keypoints is the head that wants them. ValueError naming the
    annotation where masks are wanted and one has no segmentation (unless they are optional: has_mask then says which
    have one), or that has another number of keypoints.
    """
    height, width = size
    scale_y, scale_x = height / original_size[0], width / original_size[1]
    kept = [annotation for annotation in annotations if not annotation.get("iscrowd", 0)]
    boxes = np.array([annotation["bbox"] for annotation in kept], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    boxes *= (scale_x, scale_y, scale_x, scale_y)
    boxes = boxes.clip(0, (width, height, width, height))
    large = _large_enough(boxes, min_box_pixels)
    kept = [annotation for annotation, keep in zip(kept, large) if keep]
    classes = np.array([class_indices[annotation["category_id"]] for annotation in kept], dtype=np.int64)
    targets = ImageTargets(boxes[large].astype(np.float32), classes)
    if masks:
        targets.masks = outline_moves.read_outlines(kept, original_size, size, masks_optional)
        if masks_optional:
            targets.has_mask = np.array([bool(annotation.get("segmentation")) for annotation in kept], dtype=bool)
    if keypoints is not None:
        targets.keypoints = read_keypoints(kept, keypoints, (scale_x, scale_y))
    return targets


def mirror(targets: ImageTargets, width: int, orders: Sequence[NDArray[np.int64]]) -> ImageTargets:
    """Targets of the image with its columns in reverse order; orders of keypoints as flip_keypoints has them."""
    keypoints = targets.keypoints
    return ImageTargets(
        flip_boxes(targets.boxes, width),
        targets.classes,
        None if targets.masks is None else outline_moves.mirror(targets.masks),
        None if keypoints is None else flip_keypoints(keypoints, width, orders),
        targets.has_mask,
    )


def turn_upside_down(targets: ImageTargets, height: int, orders: Sequence[NDArray[np.int64]]) -> ImageTargets:
    """Targets of the image with its rows in reverse order: a mirror image too, in which keypoints change places."""
    keypoints = targets.keypoints
    if keypoints is not None:
        keypoints = flip_keypoints(keypoints[..., [1, 0, 2]], height, orders)[..., [1, 0, 2]]
    return ImageTargets(
        flip_boxes(targets.boxes[:, [1, 0, 3, 2]], height)[:, [1, 0, 3, 2]],
        targets.classes,
        None if targets.masks is None else outline_moves.turn_upside_down(targets.masks),
        keypoints,
        targets.has_mask,
    )


def turn(targets: ImageTargets, size: tuple[int, int]) -> ImageTargets:
    """Targets of the image of a size (height, width) after a quarter turn against the clock, as numpy.rot90 turns."""
    width = size[1]
    x0, y0, x1, y1 = targets.boxes.T
    keypoints = targets.keypoints
    if keypoints is not None:
        x, y, visibility = np.moveaxis(keypoints, 2, 0)
        keypoints = np.stack([y, np.where(visibility > 0, width - x, 0), visibility], axis=2)
    return ImageTargets(
        np.stack([y0, width - x1, y1, width - x0], axis=1),
        targets.classes,
        None if targets.masks is None else outline_moves.turn_upside_down(outline_moves.transpose(targets.masks)),
        keypoints,
        targets.has_mask,
    )


def cut(
    targets: ImageTargets, top: int, left: int, size: tuple[int, int], min_visible: float, min_box_pixels: float
) -> ImageTargets:
    """Targets of the part of an image that begins at a row and a column, of a size (height, width).

    An object whose box is cut gets the box of what is left of its mask, where it has one. It is dropped where less
    than a share min_visible of the mask (of the box, without one) is left, nothing, or a side below min_box_pixels.
    Keypoints beyond the part are not labelled any more.
    """
    height, width = size
    moved = targets.boxes - np.array([left, top, left, top], dtype=np.float32)
    boxes = moved.clip(0, np.array([width, height, width, height], dtype=np.float32))
    touched = np.flatnonzero((boxes != moved).any(axis=1))
    visible = np.ones(len(boxes))
    visible[touched] = _areas(boxes[touched]) / np.maximum(_areas(moved[touched]), 1e-9)
    drawn = touched[targets.masked[touched]]
    windows = box_windows(targets.boxes[drawn])
    for g, window, mask in zip(drawn, windows, draw(targets.masks, drawn, windows)):
        row, column = window[0] - top, window[1] - left
        part = mask[max(0, -row) : max(0, height - row), max(0, -column) : max(0, width - column)]
        visible[g] = part.sum() / max(1, int(mask.sum()))
        boxes[g] = shrink(boxes[g], part, (max(row, 0), max(column, 0)))
    kept = _large_enough(boxes, min_box_pixels) & (visible >= min_visible)
    moved_targets = ImageTargets(
        boxes,
        targets.classes,
        None if targets.masks is None else outline_moves.cut(targets.masks, top, left, size),
        _cut_keypoints(targets.keypoints, top, left, size),
        targets.has_mask,
    )
    return moved_targets if kept.all() else moved_targets.select(np.flatnonzero(kept))


def box_windows(boxes: NDArray[np.float32]) -> NDArray[np.int64]:
    """Whole pixels around boxes (S, 4) and one more on each side: top, left, height, width (S, 4)."""
    low, high = np.floor(boxes[:, :2]).astype(np.int64) - 1, np.ceil(boxes[:, 2:]).astype(np.int64) + 1
    return np.concatenate([low[:, ::-1], (high - low)[:, ::-1]], axis=1)


def draw(masks: Outlines | None, index: NDArray[np.int64], windows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
    """The masks of objects in windows of their image, none where there are no masks."""
    if masks is None or len(index) == 0:
        return []
    return [mask.numpy() for mask in masks.draw(index.tolist(), windows.tolist())]


def shrink(box: NDArray[np.float32], mask: NDArray[np.uint8], corner: tuple[int, int]) -> NDArray[np.float32]:
    """What a box and the box of a mask, which begins at a row and a column, have in common; no area where nothing."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return np.zeros(4, dtype=np.float32)
    top, left = corner
    low = np.maximum(box[:2], np.array([columns[0] + left, rows[0] + top], dtype=np.float32))
    high = np.minimum(box[2:], np.array([columns[-1] + 1 + left, rows[-1] + 1 + top], dtype=np.float32))
    return np.concatenate([low, high])


def _cut_keypoints(
    keypoints: NDArray[np.float32] | None, top: int, left: int, size: tuple[int, int]
) -> NDArray[np.float32] | None:
    if keypoints is None:
        return None
    moved = keypoints - np.array([left, top, 0], dtype=np.float32)
    inside = (moved[..., 2] > 0) & (moved[..., :2] >= 0).all(axis=2) & (moved[..., :2] <= size[::-1]).all(axis=2)
    return np.where(inside[..., None], moved, np.float32(0))


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    return (boxes[:, 2:] - boxes[:, :2]).clip(0).astype(np.float64).prod(axis=1)


def _large_enough(boxes: NDArray[np.floating[Any]], min_box_pixels: float) -> NDArray[np.bool_]:
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
    return (sides > 0) & (sides >= min_box_pixels)
