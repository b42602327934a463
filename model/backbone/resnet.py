"""ResNet-18/34/50/101/152 (He et al. 2016) that returns the maps of its four stages, res2 to res5.

Letters: N images, C channels, H W height and width of the network input.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from maskray.model.backbone.norm import build_norm
from maskray.model.config import BackboneConfig

# Blocks of res2, res3, res4, res5; the deeper three are built of bottlenecks.
NUM_BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
BOTTLENECKS = ("resnet50", "resnet101", "resnet152")


class ConvNorm(nn.Module):
    """Convolution without bias, then normalisation."""

    def __init__(self, in_channels: int, out_channels: int, size: int, stride: int, norm: str, eps: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False)
        self.norm = build_norm(norm, out_channels, eps=eps)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride), rounded up."""
        return self.norm(self.conv(x))


class Stem(nn.Module):
    """7x7 convolution of stride 2 and 3x3 maximum of stride 2."""

    def __init__(self, out_channels: int, norm: str, eps: float) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, out_channels, 7, 2, norm, eps)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, C, H / 4, W / 4)."""
        return F.max_pool2d(F.relu(self.conv1(x), inplace=True), kernel_size=3, stride=2, padding=1)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (resnet18, resnet34)."""

    expansion = 1

    def __init__(
        self, in_channels: int, channels: int, stride: int, norm: str, eps: float, *, stride_in_1x1: bool
    ) -> None:
        super().__init__()
        del stride_in_1x1  # there is no 1x1 here
        self.conv1 = ConvNorm(in_channels, channels, 3, stride, norm, eps)
        self.conv2 = ConvNorm(channels, channels, 3, 1, norm, eps)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = ConvNorm(in_channels, channels, 1, stride, norm, eps)

    @property
    def last(self) -> ConvNorm:
        """The layer whose output is added to the shortcut."""
        return self.conv2

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        out = self.conv2(F.relu(self.conv1(x), inplace=True))
        return F.relu(out + self.shortcut(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut, four times as wide outside as inside (resnet50 and deeper)."""

    expansion = 4

    def __init__(
        self, in_channels: int, channels: int, stride: int, norm: str, eps: float, *, stride_in_1x1: bool
    ) -> None:
        super().__init__()
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = ConvNorm(in_channels, channels, 1, stride_1x1, norm, eps)
        self.conv2 = ConvNorm(channels, channels, 3, stride_3x3, norm, eps)
        self.conv3 = ConvNorm(channels, channels * self.expansion, 1, 1, norm, eps)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels * self.expansion:
            self.shortcut = ConvNorm(in_channels, channels * self.expansion, 1, stride, norm, eps)

    @property
    def last(self) -> ConvNorm:
        """The layer whose output is added to the shortcut."""
        return self.conv3

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        out = F.relu(self.conv1(x), inplace=True)
        out = self.conv3(F.relu(self.conv2(out), inplace=True))
        return F.relu(out + self.shortcut(x), inplace=True)


class ResNet(nn.Module):
    """Stem and four stages; `freeze_stages` of them, from the stem, are constant.

    A frozen stage takes frozen batch norm in place of batch norm, so that its statistics stay too. Where the norm is
    trained, the last one of each block starts at zero (Goyal et al. 2017, section 5.1): every block is the identity
    at first, which is what lets group norm train from nothing at a high learning rate.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        stage_norms = [self._stage_norm(config, stage) for stage in range(1, 6)]
        self.stem = Stem(config.stem_channels, stage_norms[0], config.norm_eps)
        block_class = Bottleneck if config.name in BOTTLENECKS else BasicBlock
        in_channels = config.stem_channels
        self.out_channels: list[int] = []
        for index, num_blocks in enumerate(NUM_BLOCKS[config.name]):
            channels = config.res2_channels * 2**index
            blocks = []
            for number in range(num_blocks):
                stride = 2 if number == 0 and index > 0 else 1
                blocks.append(
                    block_class(
                        in_channels,
                        channels,
                        stride,
                        stage_norms[index + 1],
                        config.norm_eps,
                        stride_in_1x1=config.stride_in_1x1,
                    )
                )
                in_channels = channels * block_class.expansion
            self.out_channels.append(in_channels)
            self.add_module(f"res{index + 2}", nn.Sequential(*blocks))
        self._zero_last_norms()
        for stage in self.stages()[: config.freeze_stages]:
            stage.requires_grad_(False)

    def stages(self) -> list[nn.Module]:
        """Stem, res2, res3, res4, res5."""
        return [self.stem, *(self.get_submodule(f"res{level}") for level in range(2, 6))]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images (N, 3, H, W) to maps (N, C, H / s, W / s) of stride s = 4, 8, 16, 32."""
        maps = []
        for stage in self.stages():
            x = stage(x)
            maps.append(x)
        return maps[1:]

    @staticmethod
    def _stage_norm(config: BackboneConfig, stage: int) -> str:
        is_batch_norm = config.norm in ("batch_norm", "sync_batch_norm")
        return "frozen_batch_norm" if is_batch_norm and stage <= config.freeze_stages else config.norm

    def _zero_last_norms(self) -> None:
        for module in self.modules():
            if isinstance(module, BasicBlock | Bottleneck) and isinstance(module.last.norm.weight, nn.Parameter):
                nn.init.zeros_(module.last.norm.weight)
