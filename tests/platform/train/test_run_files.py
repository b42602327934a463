"""Tests of the files that a run writes as it goes."""

from __future__ import annotations

from pathlib import Path

from maskray.platform.train.run_files import Failure, RunFiles


def test_history_is_read_back_and_forgets_what_will_be_repeated(tmp_path: Path) -> None:
    record = RunFiles(tmp_path / "run")
    for step in (1, 2, 3, 4):
        record.log({"loss": step / 10, "val/AP": float("nan")}, step)
    record.forget_after(2)
    record.log({"loss": 7.0}, 3)
    assert [(line["step"], line["loss"]) for line in record.history()] == [(1, 0.1), (2, 0.2), (3, 7.0)]
    assert record.history()[0]["val/AP"] is None


def test_a_line_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    record = RunFiles(tmp_path)
    record.log({"loss": 1.0}, 1)
    with record.history_path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert [line["step"] for line in record.history()] == [1]
    record.forget_after(1)
    record.log({"loss": 2.0}, 2)
    assert [line["step"] for line in record.history()] == [1, 2]


def test_newest_metrics_of_a_long_history(tmp_path: Path) -> None:
    record = RunFiles(tmp_path)
    assert record.newest_metrics() is None
    for step in range(1, 1001):
        record.log({"loss": float(step), "padding": 1.0 / 3.0}, step)
    record.log({"val/segm/AP": 0.5}, 1000)
    metrics = record.newest_metrics()
    assert metrics is not None
    assert metrics["loss"] == 1000.0


def test_the_first_failure_stays(tmp_path: Path) -> None:
    record = RunFiles(tmp_path)
    assert record.failure() is None
    record.write_failure(Failure("ValueError", 1, "image 7 is not readable"))
    record.write_failure(Failure("ValueError", 0, "connection closed"))
    assert record.failure() == Failure("ValueError", 1, "image 7 is not readable")
    record.clear_failure()
    record.clear_failure()
    assert record.failure() is None
