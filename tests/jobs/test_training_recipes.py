"""Every recipe in docs/training.md is part of a job that can run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from maskray.platform.job.config import JobConfig
from maskray.platform.job.load import validate_tree
from maskray.platform.job.plan import plan_job

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
RECIPES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: next(iter(next(iter(recipe.values())))))
def test_recipe_can_run(recipe: dict[str, Any]) -> None:
    source = {"kind": "synthetic", "num_images": 400}
    tree: dict[str, Any] = {"name": "a", "data": {"train": source, "val": source}, "train": {"steps": 10}}
    tree["train"] = recipe.get("train", tree["train"])
    tree["data"] |= recipe.get("data", {})
    plan = plan_job(validate_tree(JobConfig, tree))
    assert plan.problems == ()
    assert not any(warning.startswith("the learning rate") for warning in plan.warnings)


def test_there_are_recipes() -> None:
    assert len(RECIPES) == 3
