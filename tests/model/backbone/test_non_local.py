"""A non-local block is the identity before training, and equation 6 of its paper after."""

from __future__ import annotations

import pytest
import torch

from maskray.model.backbone.non_local import NonLocal
from maskray.model.backbone.resnet import ResNet
from maskray.model.config import BackboneConfig


@pytest.mark.parametrize("norm", ["frozen_batch_norm", "group_norm", "batch_norm"])
def test_it_is_the_identity_at_first_and_learns_from_there(norm: str) -> None:
    torch.manual_seed(0)
    block = NonLocal(32, norm, 1e-5)
    x = torch.randn(2, 32, 5, 7)
    torch.testing.assert_close(block(x), x)
    block(x).square().sum().backward()
    moved = [name for name, p in block.named_parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert moved, "nothing can ever leave zero"


def test_it_is_equation_6() -> None:
    torch.manual_seed(0)
    block = NonLocal(8, "frozen_batch_norm", 0.0)
    torch.nn.init.normal_(block.out.weight)
    for layer in (block.theta, block.phi):
        torch.nn.init.normal_(layer.weight)
    x = torch.randn(1, 8, 3, 4)
    positions = x[0].flatten(1).T  # (12, 8)

    def embed(layer: torch.nn.Conv2d) -> torch.Tensor:
        assert layer.bias is not None
        return positions @ layer.weight[:, :, 0, 0].T + layer.bias

    weights = torch.softmax(embed(block.theta) @ embed(block.phi).T, dim=1)
    seen = weights @ embed(block.g) @ block.out.weight[:, :, 0, 0].T
    torch.testing.assert_close(block(x)[0].flatten(1).T, positions + seen)


def test_it_stands_before_the_last_block_of_res4_and_moves_no_name() -> None:
    with torch.device("meta"):
        plain, with_block = (ResNet(BackboneConfig(name="resnet50", non_local=on)) for on in (False, True))
    names = list(with_block.get_submodule("res4")._modules)
    assert names == ["0", "1", "2", "3", "4", "non_local", "5"]
    added = with_block.state_dict().keys() - plain.state_dict().keys()
    assert all(name.startswith("res4.non_local.") for name in added)
    assert plain.state_dict().keys() <= with_block.state_dict().keys()
