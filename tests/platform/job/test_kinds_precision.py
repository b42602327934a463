"""What `maskray check` says of the precision of a job on this machine."""

from __future__ import annotations

from typing import Any

import pytest

from maskray.platform.job.config import JobConfig
from maskray.platform.job.kinds import precision_lines
from maskray.platform.job.load import validate_tree
from maskray.platform.machine import precision
from maskray.platform.machine.precision import Measurement

FAST, SLOW = Measurement("a processor", 3.0, 1.0), Measurement("a processor", 1.0, 1.6)


def job_of(asked: str, gpus: float = 0.0) -> JobConfig:
    source = {"kind": "synthetic", "num_images": 40}
    tree: dict[str, Any] = {
        "name": "a",
        "data": {"train": source, "val": source},
        "model": {"inference": {"precision": asked}},
        "train": {"steps": 30, "images_per_batch": 8},
        "resources": {"gpus_per_worker": gpus},
    }
    return validate_tree(JobConfig, tree)


@pytest.mark.parametrize(
    ("asked", "known", "said"),
    [
        ("float32", SLOW, []),
        ("bfloat16", None, []),
        ("bfloat16", FAST, []),
        (
            "bfloat16",
            SLOW,
            ["bfloat16 takes 1.6 times as long as float32 on a processor, this machine; auto would take float32"],
        ),
        ("auto", FAST, ["auto takes bfloat16; bfloat16 is 3.00 times as fast as float32 on a processor, this machine"]),
        ("auto", None, ["auto takes float32; bfloat16 is 0.62 times as fast as float32 on a processor, this machine"]),
    ],
)
def test_what_is_said(monkeypatch, asked, known, said):
    monkeypatch.setattr(precision, "remembered_precision", lambda: known)
    monkeypatch.setattr(precision, "measured_precision", lambda: known or SLOW)
    assert precision_lines(job_of(asked)) == [f"model.inference.precision: {line}" for line in said]


def test_of_a_gpu_nothing_is_said(monkeypatch):
    monkeypatch.setattr(precision, "measured_precision", lambda: FAST)
    assert precision_lines(job_of("auto", gpus=1.0)) == []
