"""Tests of the learning rate by hand-computed values and of the parameter groups."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from maskray.model.build_model import build_model
from maskray.model.config import InputConfig, ModelConfig
from maskray.model.mask_rcnn import MaskRCNN
from maskray.platform.job.train_config import TrainConfig
from maskray.platform.train.solver import build_optimizer, learning_rate, learning_rate_factors, set_learning_rate

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
    assert learning_rate(CONFIG, step) == pytest.approx(expected, rel=1e-12)


COSINE = TrainConfig(
    steps=90, images_per_batch=16, base_lr=0.02, warmup_steps=10, warmup_factor=0.1, schedule="cosine", final_factor=0.1
)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.002),
        (5, 0.011),
        (10, 0.02),  # the end of warm-up: cos(0) = 1
        (30, 0.002 + 0.018 * (1 + 0.5**0.5) / 2),  # a quarter: cos(45 degrees)
        (50, 0.011),  # half way between lr and a tenth of it
        (90, 0.002),  # after the last step
    ],
)
def test_cosine_by_hand(step: int, expected: float) -> None:
    assert learning_rate(COSINE, step) == pytest.approx(expected, rel=1e-12)


@given(step=st.integers(10, 89))
def test_a_cosine_falls_at_every_step(step: int) -> None:
    assert learning_rate(COSINE, step + 1) < learning_rate(COSINE, step)


def test_a_warm_up_of_the_whole_length_has_no_cosine() -> None:
    config = COSINE.model_copy(update={"warmup_steps": 90})
    assert [learning_rate(config, step) for step in (0, 45, 90)] == pytest.approx([0.002, 0.011, 0.02])


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


def test_biases_may_have_their_own_weight_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.Linear(4, 2), nn.MultiheadAttention(4, 1))
    config = TrainConfig(steps=1, weight_decay=0.5, weight_decay_norm=0.25, weight_decay_bias=0.0)
    decay = {
        id(p): group["weight_decay"] for group in build_optimizer(model, config).param_groups for p in group["params"]
    }
    for name, parameter in model.named_parameters():
        expected = 0.25 if name.startswith("1.") else (0.0 if name.endswith("bias") else 0.5)
        assert decay[id(parameter)] == expected, name


def test_adamw_by_hand() -> None:
    """Two steps of gradient 1 and 3; decay beside the gradient (Loshchilov & Hutter 2019, algorithm 2)."""
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(2.0)
    config = TrainConfig.model_validate(
        {"steps": 1, "base_lr": 0.1, "warmup_steps": 0, "weight_decay": 0.5,
         "optimizer": {"name": "adamw", "betas": [0.5, 0.75], "eps": 1e-12}}
    )  # fmt: skip
    optimizer = build_optimizer(model, config)
    for gradient in (1.0, 3.0):
        optimizer.zero_grad()
        model(torch.full((1, 1), gradient)).sum().backward()
        optimizer.step()
    # w1 = 2 x (1 - 0.1 x 0.5) - 0.1 x 1 = 1.8; m2 = (0.5 x 0.5 x 1 + 0.5 x 3) / 0.75 = 7/3,
    # v2 = (0.75 x 0.25 x 1 + 0.25 x 9) / 0.4375 = 39/7; w2 = 1.8 x 0.95 - 0.1 x 7/3 / sqrt(39/7)
    assert model.weight.item() == pytest.approx(1.8 * 0.95 - 0.1 * (7 / 3) / (39 / 7) ** 0.5, rel=1e-6)


def test_nesterov_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(2.0)
    config = TrainConfig.model_validate(
        {
            "steps": 1,
            "base_lr": 0.1,
            "warmup_steps": 0,
            "weight_decay": 0,
            "optimizer": {"name": "sgd", "nesterov": True},
        }
    )
    optimizer = build_optimizer(model, config)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(1, 1)).sum().backward()
        optimizer.step()
    # v1 = 1, w1 = 2 - 0.1 x (1 + 0.9 x 1) = 1.81; v2 = 1.9, w2 = 1.81 - 0.1 x (1 + 0.9 x 1.9) = 1.539
    assert model.weight.item() == pytest.approx(1.539)


def tiny(**backbone: object) -> MaskRCNN:
    config = {"name": "resnet18", "stem_channels": 16, "res2_channels": 16, "freeze_stages": 0, "fpn_channels": 16}
    tree = {"backbone": config | backbone, "rpn": {"own_backbone": True}}
    return build_model(ModelConfig.model_validate(tree), InputConfig(), 2)


@pytest.mark.parametrize("norm", ["frozen_batch_norm", "group_norm"])
def test_the_backbone_learns_at_its_own_rate_by_stage(norm: str) -> None:
    model = tiny(norm=norm, freeze_stages=1)
    config = TrainConfig(steps=1, base_lr=0.1, warmup_steps=0, backbone_lr_factor=0.5, layer_decay=0.8)
    optimizer = build_optimizer(model, config)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    names = {name: rate[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    expected = {"res5": 0.04, "res4": 0.032, "res3": 0.0256, "res2": 0.02048}  # 0.1 x 0.5 x 0.8, 0.8^2, ...
    for name, found in names.items():
        parts = name.split(".")
        in_network = parts[0] in ("backbone", "rpn_backbone") and parts[1] == "resnet"
        assert found == pytest.approx(expected[parts[2]] if in_network else 0.1), name
    assert not any("stem" in name for name in names)
    set_learning_rate(optimizer, 0.2)
    assert {round(group["lr"], 6) for group in optimizer.param_groups} == {0.2, 0.08, 0.064, 0.0512, 0.04096}


def test_one_factor_for_the_whole_backbone() -> None:
    model = tiny()
    factors = learning_rate_factors(model, TrainConfig(steps=1, backbone_lr_factor=0.1))
    assert set(factors.values()) == {0.1}
    assert set(factors) == {name for name, _ in model.named_parameters() if "backbone.resnet." in name}
    assert learning_rate_factors(model, TrainConfig(steps=1)) == {}


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_a_network_that_tells_no_stages_has_one_rate() -> None:
    model = build_model(
        ModelConfig.model_validate({"backbone": {"name": "timm:hrnet_w18_small", "freeze_stages": 0}}), InputConfig(), 2
    )
    assert set(learning_rate_factors(model, TrainConfig(steps=1, backbone_lr_factor=0.1)).values()) == {0.1}
    with pytest.raises(ValueError, match="timm tells no stages of this network, which a learning rate by stage needs"):
        learning_rate_factors(model, TrainConfig(steps=1, layer_decay=0.9))


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_stages_of_a_network_of_timm() -> None:
    model = build_model(
        ModelConfig.model_validate({"backbone": {"name": "timm:convnext_atto", "freeze_stages": 0}}), InputConfig(), 2
    )
    factors = learning_rate_factors(model, TrainConfig(steps=1, layer_decay=0.5))
    assert set(factors) == {name for name, _ in model.named_parameters() if name.startswith("backbone.timm.")}
    assert {name.split(".")[3]: factor for name, factor in factors.items()} == {
        "stem_0": 1 / 32, "stem_1": 1 / 32, "stages_0": 1 / 16, "stages_1": 1 / 8, "stages_2": 1 / 4, "stages_3": 1 / 2
    }  # fmt: skip


def test_state_of_groups_without_factors_still_loads() -> None:
    """Those of checkpoints that were written before groups had any."""
    model = nn.Linear(2, 2)
    optimizer = build_optimizer(model, TrainConfig(steps=1))
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["lr_factor"]
    optimizer.load_state_dict(state)
    set_learning_rate(optimizer, 0.3)
    assert [group["lr"] for group in optimizer.param_groups] == [0.3]
