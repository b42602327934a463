"""Pools a fixed grid of features for every box, from the pyramid level that suits its size.

Letters: N images, K boxes of the batch, C channels, S side of the grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maskray.model.boxes.coding import box_areas
from maskray.model.config import RoIOpConfig
from maskray.ops.roi_align import multi_level_roi_align
from maskray.ops.roi_pool import roi_pool
from maskray.ops.roi_warp import multi_level_roi_warp

NUM_POOLED_LEVELS = 4  # P2..P5; P6 is for the RPN alone
CANONICAL_SIZE_PIXELS = 224  # a box of this size, that of an ImageNet image, is pooled from P4
CANONICAL_LEVEL = 4


def assign_levels(boxes: Tensor, rule: str = "detectron2") -> Tensor:
    """Pyramid level index 0..3, for P2..P5, of boxes (K, 4) (Lin et al. 2017, equation 1), int64 (K,).

    Rules differ in where 1e-8 or 1e-6 is added, so that a size that is a power of two falls on its level.
    """
    ratio = torch.sqrt(box_areas(boxes)) / CANONICAL_SIZE_PIXELS
    log_ratio = torch.log2(ratio) + 1e-6 if rule == "torchvision" else torch.log2(ratio + 1e-8)
    level = torch.floor(CANONICAL_LEVEL + log_ratio)
    level = level.nan_to_num(nan=2.0)  # a box of NaN is pooled to NaN, and the loss tells
    return (level.clamp(min=2, max=1 + NUM_POOLED_LEVELS) - 2).to(torch.int64)


class Pooler(nn.Module):
    """RoIAlign, RoIWarp or RoIPool of each box, on its own level where there are several."""

    def __init__(self, config: RoIOpConfig, output_size: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        self.output_size = (output_size, output_size)
        self.scales = [1.0 / stride for stride in strides[:NUM_POOLED_LEVELS]]

    def forward(self, features: list[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """Maps (N, C, Hl, Wl), of a pyramid P2 and on, boxes (K, 4) in pixels, image_index (K,) to (K, C, S, S)."""
        config, scales = self.config, self.scales
        maps = features[: len(scales)]
        rois = torch.cat([image_index[:, None].to(boxes.dtype), boxes], dim=1)
        levels = assign_levels(boxes, config.level_rule) if len(maps) > 1 else torch.zeros_like(image_index)
        settings = (rois, levels, self.output_size, scales, config.sampling_ratio)
        if config.name == "roi_align":
            return multi_level_roi_align(maps, *settings, config.aligned, reduction=config.reduction)
        if config.name == "roi_warp":
            return multi_level_roi_warp(maps, *settings, reduction=config.reduction)
        # RoIPool: sorted by level, pooled level by level, and put back; each box is read and written once.
        order = torch.argsort(levels, stable=True)
        parts = rois[order].split(torch.bincount(levels, minlength=len(maps)).tolist())
        pooled = [roi_pool(*inputs) for inputs in zip(maps, parts, [self.output_size] * len(maps), scales, strict=True)]
        return torch.cat(pooled)[torch.argsort(order)]
