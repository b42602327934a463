"""Greedy non-maximum suppression, of all boxes or of each class by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from maskray.ops.extension import load_extension

load_extension()


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices (int64) of the boxes that stay, by score descending, then index.

    boxes (N, 4) x0 y0 x1 y1; scores (N,). A box goes when its IoU with a box that stays and comes before it is above
    `iou_threshold` (0..1). A box without area, with a side below 0 or with a NaN overlaps nothing, so it stays;
    a NaN score ranks as minus infinity. Half types are computed in float32. ValueError or TypeError names an argument
    that is wrong.
    """
    class_ids = torch.zeros(scores.shape, dtype=torch.int64, device=scores.device)
    return batched_nms(boxes, scores, class_ids, iou_threshold)


def batched_nms(
    boxes: Tensor, scores: Tensor, class_ids: Tensor, iou_threshold: float, image_ids: Tensor | None = None
) -> Tensor:
    """As `nms`, but only boxes of equal class id (N,) and, where given, equal image id (N,) suppress one another.

    Class ids are any integers; beside image ids both are within int32. The kernel compares the ids themselves: boxes
    are not moved apart, so their coordinates keep their precision, and there is no loop over classes or images.
    """
    order, keep = _suppress(boxes, scores, class_ids, iou_threshold, image_ids)
    return order[keep[order]]


def batched_nms_mask(
    boxes: Tensor, scores: Tensor, class_ids: Tensor, iou_threshold: float, image_ids: Tensor | None = None
) -> Tensor:
    """Whether each box is among those of `batched_nms`, bool (N,): an accelerator goes on without waiting for it."""
    return _suppress(boxes, scores, class_ids, iou_threshold, image_ids)[1]


def _suppress(
    boxes: Tensor, scores: Tensor, class_ids: Tensor, iou_threshold: float, image_ids: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Indices of the boxes by score, and whether each box stays."""
    check_boxes(
        boxes, {"scores": scores}, {"class_ids": class_ids} | ({} if image_ids is None else {"image_ids": image_ids})
    )
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold: expected 0..1, got {iou_threshold}")
    ranks = torch.where(scores.isnan(), -torch.inf, scores)
    by_score = torch.sort(ranks, descending=True, stable=True).indices
    computed = boxes if boxes.dtype == torch.float64 else boxes.float()
    groups = join_ids(class_ids, image_ids)
    order = by_score
    if needs_sorted_groups(boxes.device):
        order = by_score[torch.sort(groups[by_score], stable=True).indices]
    keep = torch.ops.maskray.nms_keep(computed[order], groups[order], float(iou_threshold))
    return by_score, torch.empty_like(keep).scatter(0, order, keep)


def needs_sorted_groups(device: torch.device) -> bool:
    """Whether the boxes of a group must lie together, ids ascending: a block of CUDA takes a group."""
    return device.type != "cpu"


def join_ids(class_ids: Tensor, image_ids: Tensor | None) -> Tensor:
    """One int64 id for each pair of class and image; ValueError for ids beyond int32 where both are given."""
    classes = class_ids.long()
    if image_ids is None:
        return classes
    images = image_ids.long()
    check_ids(class_ids=classes, image_ids=images)
    return (images << 32) | (classes & 0xFFFFFFFF)


def check_ids(**named: Tensor) -> None:
    """ValueError for ids beyond int32; not on an accelerator, nor while being traced."""
    for name, ids in named.items():
        if ids.device.type != "cpu" or torch.compiler.is_compiling():
            return
        if ((ids < -(2**31)) | (ids >= 2**31)).any():
            raise ValueError(f"{name}: expected within int32 where both ids are given")


def check_boxes(boxes: Tensor, values: dict[str, Tensor], ids: dict[str, Tensor]) -> None:
    """TypeError or ValueError that names what does not fit boxes (N, 4): floating values (N,) or integer ids (N,)."""
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: expected (N, 4), got {tuple(boxes.shape)}")
    for name, tensor in (values | ids).items():
        if tensor.shape != boxes.shape[:1]:
            raise ValueError(f"{name}: expected ({boxes.shape[0]},), got {tuple(tensor.shape)}")
        if tensor.device != boxes.device:
            raise ValueError(f"{name}: on {tensor.device}, boxes on {boxes.device}")
    for name, tensor in ({"boxes": boxes} | values).items():
        if not tensor.is_floating_point():
            raise TypeError(f"{name}: expected a floating dtype, got {tensor.dtype}")
    for name, tensor in ids.items():
        if tensor.is_floating_point() or tensor.dtype == torch.bool:
            raise TypeError(f"{name}: expected an integer dtype, got {tensor.dtype}")


@torch.library.register_fake("maskray::nms_keep")
def _fake(boxes: Tensor, class_ids: Tensor, iou_threshold: float) -> Tensor:
    return boxes.new_empty((boxes.shape[0],), dtype=torch.bool)
