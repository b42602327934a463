"""The average of the weights by hand, in and out of the model, and back from what a checkpoint holds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from maskray.platform.job.train_config import AverageConfig
from maskray.platform.train.weight_average import WeightAverage, average_decay


def test_decay_by_hand() -> None:
    config = AverageConfig(decay=0.5)
    assert [average_decay(config, number) for number in (1, 2, 8, 100)] == [2 / 11, 3 / 12, 0.5, 0.5]
    assert average_decay(AverageConfig(decay=0.9, warmup=False), 1) == 0.9


@given(st.integers(1, 10**7), st.floats(0, 0.99999))
def test_decay_grows_up_to_the_configured_one(step: int, decay: float) -> None:
    config = AverageConfig(decay=decay)
    assert 0 <= average_decay(config, step) <= average_decay(config, step + 1) <= decay


def set_to(model: nn.Linear, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


def test_average_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    set_to(model, 8.0)
    average = WeightAverage(model, AverageConfig(decay=0.75, warmup=False))
    for step, value in enumerate((4.0, 0.0), 1):
        set_to(model, value)
        average.update(step)
    weights = average.weights()
    with average.in_place():
        assert model.weight.item() == (8 * 0.75 + 4 * 0.25) * 0.75
        assert weights["weight"].item() == 0.0  # what was taken before stays what it was
        assert model(torch.ones(1, 1)).item() == 5.25
    assert model.weight.item() == 0.0
    set_to(model, 1.0)  # the weights that are trained are the model's again
    average.update(3)
    with average.in_place():
        assert model.weight.item() == 5.25 * 0.75 + 0.25


def test_the_weights_are_back_after_an_error() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, AverageConfig())
    set_to(model, 3.0)
    with pytest.raises(RuntimeError), average.in_place():
        raise RuntimeError("evaluation failed")
    assert model.weight.item() == 3.0


def test_constants_and_statistics_are_those_of_the_model() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model[0].bias.requires_grad_(False)
    average = WeightAverage(model, AverageConfig())
    assert set(average.weights()) == {"0.weight", "1.weight", "1.bias"}
    model(torch.randn(8, 4))
    before = model[1].running_mean.clone()
    with average.in_place():
        assert torch.equal(model[1].running_mean, before)


def test_what_a_checkpoint_holds_goes_back_to_its_place() -> None:
    model = nn.Linear(3, 2)
    average = WeightAverage(model, AverageConfig(decay=0.9))
    with torch.no_grad():
        model.weight.add_(1.0)
    average.update(1)
    beside = {name: tensor.clone() for name, tensor in average.weights().items()}
    with average.in_place():
        kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    other = nn.Linear(3, 2)
    again = WeightAverage(other, AverageConfig(decay=0.9))
    other.load_state_dict(kept)
    again.load(beside)
    assert all(torch.equal(tensor, beside[name]) for name, tensor in other.state_dict().items())
    with again.in_place():
        assert all(torch.equal(tensor, kept[name]) for name, tensor in other.state_dict().items())
    with pytest.raises(ValueError, match="of other parameters than are trained"):
        again.load({"weight": beside["weight"]})
