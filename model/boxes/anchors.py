"""Anchor boxes of the feature pyramid (Ren et al. 2015, section 3.1.1; Lin et al. 2017, section 4.1).

Letters: L levels, A anchors per cell, Hl Wl cells of level l, T anchors of all levels together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from maskray.model.config import AnchorConfig


def cell_anchors(size: float, aspect_ratios: Sequence[float]) -> Tensor:
    """Anchors (A, 4) of one cell around the origin, of area size^2 in pixels and h / w = aspect ratio, not rounded."""
    boxes = []
    for ratio in aspect_ratios:
        width = size / math.sqrt(ratio)
        height = size * math.sqrt(ratio)
        boxes.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(boxes, dtype=torch.float32)


def level_anchors(cell: Tensor, height: int, width: int, stride: int, offset: float) -> Tensor:
    """Anchors (height * width * A, 4) in pixels of one level; the cell at row y, column x is centred at offset + x, y.

    Order: row, column, anchor of the cell. `cell` (A, 4) is what cell_anchors returns.
    """
    y = (torch.arange(height, dtype=torch.float32, device=cell.device) + offset) * stride
    x = (torch.arange(width, dtype=torch.float32, device=cell.device) + offset) * stride
    centre_y, centre_x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([centre_x, centre_y, centre_x, centre_y], dim=-1)
    return (shifts[:, :, None, :] + cell).reshape(-1, 4)


def pyramid_anchors(
    config: AnchorConfig, sizes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device
) -> list[Tensor]:
    """Anchors (Hl * Wl * A, 4) of each level, `sizes` being (Hl, Wl) of P2..P6."""
    return [
        level_anchors(cell_anchors(size, config.aspect_ratios).to(device), height, width, stride, config.offset)
        for size, (height, width), stride in zip(config.sizes, sizes, strides, strict=True)
    ]
