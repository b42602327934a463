"""Pastes the small mask of each detection into its box in the image (detectron2's convention of pixel centres).

Letters: D detections, m side of the predicted mask, h w height and width of the image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# The largest intermediate result, in values: 64 MiB in float32.
CHUNK_VALUES = 1 << 24


def paste_masks(masks: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Masks (D, m, m) of probabilities in their boxes (D, 4), in image pixels, as (D, h, w) bool: value >= threshold.

    The image's pixel centres are at +0.5, and so are those of the mask's m x m cells, spread over the box; values
    between are bilinear, outside the mask 0. A box without extent, or not finite, gives an empty mask. The
    intermediate values are bounded: one box at a time on the CPU, chunks elsewhere. Bilinear weights are a product of
    one factor per axis, so each mask is two small matrix products. ValueError when shapes do not agree, threshold <= 0
    or the image has no size.
    """
    _check(masks, boxes, image_size, threshold)
    height, width = image_size
    result = torch.zeros((masks.shape[0], height, width), dtype=torch.bool, device=masks.device)
    if not result.numel():
        return result
    values = masks if masks.dtype == torch.float64 else masks.float()
    places = boxes.to(values.dtype)
    if masks.device.type == "cpu":
        for index in range(masks.shape[0]):
            rows, columns = _reach(places[index].tolist(), masks.shape[1:], image_size)
            pasted = _paste(values[index, None], places[index, None], rows, columns)[0]
            result[index, rows.start : rows.stop, columns.start : columns.stop] = pasted >= threshold
        return result
    # On an accelerator: no look at the boxes, which would stall it, but all pixels of some detections at a time.
    chunk = max(1, CHUNK_VALUES // (height * width + masks.shape[1] * (height + width)))
    for first in range(0, masks.shape[0], chunk):
        part = slice(first, first + chunk)
        result[part] = _paste(values[part], places[part], range(height), range(width)) >= threshold
    return result


def _paste(values: Tensor, boxes: Tensor, rows: range, columns: range) -> Tensor:
    """The pasted values at these pixels, (D, rows, columns)."""
    row_weights = _axis_weights(boxes[:, 1::2], rows, values.shape[1])
    column_weights = _axis_weights(boxes[:, 0::2], columns, values.shape[2])
    return row_weights @ values @ column_weights.transpose(1, 2)


def _reach(box: list[float], cells: torch.Size, image_size: tuple[int, int]) -> tuple[range, range]:
    """Rows and columns of pixels that a mask can touch: its box, and the half cell around it that fades to 0."""
    ranges = []
    for low, high, num_cells, num_pixels in zip(box[1::-1], box[3:1:-1], cells, image_size, strict=True):
        if not high > low or math.isinf(high - low):
            return range(0), range(0)
        margin = (high - low) / num_cells / 2 + 1
        first = math.floor(min(max(low - margin, 0), num_pixels))
        last = math.ceil(min(max(high + margin, 0), num_pixels))
        ranges.append(range(first, last))
    return ranges[0], ranges[1]


def _axis_weights(ends: Tensor, pixels: range, num_cells: int) -> Tensor:
    """How much each cell counts at each pixel of one axis, (D, pixels, num_cells), for box ends (D, 2)."""
    low, high = ends[:, :1], ends[:, 1:]
    centres = torch.arange(pixels.start, pixels.stop, dtype=ends.dtype, device=ends.device) + 0.5
    extent = high - low
    # Without extent (or with NaN or infinity) the position is far outside the mask.
    positions = torch.where((extent > 0) & extent.isfinite(), (centres - low) / extent * num_cells - 0.5, -2.0)
    cells = torch.arange(num_cells, dtype=ends.dtype, device=ends.device)
    return (1 - (positions[:, :, None] - cells).abs()).clamp(min=0)


def _check(masks: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float) -> None:
    if masks.dim() != 3:
        raise ValueError(f"masks: expected (D, m, m), got {tuple(masks.shape)}")
    if boxes.shape != (masks.shape[0], 4):
        raise ValueError(f"boxes: expected ({masks.shape[0]}, 4), got {tuple(boxes.shape)}")
    for name, tensor in (("masks", masks), ("boxes", boxes)):
        if not tensor.is_floating_point():
            raise TypeError(f"{name}: expected a floating dtype, got {tensor.dtype}")
    if boxes.device != masks.device:
        raise ValueError(f"boxes: on {boxes.device}, masks on {masks.device}")
    if len(image_size) != 2 or min(image_size) < 1:
        raise ValueError(f"image_size: expected a positive height and width, got {tuple(image_size)}")
    if not threshold > 0:
        raise ValueError(f"threshold: expected a positive number, got {threshold}")
