"""Mask head: convolutions, a deconvolution and one sigmoid mask per class (paper, Figure 4 right), and its loss.

Letters: K boxes of the batch, C classes, S side of the pooled grid, m = 2 S side of the mask, G ground-truth objects of
the batch, H W height and width of the network input.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskray.model.backbone.norm import build_norm
from maskray.model.config import MaskHeadConfig
from maskray.ops.roi_align import roi_align

# Ground-truth masks are cut in float32; this many pixels (256 MiB) are converted at once, not all masks of the batch.
MAX_FLOAT_PIXELS = 64 * 1024 * 1024


class MaskHead(nn.Module):
    """Logits (K, C, m, m) of the masks inside the boxes."""

    def __init__(self, config: MaskHeadConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for _ in range(config.num_convs):
            conv = nn.Conv2d(channels, config.channels, 3, padding=1, bias=config.norm == "none")
            layers += [conv, build_norm(config.norm, config.channels), nn.ReLU(inplace=True)]
            channels = config.channels
        self.convs = nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity)))
        self.deconv = nn.ConvTranspose2d(channels, config.channels, 2, stride=2)
        self.predictor = nn.Conv2d(config.channels, num_classes, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.normal_(self.predictor.weight, std=0.001)

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled features (K, channels, S, S) to logits (K, C, m, m), float32."""
        return self.predictor(F.relu(self.deconv(self.convs(pooled)), inplace=True)).float()


def select_class(logits: Tensor, classes: Tensor) -> Tensor:
    """The mask (K, m, m) of one class per box, of logits (K, C, m, m) and classes (K,)."""
    index = classes[:, None, None, None].expand(-1, 1, *logits.shape[2:])
    return logits.gather(1, index).squeeze(1)


def mask_loss(logits: Tensor, classes: Tensor, target_masks: Tensor) -> Tensor:
    """Mean binary cross entropy of the true class's mask; 0 with a gradient when there are no boxes.

    logits (K, C, m, m), classes (K,), target_masks (K, m, m) bool.
    """
    chosen = select_class(logits, classes)
    total = F.binary_cross_entropy_with_logits(chosen, target_masks.float(), reduction="sum")
    return total / max(1, chosen.numel())


@torch.no_grad()
def crop_masks(
    masks: Tensor, gt_index: Tensor, boxes: Tensor, size: int, max_float_pixels: int = MAX_FLOAT_PIXELS
) -> Tensor:
    """What each box sees of its ground-truth mask: aligned RoIAlign of the bitmask, at least one half, (K, size, size).

    masks (G, H, W) uint8 0/1; gt_index (K,) in 0..G-1; boxes (K, 4) in pixels. Returns bool. At most
    `max_float_pixels` of the masks are held in float32 at once (one mask at least).
    """
    used, position = torch.unique(gt_index, return_inverse=True)
    per_chunk = max(1, max_float_pixels // max(1, masks.shape[1] * masks.shape[2]))
    crops = torch.zeros(len(boxes), size, size, dtype=torch.bool, device=boxes.device)
    for start in range(0, len(used), per_chunk):
        chunk = masks[used[start : start + per_chunk]].unsqueeze(1).float()
        inside = ((position >= start) & (position < start + per_chunk)).nonzero().squeeze(1)
        rois = torch.cat([(position[inside] - start)[:, None].to(boxes.dtype), boxes[inside]], dim=1)
        crops[inside] = roi_align(chunk, rois, (size, size), 1.0, 0, True).squeeze(1) >= 0.5
    return crops
