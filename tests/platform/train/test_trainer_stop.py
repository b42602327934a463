"""Tests of checkpoints that are asked for between those that are due: by time, before a node goes, and to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from maskray.model.config import ModelSpec
from maskray.model.structures import Batch
from maskray.platform.job.config import JobConfig
from maskray.platform.job.resume import training_config
from maskray.platform.train.checkpoint import list_checkpoints, newest_checkpoint, read_checkpoint
from maskray.platform.train.context import Wishes
from maskray.platform.train.run_context import RunContext
from maskray.platform.train.run_files import RunFiles
from maskray.platform.train.stages import training_stages
from maskray.platform.train.worker import build_trainer

Run = Callable[..., RunContext]


class NoValidation:
    """Fails where it is asked."""

    def evaluate(self, model: Any, rank: int, num_ranks: int) -> list[Any]:
        raise AssertionError("an evaluation would come before the end")

    def merge(self, parts: list[Any]) -> dict[str, float]:
        raise AssertionError


@pytest.fixture
def run(make_job: Callable[..., JobConfig], make_spec: Callable[[JobConfig], ModelSpec],
        make_batches: Callable[..., Callable[[int], Iterator[Batch]]]) -> Run:  # fmt: skip
    """Trains the tiny job in a folder, from its newest checkpoint, and gives the context."""

    def run(folder: Path, wishes: list[Wishes] | None = None, validate: Any = None, **train: Any) -> RunContext:
        job = make_job(**{"steps": 6, "checkpoint_every": 6, "keep_checkpoints": 9, **train})
        asked = iter(wishes or [])
        context = RunContext(
            job, make_spec(job), RunFiles(folder), training_config(job, "abc"), validate=validate,
            wished=lambda: next(asked, Wishes()),
        )  # fmt: skip
        (stage,) = training_stages(job.train, job.model)
        trainer, start_step = build_trainer(context, stage, newest_checkpoint(context.record.checkpoints)[0])
        trainer.run(make_batches(), start_step)
        return context

    return run


def steps_of_checkpoints(context: RunContext) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in list_checkpoints(context.record.checkpoints)]


def test_a_stop_ends_training_with_the_step_it_is_at_and_the_rest_is_bit_equal(run: Run, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    wishes = [Wishes(), Wishes(), Wishes(stop=True)]
    stopped = run(tmp_path / "cut", wishes, NoValidation(), evaluate_every=6)
    assert stopped.stopped
    assert steps_of_checkpoints(stopped) == [3]
    assert [line["step"] for line in stopped.record.history()] == [1, 2, 3]
    again = run(tmp_path / "cut")
    assert not again.stopped
    assert [line["loss"] for line in again.record.history()] == [line["loss"] for line in whole.record.history()]
    expected, found = (read_checkpoint(context.record.checkpoints / "step-000006") for context in (whole, again))
    assert all(torch.equal(tensor, expected.weights[name]) for name, tensor in found.weights.items())


def test_a_checkpoint_before_a_node_goes_changes_nothing_else(run: Run, tmp_path: Path) -> None:
    context = run(tmp_path, [Wishes(), Wishes(save=True)])
    assert steps_of_checkpoints(context) == [2, 6]
    assert not context.stopped


def test_checkpoints_by_time_come_beside_those_by_steps(run: Run, tmp_path: Path) -> None:
    assert steps_of_checkpoints(run(tmp_path / "often", checkpoint_every_minutes=1e-6)) == [1, 2, 3, 4, 5, 6]
    assert steps_of_checkpoints(run(tmp_path / "seldom", checkpoint_every_minutes=1e6)) == [6]
