"""Which ground-truth box each anchor or proposal answers for (Ren et al. 2015, section 3.1.2).

Letters: N images, R reference boxes (anchors or proposals) per image, M ground-truth boxes per image, padded.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from maskray.ops.extension import load_extension

load_extension()

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1


class Match(NamedTuple):
    """For each reference box: its label 1 positive, 0 negative, -1 ignored, and its best ground-truth box."""

    labels: Tensor  # int8
    gt_index: Tensor  # int64 in 0..M-1; 0 where nothing overlaps
    iou: Tensor  # overlap with that box, 0 where nothing overlaps


def match_boxes(
    references: Tensor,
    gt_boxes: Tensor,
    gt_valid: Tensor | None = None,
    *,
    positive_iou: float,
    negative_iou: float,
    force_best: bool,
) -> Match:
    """Label reference boxes by their best overlap with ground truth; results (N, R).

    references (R, 4) for all images or (N, R, 4); gt_boxes (N, M, 4), M may be 0; gt_valid (N, M) bool, all when None.
    One image goes without N: references (R, 4), gt_boxes (M, 4), gt_valid (M,), results (R,).
    Positive at IoU >= positive_iou, negative below negative_iou, else ignored; the thresholds (0..1) are rounded to
    the type of the boxes, float32 for half types. Of equal overlaps the first ground-truth box counts. With
    force_best, every reference that reaches the best overlap of some ground-truth box is positive too, whatever that
    overlap is, unless it is 0; it still answers for its own best box. A box that holds NaN or has no area overlaps
    nothing. The memory needed beside the results grows with N x M, not with R x M. Nothing is differentiable.
    ValueError or TypeError names an argument that is wrong.
    """
    _check(references, gt_boxes, gt_valid, positive_iou, negative_iou)
    dtype = torch.promote_types(torch.promote_types(references.dtype, gt_boxes.dtype), torch.float32)
    single = gt_boxes.dim() == 2
    boxes = (gt_boxes[None] if single else gt_boxes).detach().to(dtype)
    if gt_valid is None:
        valid = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    else:
        valid = gt_valid[None] if single else gt_valid
    results = torch.ops.maskray.match_boxes(
        references.detach().to(dtype), boxes, valid, float(positive_iou), float(negative_iou), bool(force_best)
    )
    return Match(*(result[0] for result in results)) if single else Match(*results)


def _check(
    references: Tensor, gt_boxes: Tensor, gt_valid: Tensor | None, positive_iou: float, negative_iou: float
) -> None:
    for name, tensor in (("references", references), ("gt_boxes", gt_boxes)):
        if tensor.dim() not in (2, 3) or tensor.shape[-1] != 4:
            raise ValueError(f"{name}: expected (..., 4) of two or three dimensions, got {tuple(tensor.shape)}")
        if not tensor.is_floating_point():
            raise TypeError(f"{name}: expected a floating dtype, got {tensor.dtype}")
    if references.dim() == 3 and references.shape[:1] != gt_boxes.shape[:-2]:
        raise ValueError(f"references: {tuple(references.shape)} does not fit gt_boxes {tuple(gt_boxes.shape)}")
    if gt_boxes.device != references.device:
        raise ValueError(f"gt_boxes: on {gt_boxes.device}, references on {references.device}")
    if gt_valid is not None:
        if gt_valid.shape != gt_boxes.shape[:-1]:
            raise ValueError(f"gt_valid: expected {tuple(gt_boxes.shape[:-1])}, got {tuple(gt_valid.shape)}")
        if gt_valid.dtype != torch.bool:
            raise TypeError(f"gt_valid: expected bool, got {gt_valid.dtype}")
        if gt_valid.device != references.device:
            raise ValueError(f"gt_valid: on {gt_valid.device}, references on {references.device}")
    for name, threshold in (("positive_iou", positive_iou), ("negative_iou", negative_iou)):
        if not 0 <= threshold <= 1:
            raise ValueError(f"{name}: expected 0..1, got {threshold}")


@torch.library.register_fake("maskray::match_boxes")
def _fake(
    references: Tensor, gt_boxes: Tensor, gt_valid: Tensor, positive_iou: float, negative_iou: float, force_best: bool
) -> tuple[Tensor, Tensor, Tensor]:
    shape = (gt_boxes.shape[0], references.shape[-2])
    return (
        references.new_empty(shape, dtype=torch.int8),
        references.new_empty(shape, dtype=torch.int64),
        references.new_empty(shape),
    )
