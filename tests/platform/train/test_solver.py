"""Tests of the learning rate by hand-computed values and of the parameter groups."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from maskray.platform.job.config import TrainConfig
from maskray.platform.train.solver import build_optimizer, learning_rate

CONFIG = TrainConfig(
    steps=90, images_per_batch=16, base_lr=0.02, warmup_steps=10, warmup_factor=0.1, decay_at=(60, 80), decay=0.1
)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.002),  # warmup_factor x lr
        (5, 0.011),  # half way: (0.1 + 1) / 2
        (9, 0.0182),
        (10, 0.02),
        (59, 0.02),
        (60, 0.002),  # the 61st step: 60 have been taken
        (79, 0.002),
        (80, 0.0002),
        (89, 0.0002),
    ],
)
def test_schedule_by_hand(step: int, expected: float) -> None:
    # Float64: products in another order alone.
    assert learning_rate(CONFIG, step) == pytest.approx(expected, rel=1e-12)


def test_linear_scaling_rule() -> None:
    config = TrainConfig(steps=9, images_per_batch=4, base_lr=0.02, warmup_steps=0)
    assert learning_rate(config, 0) == pytest.approx(0.005)


@given(step=st.integers(0, 89))
def test_rate_never_exceeds_the_configured_one(step: int) -> None:
    assert 0 < learning_rate(CONFIG, step) <= CONFIG.lr


def test_norm_parameters_have_their_own_weight_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.BatchNorm2d(4), nn.LayerNorm(4), nn.Linear(4, 2))
    config = TrainConfig(steps=1, weight_decay=0.5, weight_decay_norm=0.25, momentum=0.8)
    optimizer = build_optimizer(model, config)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay[id(model[0].weight)] == 0.5
    assert decay[id(model[0].bias)] == 0.5  # biases as weights
    assert decay[id(model[4].bias)] == 0.5
    assert {decay[id(p)] for layer in model[1:4] for p in layer.parameters()} == {0.25}
    assert len(decay) == len(list(model.parameters()))
    assert {group["momentum"] for group in optimizer.param_groups} == {0.8}


def test_frozen_and_shared_parameters() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    first.bias.requires_grad_(False)
    optimizer = build_optimizer(nn.Sequential(first, second), TrainConfig(steps=1))
    assert [len(group["params"]) for group in optimizer.param_groups] == [2]


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ValueError, match="no trainable parameter"):
        build_optimizer(nn.ReLU(), TrainConfig(steps=1))


def test_one_step_of_momentum_and_decay_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(2.0)
    optimizer = build_optimizer(model, TrainConfig(steps=1, base_lr=0.1, warmup_steps=0, weight_decay=0.5))
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(1, 1)).sum().backward()
        optimizer.step()
    # v1 = 1 + 0.5 * 2 = 2, w1 = 1.8; v2 = 0.9 * 2 + 1 + 0.5 * 1.8 = 3.7, w2 = 1.43
    assert model.weight.item() == pytest.approx(1.43)
