"""Pools a fixed grid of features for every box, from the pyramid level that suits its size.

Letters: N images, K boxes of the batch, C channels, S side of the grid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maskray.model.backbone.fpn import STRIDES
from maskray.model.boxes.coding import box_areas
from maskray.model.config import RoIOpConfig
from maskray.ops.roi_align import multi_level_roi_align
from maskray.ops.roi_pool import roi_pool
from maskray.ops.roi_warp import multi_level_roi_warp

NUM_POOLED_LEVELS = 4  # P2..P5; P6 is for the RPN alone
CANONICAL_SIZE_PIXELS = 224  # a box of this size, that of an ImageNet picture, is pooled from P4
CANONICAL_LEVEL = 4


def assign_levels(boxes: Tensor) -> Tensor:
    """Pyramid level index 0..3, for P2..P5, of boxes (K, 4) (Lin et al. 2017, equation 1), int64 (K,)."""
    size = torch.sqrt(box_areas(boxes))
    level = torch.floor(CANONICAL_LEVEL + torch.log2(size / CANONICAL_SIZE_PIXELS + 1e-8))
    level = level.nan_to_num(nan=2.0)  # a box of NaN is pooled to NaN, and the loss tells
    return (level.clamp(min=2, max=1 + NUM_POOLED_LEVELS) - 2).to(torch.int64)


class MultiLevelPooler(nn.Module):
    """RoIAlign, RoIWarp or RoIPool of each box on its own level."""

    def __init__(self, config: RoIOpConfig, output_size: int) -> None:
        super().__init__()
        self.config = config
        self.output_size = (output_size, output_size)

    def forward(self, features: list[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """Maps P2.. (N, C, Hl, Wl), boxes (K, 4) in pixels, image_index (K,) to (K, C, S, S)."""
        config = self.config
        maps = features[:NUM_POOLED_LEVELS]
        scales = [1.0 / stride for stride in STRIDES[: len(maps)]]
        rois = torch.cat([image_index[:, None].to(boxes.dtype), boxes], dim=1)
        levels = assign_levels(boxes)
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
