"""Tests of how a worker builds or resumes its trainer, in one process and without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from maskray.model.config import ModelSpec
from maskray.model.structures import Batch
from maskray.platform.job.config import JobConfig
from maskray.platform.job.resume import check_same_config, training_config
from maskray.platform.train.checkpoint import list_checkpoints, newest_checkpoint
from maskray.platform.train.context import LocalContext, SharedError, agree
from maskray.platform.train.run_context import RunContext
from maskray.platform.train.run_files import RunFiles
from maskray.platform.train.stages import training_stages
from maskray.platform.train.trainer import Trainer
from maskray.platform.train.worker import build_trainer

MakeJob = Callable[..., JobConfig]
MakeContext = Callable[..., RunContext]
MakeBatches = Callable[..., Callable[[int], Iterator[Batch]]]


class FallingValidation:
    """Gives less each time, so that the first evaluated checkpoint is the best."""

    def __init__(self, metric: str = "segm/AP") -> None:
        self.metric = metric
        self.calls = 0

    def evaluate(self, model: Any, rank: int, num_ranks: int) -> list[Any]:
        assert not model.training
        self.calls += 1
        return [self.calls]

    def merge(self, parts: list[Any]) -> dict[str, float]:
        return {self.metric: 1.0 / sum(parts)}


@pytest.fixture
def make_context(tmp_path: Path, make_spec: Callable[[JobConfig], ModelSpec]) -> MakeContext:
    def make(job: JobConfig, digest: str = "abc", **options: Any) -> RunContext:
        return RunContext(job, make_spec(job), RunFiles(tmp_path), training_config(job, digest), **options)

    return make


def start(context: RunContext) -> tuple[Trainer, int]:
    """The trainer of a joint run, from the newest checkpoint there is."""
    (stage,) = training_stages(context.job.train, context.job.model)
    return build_trainer(context, stage, newest_checkpoint(context.record.checkpoints)[0])


def test_best_checkpoint_outlives_the_newest(
    make_job: MakeJob, make_context: MakeContext, make_batches: MakeBatches, tmp_path: Path
) -> None:
    job = make_job(steps=5, checkpoint_every=1, evaluate_every=1, keep_checkpoints=2)
    reported: list[tuple[dict[str, float], Path]] = []
    context = make_context(
        job, validate=FallingValidation(), report=lambda metrics, path: reported.append((metrics, path))
    )
    trainer, start_step = start(context)
    trainer.run(make_batches(), start_step)
    assert trainer.model.training
    names = [path.name for path in list_checkpoints(tmp_path / "checkpoints")]
    assert names == ["step-000001", "step-000004", "step-000005"]
    assert [metrics["segm/AP"] for metrics, _ in reported] == [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert reported[-1][1] == tmp_path / "checkpoints" / "step-000005"


def test_a_finished_run_has_nothing_left_to_do(
    make_job: MakeJob, make_context: MakeContext, make_batches: MakeBatches
) -> None:
    job = make_job(steps=2)
    trainer, _ = start(make_context(job))
    trainer.run(make_batches())
    again, start_step = start(make_context(job))
    assert start_step == 2
    again.run(make_batches(), start_step)
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor)


def test_a_checkpoint_of_another_configuration_is_refused(
    make_job: MakeJob, make_context: MakeContext, make_batches: MakeBatches
) -> None:
    job = make_job(steps=2)
    trainer, _ = start(make_context(job))
    trainer.run(make_batches())
    with pytest.raises(SharedError, match=r"another configuration: train\.base_lr was 0\.01 and is 0\.02; give"):
        start(make_context(make_job(steps=2, base_lr=0.02)))
    with pytest.raises(SharedError, match=r"data\.train was 'abc' and is 'def'"):
        start(make_context(job, digest="def"))
    longer, start_step = start(make_context(make_job(steps=4, log_every=2)))  # these change no step taken
    assert (start_step, longer.config.steps) == (2, 4)


def test_differences_are_counted_beyond_three() -> None:
    with pytest.raises(ValueError, match=r"a was 1 and is 2, b was 1 and is None, c was 1 and is 2, and 1 more"):
        check_same_config('{"a": 1, "b": 1, "c": 1, "d": 1}', '{"a": 2, "c": 2, "d": 3}')


def test_initial_weights_that_do_not_load_are_told_to_all(make_job: MakeJob, make_context: MakeContext) -> None:
    with pytest.raises(SharedError, match=r"no-such-file\.safetensors"):
        start(make_context(make_job(initial_weights="no-such-file.safetensors")))


def test_an_unknown_best_metric_lists_what_there_is(
    make_job: MakeJob, make_context: MakeContext, make_batches: MakeBatches
) -> None:
    job = make_job(evaluate_every=2)
    trainer, _ = start(make_context(job, validate=FallingValidation("bbox/AP")))
    with pytest.raises(ValueError, match=r"best_metric: no metric 'segm/AP'; evaluation gives bbox/AP"):
        trainer.run(make_batches())


def test_a_mistake_of_one_rank_reaches_the_others() -> None:
    class SecondOfTwo(LocalContext):
        def gather(self, value: Any) -> list[Any]:
            return ["the first rank's mistake", value]

    assert agree(LocalContext(), lambda: 5) == 5
    with pytest.raises(SharedError, match="the first rank's mistake"):
        agree(SecondOfTwo(), lambda: 5)
