"""Copy-paste of instance masks: objects of one image put on another, which they hide in part or whole.

Source: Ghiasi et al. 2021, Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from maskray.model.outlines import Outlines
from maskray.platform.data.targets import ImageTargets, box_windows, cut, draw, shrink
from maskray.platform.data.transforms import Resized


def paste_objects(
    below: tuple[Resized, ImageTargets],
    above: tuple[Resized, ImageTargets],
    generator: np.random.Generator,
    min_visible: float,
    min_box_pixels: float,
) -> tuple[Resized, ImageTargets]:
    """The image `below` with a random subset of the objects of `above` on it, upper left corners one on the other.

    Both images are at network size; what is beyond this one is cut off. Only objects that have a mask are pasted.
    Masks and boxes of what they hide become those of what is left; an object of which less than a share min_visible of
    its mask is left (of its box, without one), or nothing, is dropped. Labelled keypoints under what is pasted are
    hidden ones. Without the paper's blending of edges, which it found not to matter.
    """
    (image, targets), (other, of_other) = below, above
    height, width = image.shape[:2]
    common = (min(height, other.shape[0]), min(width, other.shape[1]))
    fitting = cut(of_other, 0, 0, common, min_visible, min_box_pixels)
    candidates = np.flatnonzero(fitting.masked)
    if len(candidates) == 0:
        return image, targets
    number = int(generator.integers(1, len(candidates) + 1))
    pasted = fitting.select(np.sort(generator.permutation(candidates)[:number]))
    cover = np.zeros((height, width), dtype=bool)
    windows = _inside(box_windows(pasted.boxes), height, width)
    masks = draw(pasted.masks, np.arange(number), windows)
    for (top, left, rows, columns), mask in zip(windows, masks):
        cover[top : top + rows, left : left + columns] |= mask.astype(bool)
    pasted.masks = _outlines(masks, windows, (height, width))
    composed = image.copy()
    part = (slice(common[0]), slice(common[1]))
    np.copyto(composed[part], other[part], where=cover[part][..., None])
    return composed, _joined(_hidden(targets, cover, min_visible, min_box_pixels), pasted, (height, width))


def _hidden(targets: ImageTargets, cover: NDArray[np.bool_], min_visible: float, min_box_pixels: float) -> ImageTargets:
    """What is left of targets under a cover (h, w); untouched objects stay as they are, outline and box."""
    size = (cover.shape[0], cover.shape[1])
    windows = _inside(box_windows(targets.boxes), *size)
    parts = [cover[top : top + rows, left : left + columns] for top, left, rows, columns in windows]
    touched = np.flatnonzero([part.any() for part in parts])
    boxes, visible = targets.boxes.copy(), np.ones(len(targets.boxes))
    masked = targets.masked
    left_over: dict[int, NDArray[np.uint8]] = {}
    drawn = touched[masked[touched]]
    for g, mask in zip(drawn.tolist(), draw(targets.masks, drawn, windows[drawn])):
        rest = mask & ~parts[g]
        if (rest != mask).any():
            visible[g] = rest.sum() / mask.sum()
            boxes[g] = shrink(boxes[g], rest, (int(windows[g][0]), int(windows[g][1])))
            left_over[g] = rest
    for g in touched[~masked[touched]]:
        visible[g] = 1 - parts[g].mean()
    kept = (visible >= min_visible) & (visible > 0) & ((boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= min_box_pixels)
    changed = ImageTargets(boxes, targets.classes, targets.masks, _covered(targets.keypoints, cover), targets.has_mask)
    if changed.masks is not None and left_over:
        changed.masks = _replaced(changed.masks, left_over, windows, size)
    return changed if kept.all() else changed.select(np.flatnonzero(kept))


def _replaced(
    masks: Outlines, changed: dict[int, NDArray[np.uint8]], windows: NDArray[np.int64], size: tuple[int, int]
) -> Outlines:
    new = _outlines(list(changed.values()), windows[list(changed)], size)
    places = {g: len(masks) + i for i, g in enumerate(changed)}
    return Outlines.join([masks, new], size).select([places.get(g, g) for g in range(len(masks))])


def _outlines(masks: Sequence[NDArray[np.uint8]], windows: NDArray[np.int64], size: tuple[int, int]) -> Outlines:
    corners = [(top, left) for top, left, _, _ in windows.tolist()]
    return Outlines.from_windows([torch.from_numpy(mask) for mask in masks], corners, size)


def _covered(keypoints: NDArray[np.float32] | None, cover: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """Visible keypoints under a cover become hidden ones."""
    if keypoints is None:
        return None
    x, y, visibility = np.moveaxis(keypoints, 2, 0)
    rows = np.floor(y).astype(np.int64).clip(0, cover.shape[0] - 1)
    columns = np.floor(x).astype(np.int64).clip(0, cover.shape[1] - 1)
    return np.stack([x, y, np.where(cover[rows, columns], np.minimum(visibility, 1), visibility)], axis=2)


def _joined(below: ImageTargets, above: ImageTargets, size: tuple[int, int]) -> ImageTargets:
    joined = ImageTargets(np.concatenate([below.boxes, above.boxes]), np.concatenate([below.classes, above.classes]))
    if below.masks is not None and above.masks is not None:
        joined.masks = Outlines.join([below.masks, above.masks], size)
        if below.has_mask is not None or above.has_mask is not None:
            joined.has_mask = np.concatenate([below.masked, above.masked])
    if below.keypoints is not None and above.keypoints is not None:
        joined.keypoints = np.concatenate([below.keypoints, above.keypoints])
    return joined


def _inside(windows: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
    """Windows clipped to an image."""
    low = windows[:, :2].clip(0, (height, width))
    high = (windows[:, :2] + windows[:, 2:]).clip(0, (height, width))
    return np.concatenate([low, high - low], axis=1)
