"""Tests of what the terminal shows of a run."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from maskray.platform.train.run_files import RunFiles
from maskray.platform.train.training_progress import TrainingProgress, format_seconds


def test_lines_without_a_terminal(tmp_path: Path) -> None:
    record = RunFiles(tmp_path)
    record.note("start", step=5, device="cpu", workers=[{"rank": 0, "host": "gone", "pid": 1}])
    output = io.StringIO()
    with TrainingProgress(record, steps=40, images_per_batch=4, console=Console(file=output, width=200)):
        record.note("checkpoint_passed_over", reason="step-000020/trainer.pt: cut short, 1 of 2 bytes")
        record.note("start", step=10, device="cpu", workers=[{"rank": r, "host": "node-a", "pid": r} for r in (0, 1)])
        metrics = {"loss": 1.25, "lr": 0.02, "images_per_second": 8.0, "data_wait_share": 0.031}
        record.log(metrics, 20)
        record.note("evaluation", step=20, metrics={"bbox/AP": 0.5, "bbox/AP50": 0.9, "segm/AP": None})
        record.note("early_stop", step=20, best_step=10, best=0.5, patience=3)
        record.note("early_stop", step=20, best_step=0, best=None, patience=2)
    lines = output.getvalue().splitlines()
    assert [line.rstrip() for line in lines] == [
        "checkpoint passed over: step-000020/trainer.pt: cut short, 1 of 2 bytes",
        "training resumed after step 10: 2 workers on cpu, node-a",
        "evaluation after step 20: bbox/AP 0.500",
        "training ends after step 20: none of 3 evaluations was better than after step 10",
        "training ends after step 20: none of 2 evaluations was a number",
        "step 20/40  loss 1.2500  lr 0.02  8.0 images/s  data wait 3%  left 00:10",
    ]


def test_bar_in_a_terminal(tmp_path: Path) -> None:
    record = RunFiles(tmp_path)
    output = io.StringIO()
    console = Console(file=output, width=160, force_terminal=True)
    with TrainingProgress(record, steps=40, images_per_batch=4, console=console):
        record.note("start", step=0, device="cpu", workers=[{"rank": 0, "host": "node-a", "pid": 1}])
        record.log({"loss": 1.25, "lr": 0.02, "images_per_second": 8.0, "data_wait_share": 0.0}, 20)
    assert "20/40" in output.getvalue()
    assert "loss 1.2500" in output.getvalue()


def test_times() -> None:
    assert [format_seconds(s) for s in (0, 61.9, 3600, 36061)] == ["00:00", "01:01", "1:00:00", "10:01:01"]
