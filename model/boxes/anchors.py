"""Anchor boxes of the maps (Ren et al. 2015, section 3.1.1; Lin et al. 2017, section 4.1).

Letters: L levels, A anchors per cell, Hl Wl cells of level l, T anchors of all levels together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from maskray.model.config import AnchorConfig


def cell_anchors(size: float, aspect_ratios: Sequence[float], rounded: bool = False) -> Tensor:
    """Anchors (A, 4) of one cell around the origin, of area size^2 in pixels and h / w = aspect ratio.

    `rounded` gives whole corners, halves to the even number, as torchvision has them.
    """
    boxes = []
    for ratio in aspect_ratios:
        width = size / math.sqrt(ratio)
        height = size * math.sqrt(ratio)
        boxes.append([-width / 2, -height / 2, width / 2, height / 2])
    cell = torch.tensor(boxes, dtype=torch.float32)
    return cell.round() if rounded else cell


def level_anchors(cell: Tensor, height: int, width: int, stride: tuple[int, int], offset: float) -> Tensor:
    """Anchors (height * width * A, 4) in pixels of one level; the cell at row y, column x is centred at offset + x, y.

    Order: row, column, anchor of the cell. `cell` (A, 4) is what cell_anchors returns; `stride` is (down, across).
    """
    y = (torch.arange(height, dtype=torch.float32, device=cell.device) + offset) * stride[0]
    x = (torch.arange(width, dtype=torch.float32, device=cell.device) + offset) * stride[1]
    centre_y, centre_x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([centre_x, centre_y, centre_x, centre_y], dim=-1)
    return (shifts[:, :, None, :] + cell).reshape(-1, 4)


def map_anchors(
    config: AnchorConfig, sizes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device
) -> list[Tensor]:
    """Anchors (Hl * Wl * A, 4) of each map, `sizes` being (Hl, Wl) and `strides` pixels per cell.

    Of several maps each has one size of anchor; a single map has all of them, sizes before aspect ratios.
    """
    cells = [cell_anchors(size, config.aspect_ratios, config.rounded) for size in config.sizes]
    if len(sizes) == 1:
        cells = [torch.cat(cells)]
    height, width = (side * strides[0] for side in sizes[0])
    anchors = []
    for cell, (rows, columns), stride in zip(cells, sizes, strides, strict=True):
        step_y = step_x = stride
        if config.strides == "from_map_size":
            step_y, step_x = height // rows, width // columns
        anchors.append(
            level_anchors(cell.to(device, non_blocking=True), rows, columns, (step_y, step_x), config.offset)
        )
    return anchors
