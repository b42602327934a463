"""Which ground-truth box each anchor or proposal answers for (Ren et al. 2015, section 3.1.2).

Letters: N images, R reference boxes (anchors or proposals) per image, M ground-truth boxes per image, padded.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from maskray.model.boxes.coding import box_iou

# Overlaps held at once: about 4 tensors of 16 MiB in float32. The full N x R x M is gigabytes for crowded images.
MAX_OVERLAPS = 4 * 1024 * 1024

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1


class Match(NamedTuple):
    """For each reference box, (N, R): its label 1 positive, 0 negative, -1 ignored, and its best ground-truth box."""

    labels: Tensor  # int8
    gt_index: Tensor  # int64 in 0..M-1; 0 where nothing overlaps


def match_boxes(
    references: Tensor,
    gt_boxes: Tensor,
    gt_valid: Tensor,
    *,
    positive_iou: float,
    negative_iou: float,
    force_best: bool,
    max_overlaps: int = MAX_OVERLAPS,
) -> Match:
    """Label reference boxes by their best overlap with ground truth.

    references (R, 4) for all images or (N, R, 4); gt_boxes (N, M, 4), M >= 1; gt_valid (N, M) bool.
    Positive at IoU >= positive_iou, negative below negative_iou, else ignored. With force_best, every reference that
    reaches the best overlap of some ground-truth box is positive too, whatever that overlap is, unless it is 0; it
    still answers for its own best box. Overlaps are computed in chunks of at most `max_overlaps`.
    """
    num_images, num_gt = gt_valid.shape
    chunk = max(1, max_overlaps // max(1, num_images * num_gt))
    parts = [_best_of_references(part, gt_boxes, gt_valid) for part in references.split(chunk, dim=-2)]
    best_iou = torch.cat([part[0] for part in parts], dim=1)
    gt_index = torch.cat([part[1] for part in parts], dim=1)
    labels = torch.full_like(gt_index, IGNORED, dtype=torch.int8)
    labels[best_iou < negative_iou] = NEGATIVE
    labels[best_iou >= positive_iou] = POSITIVE
    if force_best:
        best_of_gt = torch.stack([part[2] for part in parts]).amax(dim=0)
        forced = [_reaches(part, gt_boxes, gt_valid, best_of_gt) for part in references.split(chunk, dim=-2)]
        labels[torch.cat(forced, dim=1)] = POSITIVE
    return Match(labels, gt_index)


def _overlaps(references: Tensor, gt_boxes: Tensor, gt_valid: Tensor) -> Tensor:
    """IoU (N, R, M), 0 at padded ground truth."""
    return box_iou(references, gt_boxes) * gt_valid[:, None, :]


def _best_of_references(references: Tensor, gt_boxes: Tensor, gt_valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Best IoU and ground-truth index of every reference (N, R), best IoU of every ground-truth box (N, M)."""
    overlaps = _overlaps(references, gt_boxes, gt_valid)
    best_iou, gt_index = overlaps.max(dim=2)
    return best_iou, gt_index, overlaps.amax(dim=1)


def _reaches(references: Tensor, gt_boxes: Tensor, gt_valid: Tensor, best_of_gt: Tensor) -> Tensor:
    """Which references (N, R) have the best overlap of some ground-truth box; the same arithmetic, so == is exact."""
    overlaps = _overlaps(references, gt_boxes, gt_valid)
    return ((overlaps == best_of_gt[:, None, :]) & (overlaps > 0)).any(dim=2)
