"""Feature pyramid on any network (Lin et al. 2017): maps P2 to P6 of equal channels.

Letters: N images, C channels, H W height and width of the network input.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maskray.model.backbone.bottom_up import BottomUp
from maskray.model.backbone.norm import build_norm

STRIDES = (4, 8, 16, 32, 64)  # pixels of the network input per cell of P2 to P6


class FPNConv(nn.Module):
    """Convolution with a bias where no normalisation follows."""

    def __init__(self, in_channels: int, out_channels: int, size: int, norm: str, eps: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=norm == "none")
        self.norm = build_norm(norm, out_channels, eps=eps)
        nn.init.kaiming_uniform_(self.conv.weight, a=1)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H, W)."""
        return self.norm(self.conv(x))


class FPN(nn.Module):
    """A network, lateral 1x1 and output 3x3 convolutions; P6 is P5 at every second cell.

    The network puts out maps of strides 4, 8, 16 and 32; `name` is under which its weights stand.
    """

    def __init__(
        self,
        bottom_up: BottomUp,
        *,
        name: str,
        channels: int,
        norm: str = "none",
        norm_eps: float = 1e-5,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        assert tuple(bottom_up.strides) == STRIDES[:-1], f"{name} has maps of strides {tuple(bottom_up.strides)}"
        self.bottom_up_name = name
        self.add_module(name, bottom_up)
        self.gradient_checkpointing = gradient_checkpointing
        self.channels = channels
        self.strides = STRIDES
        self.lateral = nn.ModuleList(FPNConv(c, channels, 1, norm, norm_eps) for c in bottom_up.out_channels)
        self.output = nn.ModuleList(FPNConv(channels, channels, 3, norm, norm_eps) for _ in bottom_up.out_channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images (N, 3, H, W), H and W multiples of 32, to P2..P6 (N, C, H / s, W / s), P6 rounded up."""
        maps: list[Tensor] = getattr(self, self.bottom_up_name)(x)
        if self.gradient_checkpointing and self.training:
            pyramid: list[Tensor] = checkpoint(self._build_pyramid, maps, use_reentrant=False)
        else:
            pyramid = self._build_pyramid(maps)
        pyramid.append(F.max_pool2d(pyramid[-1], kernel_size=1, stride=2))
        return pyramid

    def _build_pyramid(self, maps: list[Tensor]) -> list[Tensor]:
        merged = self.lateral[-1](maps[-1])
        pyramid = [self.output[-1](merged)]
        for level in reversed(range(len(maps) - 1)):
            merged = self.lateral[level](maps[level]) + F.interpolate(merged, scale_factor=2.0, mode="nearest")
            pyramid.insert(0, self.output[level](merged))
        return pyramid
