"""RoIWarp (Dai et al. 2016, "Instance-aware semantic segmentation via multi-task network cascades", section 3.2).

It stands between RoIPool and RoIAlign: the box is rounded to whole cells as in RoIPool, its bins are not, and each bin
is made of bilinear samples as in RoIAlign (Mask R-CNN compares the three in table 2c). So it is RoIAlign of the rounded
box, and has its kernels and its gradient.

Letters: K boxes, N images, L levels, C channels, H W height and width of the feature map, h w of the pooled map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from maskray.ops.roi_align import multi_level_roi_align, roi_align
from maskray.ops.roi_boxes import check_features, check_levels, to_indexed_boxes


def roi_warp(
    features: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    reduction: Literal["mean", "max"] = "mean",
) -> Tensor:
    """Pool each box, rounded to cells, to h x w bins of bilinear samples; (K, C, h, w) in the features' dtype.

    features (N, C, H, W); boxes (K, 5) rows of image index, x0, y0, x1, y1, or one (L, 4) tensor per image, in pixels
    where `spatial_scale` times a pixel is a cell. Corners are rounded to cells (halves away from 0) and the end is
    inclusive, as in RoIPool: a box is at least one cell. `sampling_ratio` samples per bin and axis, 0 for
    ceil(bin size): where a bin is one cell, its value is that cell. A sample more than a cell outside the map is 0; a
    box with a number that is not finite gives 0 with zero gradient. The gradient goes to the features, not to the
    boxes, and is that of the samples. An image index outside 0..N-1 raises ValueError on the CPU and gives NaN on CUDA.
    ValueError or TypeError names an argument that is wrong.
    """
    check_features(features)
    if not spatial_scale > 0:
        raise ValueError(f"spatial_scale: expected a positive number, got {spatial_scale}")
    indexed = to_indexed_boxes(boxes, features)
    cells = round_to_cells(indexed, indexed.new_full((len(indexed),), float(spatial_scale)))
    return roi_align(features, cells, output_size, 1.0, sampling_ratio, True, reduction)


def multi_level_roi_warp(
    features: Sequence[Tensor],
    boxes: Tensor,
    levels: Tensor,
    output_size: int | Sequence[int],
    spatial_scales: Sequence[float],
    sampling_ratio: int = 0,
    reduction: Literal["mean", "max"] = "mean",
) -> Tensor:
    """Pool each box as roi_warp does, from the level that `levels` names; arguments as multi_level_roi_align's."""
    maps = check_levels(features, boxes, levels, spatial_scales)
    indexed = to_indexed_boxes(boxes, maps[0])
    scales = torch.tensor([float(scale) for scale in spatial_scales], dtype=indexed.dtype)
    scales = scales.to(indexed.device, non_blocking=True)
    # On CUDA a level outside 0..L-1 gives NaN in the kernel; here it must only not be looked up.
    cells = round_to_cells(indexed, scales[levels.clamp(0, len(maps) - 1)])
    return multi_level_roi_align(maps, cells, levels, output_size, [1.0] * len(maps), sampling_ratio, True, reduction)


def round_to_cells(boxes: Tensor, spatial_scales: Tensor) -> Tensor:
    """The edges, in cells, of the cells that RoIPool takes for boxes (K, 5) at scales (K,); the image index stays."""
    scaled = boxes[:, 1:] * spatial_scales[:, None]
    # Halves away from 0, as std::round; torch.round takes halves to even.
    whole = scaled.trunc()
    rounded = whole + (scaled - whole).mul(2).trunc()
    start, end = rounded[:, :2], rounded[:, 2:]
    return torch.cat([boxes[:, :1], start, torch.maximum(end, start) + 1], dim=1)
