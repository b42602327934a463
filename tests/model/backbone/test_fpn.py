"""The pyramid equals torchvision's with the same weights, level by level."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from maskray.model.backbone.bottom_up import BottomUp
from maskray.model.backbone.families import build_backbone
from maskray.model.backbone.fpn import FPN, STRIDES
from maskray.model.config import BackboneConfig


def test_levels_equal_torchvision() -> None:
    torch.manual_seed(0)
    fpn = build_backbone(BackboneConfig(name="resnet18", freeze_stages=0, res2_channels=8, fpn_channels=16)).eval()
    reference = FeaturePyramidNetwork(fpn.resnet.out_channels, 16, LastLevelMaxPool())
    for level in range(4):
        reference.inner_blocks[level][0].load_state_dict(fpn.lateral[level].conv.state_dict())
        reference.layer_blocks[level][0].load_state_dict(fpn.output[level].conv.state_dict())
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        levels = fpn(x)
        expected = reference(OrderedDict((str(i), feature) for i, feature in enumerate(fpn.resnet(x))))
    assert len(levels) == 5
    for level, wanted in zip(levels, expected.values(), strict=True):
        # The same convolutions; sums of a cell and of the one above it may come in another order.
        torch.testing.assert_close(level, wanted, atol=1e-5, rtol=1e-5)


def test_every_level_has_its_stride() -> None:
    fpn = build_backbone(BackboneConfig(name="resnet18", res2_channels=8, fpn_channels=8))
    for level, stride in zip(fpn(torch.zeros(1, 3, 96, 160)), STRIDES, strict=True):
        assert tuple(level.shape) == (1, 8, -(-96 // stride), -(-160 // stride))


def test_convolutions_have_a_bias_only_without_norm() -> None:
    plain = build_backbone(BackboneConfig(name="resnet18", fpn_channels=8))
    normed = build_backbone(BackboneConfig(name="resnet18", fpn_channels=8, fpn_norm="group_norm"))
    assert all(layer.conv.bias is not None for layer in [*plain.lateral, *plain.output])
    assert all(layer.conv.bias is None for layer in [*normed.lateral, *normed.output])
    assert all(isinstance(layer.norm, nn.GroupNorm) for layer in [*normed.lateral, *normed.output])


class Means(BottomUp):
    """A network that is none of ours: means of 4 x 4 pixels, of 8 x 8, of 16 x 16 and of 32 x 32."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels, self.strides = [3] * 4, [4, 8, 16, 32]

    def forward(self, x: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(x, stride) for stride in self.strides]


def test_any_network_can_stand_below() -> None:
    torch.manual_seed(0)
    fpn = FPN(Means(), name="means", channels=3)
    for layer in (*fpn.lateral, *fpn.output):
        nn.init.dirac_(layer.conv.weight)
    x = torch.rand(1, 3, 64, 128)
    levels = fpn(x)
    means = [F.avg_pool2d(x, stride) for stride in (4, 8, 16, 32)]
    # With convolutions that change nothing a level is the sum of its map and of the coarser ones, enlarged.
    torch.testing.assert_close(levels[3], means[3])
    torch.testing.assert_close(levels[2], means[2] + means[3].repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert [tuple(level.shape[2:]) for level in levels] == [(16, 32), (8, 16), (4, 8), (2, 4), (1, 2)]
    assert not [name for name in fpn.state_dict() if not name.startswith(("lateral.", "output."))]
