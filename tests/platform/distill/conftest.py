"""A tiny distillation: twelve labelled pictures, others without labels, and a network that trains in seconds."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from small_network import SMALL_INPUT, SMALL_MODEL

IMAGE = {"kind": "synthetic", "height": 64, "width": 96, "max_objects": 3, "classes": ["square", "star"]}
TREE: dict[str, Any] = {
    "name": "tiny",
    "kind": "distill",
    "data": {"train": {**IMAGE, "num_images": 12, "seed": 1}, "val": {**IMAGE, "num_images": 6, "seed": 2}},
    "input": SMALL_INPUT,
    "model": SMALL_MODEL,
    "train": {
        "steps": 6, "images_per_batch": 4, "reference_images_per_batch": 4, "warmup_steps": 1,
        "checkpoint_every": 2, "log_every": 1,
    },
    "distill": {
        "unlabelled": {**IMAGE, "num_images": 120, "seed": 3},
        "tta": {"scales": [48, 64]},
    },
    "resources": {"num_workers": 1, "num_evaluators": 1},
    "evaluation": {"report_images": 0},
}  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Any]:
    """Keys and values of the job, to change."""
    return copy.deepcopy(TREE) | {"output": str(tmp_path / "outputs")}
