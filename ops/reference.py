"""What each operator computes, written in plain PyTorch as its definition reads: slow, and what tests compare with.

Letters: K boxes, N images, C channels, H W height and width of the feature map, h w of the pooled map, D detections.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def roi_align(
    features: Tensor,
    boxes: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """As maskray.ops.roi_align.roi_align with boxes (K, 5), differentiable by autograd through every sample."""
    height, width = output_size
    pooled = [features.new_zeros((0, features.shape[1], height, width))]
    for box in boxes:
        columns = _sample_positions(box[1], box[3], width, spatial_scale, sampling_ratio, aligned)
        rows = _sample_positions(box[2], box[4], height, spatial_scale, sampling_ratio, aligned)
        if rows is None or columns is None:
            pooled.append(features.new_zeros((1, features.shape[1], height, width)))
            continue
        row_weights = _linear_weights(rows.flatten(), features.shape[2])
        column_weights = _linear_weights(columns.flatten(), features.shape[3])
        samples = row_weights @ features[int(box[0])] @ column_weights.T
        samples = samples.reshape(-1, height, rows.shape[1], width, columns.shape[1])
        reduced = samples.mean((2, 4)) if reduction == "mean" else samples.amax((2, 4))
        pooled.append(reduced[None])
    return torch.cat(pooled)


def _sample_positions(
    low: Tensor, high: Tensor, num_bins: int, scale: float, sampling_ratio: int, aligned: bool
) -> Tensor | None:
    """Positions (bins, samples per bin) of one axis, cell i at position i; None for a box without extent."""
    offset = 0.5 if aligned else 0.0
    start = low * scale - offset
    size = high * scale - offset - start
    if not aligned:
        size = size.clamp(min=1)
    if not (torch.isfinite(start) and torch.isfinite(size) and size > 0):
        return None
    bin_size = size / num_bins
    num_samples = sampling_ratio if sampling_ratio > 0 else math.ceil(bin_size)
    bins = torch.arange(num_bins, dtype=low.dtype)[:, None]
    samples = torch.arange(num_samples, dtype=low.dtype)[None]
    return start + bins * bin_size + (samples + 0.5) * bin_size / num_samples


def _linear_weights(positions: Tensor, extent: int) -> Tensor:
    """The weight of each cell for each position, (positions, extent): 0 when more than a cell outside the map."""
    inside = (positions >= -1) & (positions <= extent)
    clamped = positions.clamp(0, extent - 1)
    distance = (clamped[:, None] - torch.arange(extent, dtype=positions.dtype)).abs()
    return (1 - distance).clamp(min=0) * inside[:, None]


def roi_pool(features: Tensor, boxes: Tensor, output_size: tuple[int, int], spatial_scale: float = 1.0) -> Tensor:
    """As maskray.ops.roi_pool.roi_pool with boxes (K, 5), differentiable by autograd."""
    height, width = output_size
    pooled = []
    for box in boxes:
        rows = _bin_cells(box[2], box[4], height, spatial_scale, features.shape[2])
        columns = _bin_cells(box[1], box[3], width, spatial_scale, features.shape[3])
        for top, bottom in rows:
            for left, right in columns:
                cells = features[int(box[0]), :, top:bottom, left:right]
                pooled.append(cells.flatten(1).amax(1) if cells.numel() else features.new_zeros(features.shape[1]))
    if not pooled:
        return features.new_zeros((0, features.shape[1], height, width))
    return torch.stack(pooled).reshape(-1, height, width, features.shape[1]).permute(0, 3, 1, 2)


def _bin_cells(low: Tensor, high: Tensor, num_bins: int, scale: float, extent: int) -> list[tuple[int, int]]:
    """First and one past the last cell of each bin of one axis."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return [(0, 0)] * num_bins
    start, end = (int(math.copysign(math.floor(abs(float(x * scale)) + 0.5), x)) for x in (low, high))
    bin_size = torch.tensor(max(end - start + 1, 1), dtype=low.dtype) / num_bins
    ends = [(math.floor(i * bin_size) + start, math.ceil((i + 1) * bin_size) + start) for i in range(num_bins)]
    return [(min(max(first, 0), extent), min(max(last, 0), extent)) for first, last in ends]


def batched_nms(boxes: Tensor, scores: Tensor, class_ids: Tensor, iou_threshold: float) -> Tensor:
    """As maskray.ops.nms.batched_nms: box after box, compared with all that stayed."""
    ranks = [-math.inf if math.isnan(score) else score for score in scores.tolist()]
    kept: list[int] = []
    for index in sorted(range(len(ranks)), key=lambda i: (-ranks[i], i)):
        same_class = [other for other in kept if class_ids[other] == class_ids[index]]
        if not any(float(box_iou(boxes[other], boxes[index])) > iou_threshold for other in same_class):
            kept.append(index)
    return torch.tensor(kept, dtype=torch.int64)


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """The IoU of boxes (..., 4) x0 y0 x1 y1 that broadcast, as nms, soft_nms and match_boxes all take it.

    A side below 0 counts as 0. The IoU is 0 where the union is not above 0: two boxes without area, or a union that is
    NaN, as it is when a number of a box is NaN or the intersection is infinite.
    """
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    intersection = sides.clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - intersection
    return torch.where(union > 0, intersection / union, 0.0)


def paste_masks(masks: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """The values (D, h, w) that maskray.ops.paste_masks.paste_masks compares with its threshold."""
    height, width = image_size
    result = masks.new_zeros((masks.shape[0], height, width))
    for mask, box, out in zip(masks, boxes, result, strict=True):
        x0, y0, x1, y1 = box.tolist()
        if not (x1 > x0 and y1 > y0):
            continue
        padded = torch.nn.functional.pad(mask, (1, 1, 1, 1))
        for y in range(height):
            for x in range(width):
                # Position among the cells of the padded mask, whose cell 1 is cell 0 of the mask.
                row = (y + 0.5 - y0) / (y1 - y0) * mask.shape[0] + 0.5
                column = (x + 0.5 - x0) / (x1 - x0) * mask.shape[1] + 0.5
                if 0 <= row < mask.shape[0] + 1 and 0 <= column < mask.shape[1] + 1:
                    out[y, x] = _bilinear(padded, row, column)
    return result


def _bilinear(values: Tensor, row: float, column: float) -> Tensor:
    top, left = int(row), int(column)
    down, across = row - top, column - left
    upper = values[top, left] * (1 - across) + values[top, left + 1] * across
    lower = values[top + 1, left] * (1 - across) + values[top + 1, left + 1] * across
    return upper * (1 - down) + lower * down


def match_boxes(
    references: Tensor, gt_boxes: Tensor, positive_iou: float, negative_iou: float, force_best: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """As maskray.ops.match_boxes.match_boxes for one image with M >= 1 boxes, from the overlaps of all pairs."""
    overlaps = box_iou(references[:, None], gt_boxes)
    iou, gt_index = overlaps.max(dim=1)
    labels = torch.full_like(gt_index, -1, dtype=torch.int8)
    labels[iou < negative_iou] = 0
    labels[iou >= positive_iou] = 1
    if force_best:
        labels[((overlaps == overlaps.amax(dim=0)) & (overlaps > 0)).any(dim=1)] = 1
    return labels, gt_index, iou


def multi_level_roi_align(
    features: list[Tensor],
    boxes: Tensor,
    levels: Tensor,
    output_size: tuple[int, int],
    spatial_scales: list[float],
    sampling_ratio: int = 0,
    aligned: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """As maskray.ops.roi_align.multi_level_roi_align: box after box, each from its own level."""
    pooled = [features[0].new_zeros((0, features[0].shape[1], *output_size))]
    for box, level in zip(boxes, levels.tolist(), strict=True):
        settings = (output_size, spatial_scales[level], sampling_ratio, aligned, reduction)
        pooled.append(roi_align(features[level], box[None], *settings))
    return torch.cat(pooled)


def roi_warp(
    features: Tensor,
    boxes: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    reduction: str = "mean",
) -> Tensor:
    """As maskray.ops.roi_warp.roi_warp with boxes (K, 5): bilinear samples of a box rounded to whole cells."""
    pooled = [features.new_zeros((0, features.shape[1], *output_size))]
    for box in boxes:
        sides = [_cell_sides(box[i], box[i + 2], spatial_scale) for i in (1, 2)]
        (left, right), (top, bottom) = sides
        cells = torch.tensor([[float(box[0]), left, top, right, bottom]], dtype=boxes.dtype)
        pooled.append(roi_align(features, cells, output_size, 1.0, sampling_ratio, True, reduction))
    return torch.cat(pooled)


def _cell_sides(low: Tensor, high: Tensor, scale: float) -> tuple[float, float]:
    """First edge and last edge of the cells of one axis; NaN for a box that is not finite."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return math.nan, math.nan
    start, end = (math.copysign(math.floor(abs(float(x * scale)) + 0.5), x) for x in (low, high))
    return start, start + max(end - start + 1, 1)


def soft_nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, sigma: float, method: str, score_threshold: float
) -> tuple[Tensor, Tensor]:
    """As maskray.ops.soft_nms.soft_nms, for scores without NaN."""
    current = scores.clone()
    left = [i for i in range(len(boxes)) if float(scores[i]) > score_threshold]
    kept: list[int] = []
    while left:
        best = max(left, key=lambda i: (float(current[i]), -i))
        kept.append(best)
        left.remove(best)
        for i in left:
            iou = box_iou(boxes[best], boxes[i])
            if method == "gaussian":
                current[i] *= torch.exp(-(iou * iou) / sigma)
            elif float(iou) > iou_threshold:
                current[i] *= 1 - iou
        left = [i for i in left if float(current[i]) > score_threshold]
    return torch.tensor(kept, dtype=torch.int64), current[kept]
