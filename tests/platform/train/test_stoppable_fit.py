"""Tests of waiting for training with signals of our own: what workers are told, and what is said of the last steps."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from maskray.platform.files.lease import Lease, LeaseLostError
from maskray.platform.files.lease_store import lease_store
from maskray.platform.machine.stop_signals import StopRequested, StopSignals
from maskray.platform.train import stoppable_fit
from maskray.platform.train.context import Wishes
from maskray.platform.train.run_files import RunFiles
from maskray.platform.train.stoppable_fit import fit_until_stopped
from maskray.platform.train.worker_lease import WorkerLease


@pytest.fixture
def lease(tmp_path: Path) -> Iterator[Lease]:
    with Lease(lease_store(tmp_path), beat_seconds=0.1) as lease:
        yield lease


def train_until_told(folder: Path, number: int, checkpoint: bool) -> Callable[[], Any]:
    """What rank 0 of the workers does: a step after another, and a checkpoint at the end."""
    worker = WorkerLease(folder, number)
    record = RunFiles(folder, worker.check)

    def fit() -> str:
        for step in range(1, 3000):
            record.log({"loss": 1.0}, step)
            time.sleep(0.02)
            if worker.stop() is not None:
                if checkpoint:
                    (folder / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
                    record.note("checkpoint", step=step)
                return "ended"
        return "never told"

    return fit


def send_when_begun(folder: Path, number: signal.Signals) -> None:
    def send() -> None:
        while RunFiles(folder).newest_metrics() is None:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_training_with_a_checkpoint(tmp_path: Path, lease: Lease, number: signal.Signals) -> None:
    with StopSignals() as signals:
        send_when_begun(tmp_path, number)
        with pytest.raises(StopRequested, match=rf"^stopped by {number.name} after step \d+, whose checkpoint"):
            fit_until_stopped(train_until_told(tmp_path, lease.number, True), RunFiles(tmp_path), lease, signals)


def test_workers_that_do_not_answer_are_told_of(tmp_path: Path, lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stoppable_fit, "GRACE_SECONDS", 0.5)
    ended = threading.Event()

    def deaf() -> None:
        RunFiles(tmp_path).log({"loss": 1.0}, 7)
        ended.wait(60)

    with StopSignals() as signals:
        send_when_begun(tmp_path, signal.SIGTERM)
        started = time.monotonic()
        with pytest.raises(StopRequested, match="near step 7; the workers wrote no checkpoint in time, and"):
            fit_until_stopped(deaf, RunFiles(tmp_path), lease, signals)
        assert time.monotonic() - started < 30
    ended.set()


def test_without_a_signal_results_and_errors_come_through(tmp_path: Path, lease: Lease) -> None:
    with StopSignals() as signals:
        assert fit_until_stopped(lambda: 5, RunFiles(tmp_path), lease, signals) == 5
        with pytest.raises(KeyError):
            fit_until_stopped(lambda: {}["a"], RunFiles(tmp_path), lease, signals)


def test_workers_of_a_driver_that_was_followed_write_nothing(tmp_path: Path) -> None:
    """Both of two resumes trained, the second overwrote checkpoints of the first, and the history had steps twice."""
    first = Lease(lease_store(tmp_path), beat_seconds=1000)
    worker = WorkerLease(tmp_path, first.number)
    record = RunFiles(tmp_path, worker.check)
    record.log({"loss": 1.0}, 1)
    record.note("start", step=0)
    lease_store(tmp_path).delete(first.number)  # as who takes over does
    for write in (
        lambda: record.log({"loss": 1.0}, 2),
        lambda: record.note("checkpoint", step=2),
        lambda: record.forget_after(0),
    ):
        with pytest.raises(LeaseLostError):
            write()
    assert [line["step"] for line in RunFiles(tmp_path).history()] == [1]
    assert [event["event"] for event in RunFiles(tmp_path).events()] == ["start"]
    first.release()


def test_a_node_that_goes_away_is_a_wish_for_one_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskray.platform.train import worker_lease

    worker = WorkerLease(tmp_path, None)
    near = iter([False, True, True, True])
    monkeypatch.setattr(worker_lease, "preemption_is_near", lambda: next(near))
    assert [worker.wishes().save for _ in range(3)] == [False, True, False]
    assert worker.wishes() == Wishes()
