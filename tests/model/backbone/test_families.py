"""The table of families, and the page that shows how one is added: its lines stand in the files that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from maskray.model.backbone.families import FAMILIES, build_backbone, build_stage_head
from maskray.model.config import BackboneConfig

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "add-a-backbone.md").read_text(encoding="utf-8")


def shown_lines() -> list[tuple[str, str]]:
    """File and line of all that the page shows as added."""
    lines = []
    for block in re.findall(r"^```diff\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE):
        file = ""
        for line in block.splitlines():
            if line.startswith("--- "):
                file = line.removeprefix("--- ")
            elif line.startswith("+"):
                lines.append((file, line[1:]))
    return lines


def test_the_page_shows_lines_that_are_there() -> None:
    shown = shown_lines()
    assert len(shown) > 20
    for file, line in shown:
        assert line in (ROOT / file).read_text(encoding="utf-8").splitlines(), f"{file} has no line {line!r}"


@pytest.mark.parametrize("features", ["fpn", "c4", "c5", "dc5"])
def test_weights_stand_under_the_name_of_the_family(features: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(BackboneConfig.model_validate({"name": "resnet18", "features": features}))
    own = {name.partition(".")[0] for name in backbone.state_dict()}
    assert own == ({"resnet", "lateral", "output"} if features == "fpn" else {"resnet"})
    assert backbone.strides == {"fpn": (4, 8, 16, 32, 64), "c5": (32,)}.get(features, (16,))
    assert backbone.channels == {"fpn": 256, "c4": 256}.get(features, 512)


def test_res5_is_the_head_of_a_region() -> None:
    for frozen, stages in ((False, 4), (True, 5)):
        config = BackboneConfig(name="resnet50", features="c4", freeze_stages=stages)
        with torch.device("meta"):
            stage, channels = build_stage_head(config, 2)
            regions = stage(torch.zeros(3, 1024, 14, 14))
        assert tuple(regions.shape) == (3, channels, 7, 7) == (3, 2048, 7, 7)
        assert {parameter.requires_grad for parameter in stage.parameters()} == {not frozen}
    assert [name for name, family in FAMILIES.items() if family.build_stage_head] == ["resnet"]
