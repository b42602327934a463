"""Pastes the small mask of each detection into its box in the image (detectron2's convention of pixel centres).

Letters: D detections, m side of the predicted mask, h w height and width of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maskray.ops.extension import load_extension

load_extension()

# The largest intermediate result, in values: 64 MiB in float32.
CHUNK_VALUES = 1 << 24


def paste_masks(masks: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Masks (D, m, m) of probabilities in their boxes (D, 4), in image pixels, as (D, h, w) bool: value >= threshold.

    The image's pixel centres are at +0.5, and so are those of the mask's m x m cells, spread over the box; values
    between are bilinear, outside the mask 0. A box without extent, or not finite, gives an empty mask; NaN in a mask
    is below any threshold at the pixels next to its cell. The kernel on the CPU holds the pixels of no mask but the
    result; on an accelerator the values are computed for a bounded number of pixels at a time, where each mask is two
    small matrix products. ValueError when shapes do not agree, threshold <= 0 or the image has no size.
    """
    check_pasting(masks, boxes, image_size, threshold)
    height, width = image_size
    values = masks if masks.dtype == torch.float64 else masks.float()
    places = boxes.to(values.dtype)
    if masks.device.type == "cpu":
        return torch.ops.maskray.paste_masks(values, places, height, width, float(threshold))
    # No look at the boxes, which would stall the accelerator, but all pixels of some detections at a time.
    result = torch.zeros((masks.shape[0], height, width), dtype=torch.bool, device=masks.device)
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


def _axis_weights(ends: Tensor, pixels: range, num_cells: int) -> Tensor:
    """How much each cell counts at each pixel of one axis, (D, pixels, num_cells), for box ends (D, 2)."""
    low, high = ends[:, :1], ends[:, 1:]
    centres = torch.arange(pixels.start, pixels.stop, dtype=ends.dtype, device=ends.device) + 0.5
    extent = high - low
    # Without extent (or with NaN or infinity) the position is far outside the mask.
    positions = torch.where((extent > 0) & extent.isfinite(), (centres - low) / extent * num_cells - 0.5, -2.0)
    cells = torch.arange(num_cells, dtype=ends.dtype, device=ends.device)
    return (1 - (positions[:, :, None] - cells).abs()).clamp(min=0)


def check_pasting(masks: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float) -> None:
    """ValueError or TypeError that names the argument which is not as `paste_masks` says."""
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


@torch.library.register_fake("maskray::paste_masks")
def _fake(masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float) -> Tensor:
    return masks.new_empty((masks.shape[0], height, width), dtype=torch.bool)
