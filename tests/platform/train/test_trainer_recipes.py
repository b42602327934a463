"""Training with frozen parts, AdamW, a cosine, rates by stage, clipping and an average: exact after a resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maskray.model.build_model import build_model
from maskray.model.config import ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch
from maskray.platform.files.model_folder import read_model_folder
from maskray.platform.job.config import JobConfig
from maskray.platform.job.resume import training_config
from maskray.platform.train.checkpoint import list_checkpoints, newest_checkpoint, read_checkpoint
from maskray.platform.train.run_context import RunContext
from maskray.platform.train.run_files import RunFiles
from maskray.platform.train.stages import training_stages
from maskray.platform.train.trainer import Trainer
from maskray.platform.train.worker import build_trainer

MakeJob = Callable[..., JobConfig]
MakeBatches = Callable[..., Callable[[int], Iterator[Batch]]]
MakeContext = Callable[..., RunContext]

RECIPE: dict[str, Any] = {
    "steps": 6,
    "checkpoint_every": 3,
    "evaluate_every": 3,
    "base_lr": 0.001,
    "optimizer": {"name": "adamw", "betas": [0.9, 0.99]},
    "weight_decay": 0.05,
    "weight_decay_bias": 0.0,
    "schedule": "cosine",
    "backbone_lr_factor": 0.5,
    "layer_decay": 0.9,
    "clip_gradient_norm": 1.0,
    "ema": {"decay": 0.9},
    "freeze": ["rpn"],
}


class WeightValidation:
    """A metric of the weights that are evaluated."""

    def evaluate(self, model: MaskRCNN, rank: int, num_ranks: int) -> list[Any]:
        assert not model.training
        return [sum(p.detach().double().square().sum().item() for p in model.parameters())]

    def merge(self, parts: list[Any]) -> dict[str, float]:
        return {"segm/AP": 1.0 / parts[0]}


class Values(WeightValidation):
    """Metrics by a list, one after the other."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def merge(self, parts: list[Any]) -> dict[str, float]:
        return {"segm/AP": self.values.pop(0)}


@pytest.fixture
def make_context(make_spec: Callable[[JobConfig], ModelSpec]) -> MakeContext:
    def make(job: JobConfig, folder: Path, validate: Any = None) -> RunContext:
        config = training_config(job, "digest")
        return RunContext(job, make_spec(job), RunFiles(folder), config, validate=validate or WeightValidation())

    return make


def start(context: RunContext) -> tuple[Trainer, int]:
    (stage,) = training_stages(context.job.train, context.job.model)
    return build_trainer(context, stage, newest_checkpoint(context.record.checkpoints)[0])


def run(context: RunContext, batches: Callable[[int], Iterator[Batch]]) -> Trainer:
    trainer, first = start(context)
    if not (first and context.ends_at(first)):
        trainer.run(batches, first)
    return trainer


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for one, other in zip(left, right):
            assert_equal(one, other)
    else:
        assert left == right


@pytest.mark.slow
def test_a_resume_is_bit_equal_with_everything_on(
    make_job: MakeJob, make_context: MakeContext, make_batches: MakeBatches, tmp_path: Path
) -> None:
    job = make_job(**RECIPE)
    whole = run(make_context(job, tmp_path / "whole"), make_batches())

    class Cut(Exception):
        pass

    def cut(first: int) -> Iterator[Batch]:
        stream = make_batches()(first)
        for _ in range(4):
            yield next(stream)
        raise Cut

    with pytest.raises(Cut):
        run(make_context(job, tmp_path / "cut"), cut)
    assert [path.name for path in list_checkpoints(tmp_path / "cut" / "checkpoints")] == ["step-000003"]
    torch.manual_seed(99)  # nothing may depend on what happened before
    resumed = run(make_context(job, tmp_path / "cut"), make_batches())

    assert_equal(weights(resumed.bare_model), weights(whole.bare_model))
    ends = [read_checkpoint(tmp_path / name / "checkpoints" / "step-000006") for name in ("whole", "cut")]
    assert_equal(ends[1].weights, ends[0].weights)
    assert_equal(ends[1].state, ends[0].state)
    evaluated = [
        {line["step"]: line["val/segm/AP"] for line in RunFiles(tmp_path / name).history() if "val/segm/AP" in line}
        for name in ("whole", "cut")
    ]
    assert evaluated[0] == evaluated[1]
    assert set(evaluated[0]) == {3, 6}


@pytest.mark.slow
def test_the_average_is_what_is_kept_and_evaluated_and_the_weights_stand_beside(
    make_job: MakeJob, make_context: MakeContext, make_batches: MakeBatches, tmp_path: Path
) -> None:
    """By a plain loop over the weights of a run without an average, in which every step is kept."""
    decay = 0.6
    plain = make_job(steps=4, checkpoint_every=1, keep_checkpoints=9)
    run(make_context(plain, tmp_path / "plain"), make_batches())
    steps = [read_checkpoint(path).weights for path in list_checkpoints(tmp_path / "plain" / "checkpoints")]
    torch.manual_seed(plain.seed)
    average = weights(build_model(plain.model, plain.input, 2))
    for number, after in enumerate(steps, 1):
        share = min(decay, (1 + number) / (10 + number))
        average = {name: share * average[name] + (1 - share) * tensor for name, tensor in after.items()}

    job = make_job(steps=4, checkpoint_every=2, evaluate_every=2, ema={"decay": decay})
    trainer = run(make_context(job, tmp_path / "ema"), make_batches())
    last = read_checkpoint(tmp_path / "ema" / "checkpoints" / "step-000004")
    for name, tensor in last.weights.items():
        torch.testing.assert_close(tensor, average[name], rtol=1e-5, atol=1e-7)
        assert torch.equal(last.state["weights"][name], steps[-1][name])  # the average changes no step
        assert torch.equal(trainer.bare_model.state_dict()[name], steps[-1][name])
    model, _ = read_model_folder(tmp_path / "ema" / "checkpoints" / "step-000004")
    assert_equal(weights(model), last.weights)
    size = sum(p.double().square().sum().item() for p in model.parameters())
    assert RunFiles(tmp_path / "ema").history()[-1]["val/segm/AP"] == pytest.approx(1 / size, rel=1e-12)


def test_frozen_parts_are_as_they_were(
    make_job: MakeJob, make_context: MakeContext, make_batches: MakeBatches, tmp_path: Path
) -> None:
    job = make_job(steps=2, freeze=["backbone", "box_head"])
    torch.manual_seed(job.seed)
    before = weights(build_model(job.model, job.input, 2))
    after = weights(run(make_context(job, tmp_path), make_batches()).bare_model)
    still = ("backbone.resnet.", "roi_heads.box_head.")
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]) == name.startswith(still), name


def test_a_checkpoint_without_an_average_goes_on_as_before(
    make_job: MakeJob, make_context: MakeContext, make_batches: MakeBatches, tmp_path: Path
) -> None:
    """One written by a version that knew neither averages nor factors of the learning rate."""
    job = make_job(steps=2)
    run(make_context(job, tmp_path), make_batches())
    state = read_checkpoint(tmp_path / "checkpoints" / "step-000002").state
    assert set(state) == {"optimizer", "seed"}
    with pytest.raises(ValueError, match=r"train\.ema\.decay was None and is 0\.9998"):
        start(make_context(make_job(steps=2, ema={}), tmp_path))


@pytest.mark.slow
def test_training_ends_without_a_better_evaluation_and_goes_on_with_more_patience(
    make_job: MakeJob, make_context: MakeContext, make_batches: MakeBatches, tmp_path: Path
) -> None:
    train: dict[str, Any] = {"steps": 6, "checkpoint_every": 1, "evaluate_every": 1, "keep_checkpoints": 1}
    context = make_context(make_job(**train, patience=2), tmp_path, Values(0.1, 0.3, 0.2, 0.3))
    run(context, make_batches())
    (event,) = [event for event in context.record.events() if event["event"] == "early_stop"]
    assert (event["step"], event["best_step"], event["best"], event["patience"]) == (4, 2, 0.3, 2)
    names = [path.name for path in list_checkpoints(tmp_path / "checkpoints")]
    assert names == ["step-000002", "step-000004"]  # the best and the newest

    again = make_context(make_job(**train, patience=2), tmp_path, Values())
    run(again, make_batches())  # as a worker that is started anew: nothing is trained
    assert [event["event"] for event in again.record.events()].count("early_stop") == 1
    assert max(line["step"] for line in again.record.history()) == 4

    more = make_context(make_job(**train, patience=3), tmp_path, Values(0.2))
    run(more, make_batches())
    assert max(line["step"] for line in more.record.history()) == 5
    assert [e["step"] for e in more.record.events() if e["event"] == "early_stop"] == [4, 5]

    endless = make_context(make_job(**train), tmp_path, Values(0.1))
    run(endless, make_batches())
    assert max(line["step"] for line in endless.record.history()) == 6


def test_patience_that_ends_with_the_last_step_is_no_early_stop(
    make_job: MakeJob, make_context: MakeContext, make_batches: MakeBatches, tmp_path: Path
) -> None:
    job = make_job(steps=2, checkpoint_every=1, evaluate_every=1, patience=1)
    context = make_context(job, tmp_path, Values(0.3, 0.1))
    run(context, make_batches())
    assert [event["event"] for event in context.record.events()].count("early_stop") == 0
