"""Frozen batch norm is batch norm in eval mode; group norm divides any number of channels."""

import pytest
import torch
from torch import nn

from maskray.model.backbone.norm import FrozenBatchNorm2d, build_norm


def test_frozen_batch_norm_equals_batch_norm_in_eval_mode() -> None:
    torch.manual_seed(0)
    reference = nn.BatchNorm2d(6, eps=1e-3).eval()
    for tensor in (reference.weight.data, reference.bias.data, reference.running_mean, reference.running_var):
        tensor.uniform_(0.5, 2.0)
    frozen = FrozenBatchNorm2d(6, eps=1e-3)
    state = {name: value for name, value in reference.state_dict().items() if name != "num_batches_tracked"}
    frozen.load_state_dict(state)
    x = torch.randn(2, 6, 5, 4)
    frozen.train()
    # One multiplication and one addition in float32, rounded apart.
    torch.testing.assert_close(frozen(x), reference(x), atol=1e-6, rtol=1e-6)
    assert not list(frozen.parameters())
    torch.testing.assert_close(frozen.running_mean, reference.running_mean)  # training mode moves nothing


def test_frozen_batch_norm_by_hand() -> None:
    frozen = FrozenBatchNorm2d(1, eps=0.0)
    frozen.load_state_dict(
        {
            "weight": torch.tensor([3.0]),
            "bias": torch.tensor([1.0]),
            "running_mean": torch.tensor([2.0]),
            "running_var": torch.tensor([4.0]),
        }
    )
    assert frozen(torch.full((1, 1, 1, 1), 6.0)).item() == pytest.approx((6 - 2) / 2 * 3 + 1)


@pytest.mark.parametrize(("channels", "groups"), [(256, 32), (64, 32), (32, 32), (16, 16), (24, 8), (7, 1)])
def test_group_norm_divides_the_channels(channels: int, groups: int) -> None:
    norm = build_norm("group_norm", channels)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups


def test_unknown_norm_is_named() -> None:
    with pytest.raises(ValueError, match="norm 'layer' is unknown; valid: none, frozen_batch_norm"):
        build_norm("layer", 8)
