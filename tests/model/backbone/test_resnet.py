"""ResNets give torchvision's features with torchvision's weights, and freeze what they are told to."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from maskray.model.backbone.families import build_backbone
from maskray.model.backbone.norm import FrozenBatchNorm2d
from maskray.model.backbone.resnet import BasicBlock, Bottleneck, ConvNorm, ResNet
from maskray.model.config import BackboneConfig
from maskray.model.weights import rename_torchvision

NAMES = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
RESNEXT = ["resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"]  # those that torchvision has


@pytest.mark.parametrize("name", NAMES + RESNEXT)
def test_names_and_shapes_are_those_of_torchvision(name: str) -> None:
    with torch.device("meta"):
        reference = getattr(torchvision.models, name)(weights=None)
        ours = ResNet(BackboneConfig(name=name, norm="batch_norm", freeze_stages=0))  # type: ignore[arg-type]
    renamed = rename_torchvision(reference.state_dict())
    shapes = {f"backbone.resnet.{key}": value.shape for key, value in ours.state_dict().items()}
    assert {key: value.shape for key, value in renamed.items()} == shapes


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_features_equal_torchvision(name: str) -> None:
    torch.manual_seed(0)
    reference = getattr(torchvision.models, name)(weights=None).eval().double()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    ours = ResNet(BackboneConfig(name=name, freeze_stages=0)).eval().double()  # type: ignore[arg-type]
    prefix = "backbone.resnet."
    state = {key.removeprefix(prefix): value for key, value in rename_torchvision(reference.state_dict()).items()}
    report = ours.load_state_dict(state, strict=False)
    assert not report.missing_keys
    assert all(key.endswith("num_batches_tracked") for key in report.unexpected_keys)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        maps = ours(x)
        expected = reference.maxpool(reference.relu(reference.bn1(reference.conv1(x))))
        for stage, ours_map in zip((reference.layer1, reference.layer2, reference.layer3, reference.layer4), maps):
            expected = stage(expected)
            # Float64: sums in another order alone.
            torch.testing.assert_close(ours_map, expected, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("stages", [0, 1, 2, 5])
def test_freeze_stages(stages: int) -> None:
    net = ResNet(BackboneConfig(name="resnet18", norm="batch_norm", freeze_stages=stages, res2_channels=8))
    for number, stage in enumerate(net.stages(), start=1):
        frozen = number <= stages
        assert all(parameter.requires_grad != frozen for parameter in stage.parameters())
        norms = [m for m in stage.modules() if isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d)]
        assert norms
        assert all(isinstance(norm, FrozenBatchNorm2d) == frozen for norm in norms)


@pytest.mark.parametrize(("name", "block"), [("resnet18", BasicBlock), ("resnet50", Bottleneck)])
def test_trained_norms_make_each_block_the_identity_at_first(name: str, block: type) -> None:
    net = ResNet(BackboneConfig(name=name, norm="group_norm", freeze_stages=0, res2_channels=8))  # type: ignore[arg-type]
    inner = net.get_submodule("res3.1")
    assert isinstance(inner, block)
    x = torch.rand(1, net.out_channels[1], 6, 6)
    torch.testing.assert_close(inner(x), x)


def test_stride_in_1x1_moves_the_stride() -> None:
    for in_1x1, strides in ((False, (1, 2)), (True, (2, 1))):
        net = ResNet(BackboneConfig(name="resnet50", stride_in_1x1=in_1x1, res2_channels=8))
        first = net.get_submodule("res4.0")
        assert (first.conv1.conv.stride[0], first.conv2.conv.stride[0]) == strides  # type: ignore[union-attr]


def test_widths_follow_the_configuration() -> None:
    net = ResNet(BackboneConfig(name="resnet50", stem_channels=16, res2_channels=8, freeze_stages=0))
    assert net.out_channels == [32, 64, 128, 256]
    assert [tuple(m.shape) for m in net(torch.zeros(1, 3, 64, 96))] == [
        (1, 32, 16, 24),
        (1, 64, 8, 12),
        (1, 128, 4, 6),
        (1, 256, 2, 3),
    ]


def random_pair(first: BackboneConfig, second: BackboneConfig) -> tuple[ResNet, ResNet]:
    """Two networks with the same random weights, in training mode."""
    torch.manual_seed(0)
    one, two = ResNet(first), ResNet(second)
    two.load_state_dict(one.state_dict())
    return one, two


def test_dilation_keeps_res5_as_fine_as_res4_with_the_same_values_in_between() -> None:
    tiny = {"name": "resnet50", "stem_channels": 8, "res2_channels": 8, "stride_in_1x1": True, "freeze_stages": 0}
    coarse, fine = random_pair(
        BackboneConfig.model_validate(tiny | {"features": "c5"}),
        BackboneConfig.model_validate(tiny | {"features": "dc5"}),
    )
    x = torch.randn(1, 3, 96, 128, dtype=torch.float64)
    with torch.no_grad():
        res5, dilated = coarse.double()(x)[-1], fine.double()(x)[-1]
    assert dilated.shape[2:] == (6, 8)
    # With the stride in the 1x1, the strided stage sees every second cell of what the dilated one sees: the same sums
    # in float64, whose order alone may differ.
    torch.testing.assert_close(dilated[:, :, ::2, ::2], res5, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("norm", ["group_norm", "frozen_batch_norm"])
@pytest.mark.parametrize("kind", ["large_maps", "all"])
def test_checkpointing_changes_no_number(norm: str, kind: str) -> None:
    tiny = {"name": "resnet18", "norm": norm, "res2_channels": 8, "freeze_stages": 1, "fpn_channels": 8}
    torch.manual_seed(0)
    plain = build_backbone(BackboneConfig.model_validate(tiny))
    checkpointed = build_backbone(BackboneConfig.model_validate(tiny | {"gradient_checkpointing": kind}))
    checkpointed.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for net in (plain, checkpointed):
        torch.stack([feature.square().sum() for feature in net(x)]).sum().backward()
    for (parameter_name, own), other in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert (own.grad is None) == (other.grad is None) == (not own.requires_grad), parameter_name
        if own.grad is not None and other.grad is not None:
            assert torch.equal(own.grad, other.grad), parameter_name


def test_c4_ends_with_res4() -> None:
    with torch.device("meta"):
        net = ResNet(BackboneConfig(name="resnet50", features="c4"))
    assert net.out_channels == [256, 512, 1024]
    assert not [name for name in net.state_dict() if name.startswith("res5")]


def test_a_constant_norm_in_the_weights_changes_neither_value_nor_gradient() -> None:
    torch.manual_seed(0)
    layer = ConvNorm(6, 8, 3, 2, "frozen_batch_norm", 1e-5, groups=2).double()
    for name in ("weight", "bias", "running_mean"):
        getattr(layer.norm, name).normal_()
    layer.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
    x = torch.randn(2, 6, 9, 7, dtype=torch.float64, requires_grad=True)
    outputs = layer(x), layer.norm(layer.conv(x))
    torch.testing.assert_close(*outputs)
    direction = torch.randn_like(outputs[0])
    gradients = [torch.autograd.grad(out, (x, layer.conv.weight), direction) for out in outputs]
    torch.testing.assert_close(*gradients)
