"""The backbone that a configuration names: a feature pyramid, or one map of a ResNet."""

from __future__ import annotations

from torch import Tensor, nn

from maskray.model.backbone.fpn import FPN
from maskray.model.backbone.resnet import ResNet
from maskray.model.config import BackboneConfig


class SingleMap(nn.Module):
    """The last map of a ResNet: res4 (c4), res5 (c5) or dilated res5 (dc5), N x C x H/s x W/s, rounded up."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.resnet = ResNet(config)
        self.channels = self.resnet.out_channels[-1]
        self.strides = (32 if config.features == "c5" else 16,)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images (N, 3, H, W) to the one map, in a list."""
        return self.resnet(x)[-1:]


def build_backbone(config: BackboneConfig) -> FPN | SingleMap:
    """A module from normalised images to a list of maps, with their `channels` and `strides` in pixels."""
    return FPN(config) if config.features == "fpn" else SingleMap(config)
