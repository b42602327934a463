"""A whole run with its length in epochs that ends early, and is asked to go on."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from small_network import SMALL_INPUT, SMALL_MODEL

from maskray.platform.files.model_folder import read_model_folder
from maskray.platform.job.config import JobConfig
from maskray.platform.job.load import load_job
from maskray.platform.runs.summary import RunSummary
from maskray.platform.runs.training import run_training

IMAGE = {"kind": "synthetic", "height": 64, "width": 96, "max_objects": 3, "classes": ["square", "star"]}


def make_job(output: Path, **train: Any) -> JobConfig:
    """Of a network that stands still, so that no evaluation is better than the first: 3 steps an epoch."""
    return JobConfig.model_validate(
        {
            "name": "early",
            "output": str(output),
            "data": {
                "train": {**IMAGE, "num_images": 12, "seed": 1},
                "val": {**IMAGE, "num_images": 4, "seed": 2},
                "repeat_factor_threshold": 0.9,
            },
            "input": SMALL_INPUT,
            "model": SMALL_MODEL,
            "train": {
                "epochs": 4,
                "images_per_batch": 4,
                "base_lr": 1e-12,
                "weight_decay": 0,
                "warmup_steps": 1,
                "checkpoint_every_epochs": 1,
                "evaluate_every_epochs": 1,
                "log_every": 1,
                "ema": {},
                **train,
            },
            "resources": {"num_workers": 1, "num_evaluators": 1},
            "evaluation": {"report_images": 0},
        }
    )


def run(job: JobConfig, resume: bool = False) -> tuple[RunSummary, str]:
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        return run_training(job, resume), told.getvalue()


def steps(summary: RunSummary) -> list[int]:
    lines = (summary.folder / "history.jsonl").read_text().splitlines()
    return [line["step"] for line in map(json.loads, lines) if "loss" in line]


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_in_epochs_ends_early_and_starts_nothing_when_it_is_asked_again(tmp_path: Path) -> None:
    summary, told = run(make_job(tmp_path, patience=1))
    assert "length: 4 epochs of 12 images = 12 steps" in told
    assert "training ended early, after step 6" in told
    assert steps(summary) == [1, 2, 3, 4, 5, 6]
    assert summary.checkpoint.name == "step-000003"  # the older one of equals
    read_model_folder(summary.checkpoint)
    written = load_job(summary.folder / "job.yaml").train
    assert (written.epochs, written.steps, written.checkpoint_every_epochs) == (4, None, 1)

    again, told = run(make_job(tmp_path, patience=1, epochs=5), resume=True)
    assert steps(again) == [1, 2, 3, 4, 5, 6]
    assert "training ended early, after step 6" in told
    with pytest.raises(ValueError, match=r"train\.steps 3: the run has trained 6 steps already; ask for more"):
        run(make_job(tmp_path, epochs=1, patience=2), resume=True)
