"""A tiny sweep: two RoI operations and two seeds of a network that trains in seconds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_network import SMALL_INPUT, SMALL_MODEL

from maskray.model.presets import merge
from maskray.platform.job.load import validate_tree
from maskray.platform.job.sweep_config import SweepConfig

IMAGE = {"kind": "synthetic", "height": 64, "width": 96, "max_objects": 3, "classes": ["square", "star"]}
TREE: dict[str, Any] = {
    "name": "tiny",
    "kind": "sweep",
    "base": {
        "data": {"train": {**IMAGE, "num_images": 12, "seed": 1}, "val": {**IMAGE, "num_images": 6, "seed": 2}},
        "input": SMALL_INPUT,
        "model": merge(SMALL_MODEL, {"backbone": {"stem_channels": 16, "res2_channels": 16}}),
        "train": {
            "steps": 4, "images_per_batch": 2, "reference_images_per_batch": 2, "warmup_steps": 1,
            "checkpoint_every": 2, "evaluate_every": 2, "log_every": 1,
        },
        "resources": {"num_workers": 1, "num_evaluators": 1},
    },
    "variants": {
        "RoIPool max": {"model.roi_op.name": "roi_pool", "model.roi_op.reduction": "max"},
        "RoIAlign mean": {"model.roi_op.name": "roi_align"},
    },
    "seeds": [1, 2],
}  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Any]:
    """Keys and values of the sweep, to change."""
    return copy.deepcopy(TREE) | {"output": str(tmp_path)}


@pytest.fixture
def make_sweep(tree: dict[str, Any]) -> Callable[..., SweepConfig]:
    """Builds the sweep with some of its keys changed."""

    def make(**changes: Any) -> SweepConfig:
        return validate_tree(SweepConfig, tree | changes)

    return make
