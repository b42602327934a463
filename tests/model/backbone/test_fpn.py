"""The pyramid equals torchvision's with the same weights, level by level."""

from collections import OrderedDict

import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from maskray.model.backbone.fpn import FPN, STRIDES
from maskray.model.config import BackboneConfig


def test_levels_equal_torchvision() -> None:
    torch.manual_seed(0)
    fpn = FPN(BackboneConfig(name="resnet18", freeze_stages=0, res2_channels=8, fpn_channels=16)).eval()
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
    fpn = FPN(BackboneConfig(name="resnet18", res2_channels=8, fpn_channels=8))
    for level, stride in zip(fpn(torch.zeros(1, 3, 96, 160)), STRIDES, strict=True):
        assert tuple(level.shape) == (1, 8, -(-96 // stride), -(-160 // stride))


def test_convolutions_have_a_bias_only_without_norm() -> None:
    plain = FPN(BackboneConfig(name="resnet18", fpn_channels=8))
    normed = FPN(BackboneConfig(name="resnet18", fpn_channels=8, fpn_norm="group_norm"))
    assert all(layer.conv.bias is not None for layer in [*plain.lateral, *plain.output])
    assert all(layer.conv.bias is None for layer in [*normed.lateral, *normed.output])
    assert all(isinstance(layer.norm, nn.GroupNorm) for layer in [*normed.lateral, *normed.output])
