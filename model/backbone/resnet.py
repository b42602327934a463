"""ResNet-18/34/50/101/152 (He et al. 2016) and ResNeXt (Xie et al. 2017): the maps of their stages, res2 to res5.

Letters: N images, C channels, H W height and width of the network input.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maskray.model.backbone.bottom_up import BottomUp, StageHead
from maskray.model.backbone.non_local import NonLocal
from maskray.model.backbone.norm import FrozenBatchNorm2d, build_norm
from maskray.model.backbone_config import BackboneConfig

# Blocks of res2, res3, res4, res5; the deeper three are built of bottlenecks. A ResNeXt has as many as its ResNet.
NUM_BLOCKS = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3), "50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}
BASIC = ("18", "34")


class BlockShape(NamedTuple):
    """Of one block: channels inside a bottleneck of a ResNet, and stride and dilation of its 3x3 convolution."""

    in_channels: int
    channels: int
    stride: int
    dilation: int
    norm: str


class ConvNorm(nn.Module):
    """Convolution without bias, then normalisation; a constant one goes into the weights and costs no pass."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int,
        stride: int,
        norm: str,
        eps: float,
        *,
        groups: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.fold_norm = True
        # Folded weights are not kept for the backward pass; under checkpointing, which hooks into that too, they are.
        self.drop_folded = False
        padding = size // 2 * dilation
        self.conv = nn.Conv2d(in_channels, out_channels, size, stride, padding, dilation, groups, bias=False)
        self.norm = build_norm(norm, out_channels, eps=eps)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride), rounded up."""
        conv = self.conv
        if not (self.fold_norm and isinstance(self.norm, FrozenBatchNorm2d)):
            return self.norm(conv(x))
        scale, shift = self.norm.scale_and_shift()
        # The gradient of the weights needs x alone: the map between convolution and norm is neither made nor kept.
        weight = conv.weight * scale[:, None, None, None]
        if not self.drop_folded or not torch.is_grad_enabled():
            return F.conv2d(x, weight, shift, conv.stride, conv.padding, conv.dilation, conv.groups)
        pointer = weight.data_ptr()  # and not the tensor, which the hook would keep alive

        def pack(saved: Tensor) -> Tensor | None:
            return None if saved.data_ptr() == pointer else saved

        def unpack(saved: Tensor | None) -> Tensor:
            # All folded weights together are as large as the model: to multiply once more costs nothing beside them.
            return conv.weight.detach() * scale[:, None, None, None] if saved is None else saved

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            return F.conv2d(x, weight, shift, conv.stride, conv.padding, conv.dilation, conv.groups)


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

    def __init__(self, config: BackboneConfig, shape: BlockShape) -> None:
        super().__init__()
        in_channels, channels, stride, dilation, norm = shape
        eps = config.norm_eps
        self.conv1 = ConvNorm(in_channels, channels, 3, stride, norm, eps, dilation=dilation)
        self.conv2 = ConvNorm(channels, channels, 3, 1, norm, eps, dilation=dilation)
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
        return F.relu(out.add_(self.shortcut(x)), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut, four times as wide outside as inside (resnet50 and deeper).

    In a ResNeXt the 3x3 is grouped, and its width is channels x groups x width per group / 64.
    """

    expansion = 4

    def __init__(self, config: BackboneConfig, shape: BlockShape) -> None:
        super().__init__()
        in_channels, channels, stride, dilation, norm = shape
        eps = config.norm_eps
        groups, width_per_group = config.groups
        width = channels * width_per_group // 64 * groups
        stride_1x1, stride_3x3 = (stride, 1) if config.stride_in_1x1 else (1, stride)
        self.conv1 = ConvNorm(in_channels, width, 1, stride_1x1, norm, eps)
        self.conv2 = ConvNorm(width, width, 3, stride_3x3, norm, eps, groups=groups, dilation=dilation)
        self.conv3 = ConvNorm(width, channels * self.expansion, 1, 1, norm, eps)
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
        return F.relu(out.add_(self.shortcut(x)), inplace=True)


class ResNet(BottomUp):
    """Stem and stages up to res5, or res4 where res5 is the box head; `freeze_stages` of them are constant.

    A frozen stage takes frozen batch norm in place of batch norm, so that its statistics stay too.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.gradient_checkpointing = [is_checkpointed(config, level) for level in range(1, 6)]
        self.last_level = 4 if config.features == "c4" else 5
        self.stem = Stem(config.stem_channels, _stage_norm(config, 1), config.norm_eps)
        self.out_channels, self.strides = [], []
        for level in range(2, self.last_level + 1):
            dilated = level == 5 and config.features == "dc5"
            stage = build_stage(config, level, 1 if level == 2 or dilated else 2, 2 if dilated else 1)
            self.add_module(f"res{level}", stage)
            self.out_channels.append(stage_channels(config, level))
            self.strides.append(16 if dilated else 2**level)
        for module in self.stages()[: config.freeze_stages]:
            module.requires_grad_(False)
        _set_folding(self.stem, config, 1)

    def stages(self) -> list[nn.Module]:
        """Stem, res2, res3, ..."""
        return [self.stem, *(self.get_submodule(f"res{level}") for level in range(2, self.last_level + 1))]

    def parameter_stages(self) -> dict[str, int]:
        """Stage of each parameter by name: 1 the stem, 2 res2, ..."""
        names = ["stem", *(f"res{level}" for level in range(2, self.last_level + 1))]
        return {
            f"{stage}.{name}": number
            for number, stage in enumerate(names, 1)
            for name, _ in self.get_submodule(stage).named_parameters()
        }

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images (N, 3, H, W) to maps (N, C, H / s, W / s) of res2 and on, of stride s = 4, 8, 16, 32."""
        maps = []
        for stage, again in zip(self.stages(), self.gradient_checkpointing):
            trained = any(parameter.requires_grad for parameter in stage.parameters())
            again = again and self.training and trained
            x = checkpoint(stage, x, use_reentrant=False) if again else stage(x)
            maps.append(x)
        return maps[1:]


def stage_channels(config: BackboneConfig, level: int) -> int:
    """Channels of the map that res`level` puts out."""
    return config.res2_channels * 2 ** (level - 2) * _block_class(config).expansion


def build_stage(config: BackboneConfig, level: int, stride: int, dilation: int = 1) -> nn.Sequential:
    """res`level`, 2 to 5: the stride is that of the first block, the dilation that of all.

    Where the norm is trained, the last one of each block starts at zero (Goyal et al. 2017, section 5.1): every block
    is the identity at first, which is what lets group norm train from nothing at a high learning rate.
    """
    block_class = _block_class(config)
    in_channels = config.stem_channels if level == 2 else stage_channels(config, level - 1)
    norm = _stage_norm(config, level)
    channels = config.res2_channels * 2 ** (level - 2)
    num_blocks = NUM_BLOCKS[_depth(config)][level - 2]
    stage = nn.Sequential()
    for number in range(num_blocks):
        if config.non_local and level == 4 and number == num_blocks - 1:
            stage.add_module("non_local", NonLocal(in_channels, norm, config.norm_eps))
        shape = BlockShape(in_channels, channels, stride if number == 0 else 1, dilation, norm)
        block = block_class(config, shape)
        if isinstance(block.last.norm.weight, nn.Parameter):
            nn.init.zeros_(block.last.norm.weight)
        stage.add_module(str(number), block)
        in_channels = channels * block_class.expansion
    _set_folding(stage, config, level)
    return stage


def build_res5_head(config: BackboneConfig, stride: int) -> StageHead:
    """res5 as the head of a region, which the backbone of a C4 model leaves to it."""
    stage = build_stage(config, 5, stride)
    stage.requires_grad_(config.freeze_stages < 5)
    return StageHead(stage, stage_channels(config, 5))


def is_checkpointed(config: BackboneConfig, level: int) -> bool:
    """Whether res`level`, 1 being the stem, is computed again in the backward pass."""
    return config.gradient_checkpointing == "all" or (config.gradient_checkpointing == "large_maps" and level <= 3)


def _set_folding(stage: nn.Module, config: BackboneConfig, level: int) -> None:
    for part in stage.modules():
        if isinstance(part, ConvNorm):
            part.fold_norm = config.fold_norm
            part.drop_folded = not is_checkpointed(config, level)


def _depth(config: BackboneConfig) -> str:
    return config.name.partition("_")[0].removeprefix("resnet").removeprefix("resnext")


def _block_class(config: BackboneConfig) -> type[BasicBlock] | type[Bottleneck]:
    return BasicBlock if _depth(config) in BASIC else Bottleneck


def _stage_norm(config: BackboneConfig, stage: int) -> str:
    """Norm of a stage, 1 being the stem."""
    is_batch_norm = config.norm in ("batch_norm", "sync_batch_norm")
    return "frozen_batch_norm" if is_batch_norm and stage <= config.freeze_stages else config.norm
