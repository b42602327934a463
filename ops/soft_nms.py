"""Soft non-maximum suppression (Bodla et al. 2017): boxes that overlap a better one lose score."""

from __future__ import annotations

import torch
from torch import Tensor

from maskray.ops.extension import load_extension
from maskray.ops.nms import check_boxes, join_ids

load_extension()

METHODS = ("linear", "gaussian")


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    method: str = "linear",
    score_threshold: float = 0.001,
    class_ids: Tensor | None = None,
    image_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Indices (int64) of the boxes that stay and their new scores, by new score descending, then index.

    boxes (N, 4) x0 y0 x1 y1; scores (N,). The best box is taken, then the score of each other is multiplied by
    1 - IoU with it where that is above `iou_threshold` (linear), or by exp(-IoU^2 / sigma) (gaussian), and so on.
    A box stays while its score is above `score_threshold`, so one whose score is NaN goes; of equal scores the first
    is taken. Ids (N,) as for maskray.ops.nms.batched_nms: only boxes of one class and image lower one another. A box
    that holds NaN or has no area overlaps nothing. Half types are computed in float32, in which scores return. Each
    choice depends on the one before, so input on an accelerator is brought to the CPU and the results back. ValueError
    or TypeError names an argument that is wrong.
    """
    ids = {name: given for name, given in (("class_ids", class_ids), ("image_ids", image_ids)) if given is not None}
    check_boxes(boxes, {"scores": scores}, ids)
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold: expected 0..1, got {iou_threshold}")
    if not sigma > 0:
        raise ValueError(f"sigma: expected a positive number, got {sigma}")
    if method not in METHODS:
        raise ValueError(f"method: expected one of {METHODS}, got {method!r}")
    dtype = torch.promote_types(torch.promote_types(boxes.dtype, scores.dtype), torch.float32)
    groups = torch.zeros(scores.shape, dtype=torch.int64) if class_ids is None else class_ids.cpu()
    order, new_scores = torch.ops.maskray.soft_nms(
        boxes.detach().cpu().to(dtype),
        scores.detach().cpu().to(dtype),
        join_ids(groups, None if image_ids is None else image_ids.cpu()),
        float(iou_threshold),
        float(sigma),
        method == "gaussian",
        float(score_threshold),
    )
    kept = order >= 0
    return order[kept].to(boxes.device), new_scores[kept].to(boxes.device)


@torch.library.register_fake("maskray::soft_nms")
def _fake(
    boxes: Tensor,
    scores: Tensor,
    group_ids: Tensor,
    iou_threshold: float,
    sigma: float,
    gaussian: bool,
    score_threshold: float,
) -> tuple[Tensor, Tensor]:
    return boxes.new_empty((boxes.shape[0],), dtype=torch.int64), boxes.new_empty((boxes.shape[0],))
