"""Sizes of the published models, and options that change them."""

from __future__ import annotations

import pytest
import torch

from maskray.model.build_model import build_model
from maskray.model.config import BackboneConfig, InputConfig, ModelConfig


@pytest.mark.parametrize(("name", "count"), [("resnet50", 44_343_216), ("resnet101", 63_283_120)])
def test_number_of_parameters_is_the_published_one(name: str, count: int) -> None:
    with torch.device("meta"):
        model = build_model(ModelConfig(backbone=BackboneConfig(name=name)), InputConfig(), 80)  # type: ignore[arg-type]
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_without_masks_there_is_no_mask_head(tiny_config: ModelConfig) -> None:
    model = build_model(tiny_config.model_copy(update={"masks": False}), InputConfig(), 3)
    assert not [name for name in model.state_dict() if "mask" in name]


def test_equal_seeds_give_equal_models(tiny_config: ModelConfig) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build_model(tiny_config, InputConfig(), 3).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_number_of_classes_is_checked(tiny_config: ModelConfig) -> None:
    with pytest.raises(ValueError, match="num_classes must be 1 or more, not 0"):
        build_model(tiny_config, InputConfig(), 0)
