"""The 3x3 convolutions that heads begin with."""

from __future__ import annotations

from torch import nn

from maskray.model.backbone.norm import build_norm


def build_conv_stack(in_channels: int, channels: int, num_convs: int, norm: str = "none") -> nn.Sequential:
    """`num_convs` times convolution, norm where there is one, and ReLU; a bias where no norm follows."""
    layers: list[nn.Module] = []
    for _ in range(num_convs):
        conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=norm == "none")
        layers += [conv, build_norm(norm, channels), nn.ReLU(inplace=True)]
        in_channels = channels
    return nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity)))


def init_convs(module: nn.Module) -> None:
    """Normal weights of the variance that keeps ReLU's output (He et al. 2015), biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
