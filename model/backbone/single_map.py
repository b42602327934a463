"""One map in place of a pyramid: the last of a network."""

from __future__ import annotations

from torch import Tensor, nn

from maskray.model.backbone.bottom_up import BottomUp


class SingleMap(nn.Module):
    """The last map of a network, such as res4 (c4), res5 (c5) or dilated res5 (dc5) of a ResNet.

    `name` is under which the weights of the network stand.
    """

    def __init__(self, bottom_up: BottomUp, *, name: str) -> None:
        super().__init__()
        self.bottom_up_name = name
        self.add_module(name, bottom_up)
        self.channels = bottom_up.out_channels[-1]
        self.strides = (bottom_up.strides[-1],)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images (N, 3, H, W) to the one map, N x C x H/s x W/s, rounded up, in a list."""
        maps: list[Tensor] = getattr(self, self.bottom_up_name)(x)
        return maps[-1:]
