"""The backbone by name: what a family brings, what it refuses, and names that no family has."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from maskray.model.config import BackboneConfig, ModelConfig

CONVNEXT = "timm:convnext_tiny"


def test_a_name_tells_family_and_architecture() -> None:
    resnext, convnext = BackboneConfig(name="resnext50_32x4d"), BackboneConfig(name=CONVNEXT)
    assert (resnext.family, resnext.architecture) == ("resnet", "resnext50_32x4d")
    assert (convnext.family, convnext.architecture) == ("timm", "convnext_tiny")
    assert convnext.size_divisor == 32


def test_a_network_of_timm_keeps_its_own_norm_unless_told() -> None:
    assert BackboneConfig().norm == "frozen_batch_norm"
    assert BackboneConfig(name=CONVNEXT).norm == "own"
    assert BackboneConfig(name=CONVNEXT, norm="frozen_batch_norm").norm == "frozen_batch_norm"
    config = ModelConfig.model_validate({"backbone": {"name": CONVNEXT}})
    assert ModelConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"features": "c4"}, "backbone.features is c4: a network of timm takes fpn alone"),
        ({"features": "c5"}, "backbone.features is c5: a network of timm takes fpn alone"),
        ({"gradient_checkpointing": "all"}, "gradient_checkpointing is all: not supported for networks of timm"),
        ({"norm": "group_norm"}, "can be own, frozen_batch_norm, batch_norm or sync_batch_norm"),
        ({"stem_channels": 32}, "stem_channels 32 has no effect: timm:convnext_tiny is built by timm"),
        ({"norm_eps": 1e-3}, "norm_eps 0.001 has no effect"),
        ({"name": "resnet50", "norm": "own"}, "backbone.norm own is for networks of timm, resnet50 is none"),
    ],
)
def test_keys_of_another_family_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate({"backbone": {"name": CONVNEXT} | keys})


@pytest.mark.parametrize("name", ["vgg", "timm:", "timm:convnext_tiny.in12k", "timm:hf-hub:someone/model", 3, None])
def test_a_name_of_no_family_is_one_mistake(name: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        ModelConfig.model_validate({"backbone": {"name": name}})
    (mistake,) = caught.value.errors()
    assert mistake["loc"] == ("backbone", "name")
    assert mistake["msg"].startswith("Value error, Input should be 'resnet18', ")
    assert mistake["msg"].endswith("or timm:ARCHITECTURE, such as timm:convnext_tiny")
