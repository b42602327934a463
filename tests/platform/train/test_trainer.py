"""Tests of the training loop without Ray: accumulation, clipping, exact resume, and stopping at what is not finite."""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from maskray.model.build_model import build_model
from maskray.model.config import ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch
from maskray.platform.job.config import JobConfig
from maskray.platform.train import trainer as trainer_module
from maskray.platform.train.checkpoint import read_checkpoint, write_checkpoint
from maskray.platform.train.context import LocalContext
from maskray.platform.train.trainer import NonFiniteLossError, Trainer, step_seed

Batches = Callable[[int], Iterator[Batch]]
MakeJob = Callable[..., JobConfig]
MakeBatches = Callable[..., Batches]
TIMES = {"images_per_second", "data_wait_seconds", "data_wait_share", "memory_gib"}


class PixelRegression(nn.Module):
    """A mean over the images of the batch, so that gradients of parts average to that of the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 2, 3, dtype=torch.float64)

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        output = self.convolution(batch.images.double() / 255)
        return {"loss_a": output[:, 0].square().mean(), "loss_b": (output[:, 1] - 1).abs().mean()}


def build(job: JobConfig) -> MaskRCNN:
    torch.manual_seed(job.seed)
    return build_model(job.model, job.input, 2)


def numbers(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """The history without what a clock measured."""
    return [{name: value for name, value in line.items() if name not in TIMES} for line in history]


def test_losses_and_rates_are_logged(make_job: MakeJob, make_batches: MakeBatches) -> None:
    job = make_job(steps=5, log_every=2)
    context = LocalContext()
    Trainer(build(job), job.train, context, job.seed).run(make_batches())
    assert [line["step"] for line in context.history] == [2, 4, 5]
    for line in context.history:
        terms = [value for name, value in line.items() if name.startswith("loss_")]
        assert len(terms) == 5
        assert line["loss"] == pytest.approx(sum(terms))
        assert line["gradient_norm"] > 0
        assert line["images_per_second"] > 0
        assert 0 <= line["data_wait_share"] <= 1
        assert 0.05 < line["memory_gib"] < 100
    assert context.history[1]["lr"] == 0.01


@pytest.mark.slow
def test_the_real_model_learns(make_job: MakeJob, make_batches: MakeBatches) -> None:
    job = make_job(steps=16, base_lr=0.01, warmup_steps=4, clip_gradient_norm=2.0)
    context = LocalContext()
    stream = make_batches()
    Trainer(build(job), job.train, context, job.seed).run(lambda step: itertools.cycle([next(stream(0))]))
    losses = [line["loss"] for line in context.history]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(make_job: MakeJob, make_batches: MakeBatches) -> None:
    histories = []
    for seed in (3, 3, 4):
        job = make_job(steps=3)
        context = LocalContext()
        Trainer(build(job), job.train, context, seed).run(make_batches())  # the same weights, other samples
        histories.append(numbers(context.history))
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_resume_from_a_checkpoint_is_bit_equal(
    make_job: MakeJob,
    make_batches: MakeBatches,
    make_spec: Callable[[JobConfig], ModelSpec],
    tmp_path: Path,
    accumulate: int,
) -> None:
    job = make_job(steps=4, checkpoint_every=2, accumulate_steps=accumulate, images_per_batch=2 * accumulate)
    stream = make_batches(accumulate=accumulate)

    def save(trainer: Trainer, step: int) -> None:
        write_checkpoint(tmp_path, step, trainer.bare_model, make_spec(job), trainer.state_dict(), "")

    whole = LocalContext(on_save=save)
    trainer = Trainer(build(job), job.train, whole, job.seed)
    trainer.run(stream)

    torch.manual_seed(99)  # nothing may depend on what happened before
    checkpoint = read_checkpoint(tmp_path / "step-000002")
    resumed = Trainer(build_model(job.model, job.input, 2), job.train, LocalContext(), job.seed)
    resumed.model.load_state_dict(checkpoint.weights)
    resumed.load_state_dict(checkpoint.state)
    resumed.run(stream, checkpoint.step)

    assert numbers(resumed.context.history) == numbers(whole.history[2:])  # type: ignore[attr-defined]
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name


def test_another_seed_is_refused(make_job: MakeJob) -> None:
    job = make_job()
    state = Trainer(PixelRegression(), job.train, LocalContext(), seed=1).state_dict()
    with pytest.raises(ValueError, match="seed 1, the job says 2"):
        Trainer(PixelRegression(), job.train, LocalContext(), seed=2).load_state_dict(state)


def test_two_micro_batches_of_two_equal_one_batch_of_four(
    make_job: MakeJob, make_batch: Callable[..., Batch], make_batches: MakeBatches
) -> None:
    def whole(start_step: int) -> Iterator[Batch]:
        for step in itertools.count(start_step):
            first, second = make_batch(2 * step), make_batch(2 * step + 1)
            yield Batch(
                torch.cat([first.images, second.images]),
                torch.cat([first.image_sizes, second.image_sizes]),
                torch.cat([first.image_ids, second.image_ids]),
                torch.cat([first.original_sizes, second.original_sizes]),
            )

    results = []
    for accumulate, stream in ((1, whole), (2, make_batches(accumulate=2))):
        torch.manual_seed(0)
        job = make_job(steps=3, images_per_batch=4, accumulate_steps=accumulate)
        context = LocalContext()
        trainer = Trainer(PixelRegression(), job.train, context, job.seed)
        trainer.run(stream)
        results.append((context.history, trainer.model.state_dict()))
    for line, other in zip(results[0][0], results[1][0]):
        # The mean over two halves is rounded in another order.
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-6)
        assert line["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-6)  # logged in float32
    for name, tensor in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], tensor, rtol=1e-12, atol=1e-12)  # float64


def test_clipping_bounds_the_update_and_the_logged_norm_is_before_it(
    make_job: MakeJob, make_batches: MakeBatches
) -> None:
    job = make_job(steps=1, clip_gradient_norm=0.001, warmup_steps=0, weight_decay=0.0, base_lr=0.5)
    context = LocalContext()
    model = PixelRegression()
    before = torch.cat([p.detach().clone().flatten() for p in model.parameters()])
    Trainer(model, job.train, context, job.seed).run(make_batches())
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert context.history[0]["gradient_norm"] > 0.01
    assert (after - before).norm().item() == pytest.approx(
        0.5 * 0.001, rel=1e-2
    )  # clipping adds an epsilon to the norm


def test_bfloat16_keeps_float32_weights_and_losses(make_job: MakeJob, make_batches: MakeBatches) -> None:
    job = make_job(steps=2, precision="bfloat16")
    context = LocalContext()
    trainer = Trainer(build(job), job.train, context, job.seed)
    trainer.run(make_batches())
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert all(math.isfinite(line["loss"]) for line in context.history)


@pytest.mark.parametrize("at_once", [pytest.param(True, id="as on a CPU"), pytest.param(False, id="as on a GPU")])
def test_infinite_pixels_stop_training_and_name_the_images(
    make_job: MakeJob, make_batches: MakeBatches, at_once: bool
) -> None:
    job = make_job(steps=4, checkpoint_every=1)
    clean = make_batches()

    def poisoned(start_step: int) -> Iterator[Batch]:
        for step, batch in enumerate(clean(start_step), start_step):
            if step == 2:
                batch.images = batch.images.float()
                batch.images[1, 0, 5, 5] = math.inf
            yield batch

    saved: list[int] = []
    context = LocalContext(on_save=lambda trainer, step: saved.append(step))
    trainer = Trainer(build(job), job.train, context, job.seed)
    trainer._looks_at_once = at_once
    with pytest.raises(NonFiniteLossError, match=r"at step 3 .*rank 0: .*nan.*image ids \[200, 201\]"):
        trainer.run(poisoned)
    assert saved == [1, 2]
    assert len(context.history) == 2
    if at_once:
        assert all(torch.isfinite(p).all() for p in trainer.model.parameters())  # the step was not taken


def test_a_step_that_fails_because_of_the_one_before_tells_of_that_one(
    make_job: MakeJob, make_batches: MakeBatches
) -> None:
    job = make_job(steps=4, checkpoint_every=4, log_every=4)
    model = PixelRegression()

    def forward(batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        if not all(torch.isfinite(p).all() for p in model.parameters()):
            raise RuntimeError("weights of NaN")
        return {"loss": model.convolution.weight.sum() * (math.nan if batch.image_ids[0] == 200 else 1)}

    model.forward = forward  # type: ignore[method-assign]
    trainer = Trainer(model, job.train, LocalContext(), job.seed)
    trainer._looks_at_once = False
    with pytest.raises(NonFiniteLossError, match="at step 3 "):
        trainer.run(make_batches())


def test_weights_that_are_not_finite_stop_training(make_job: MakeJob, make_batches: MakeBatches) -> None:
    job = make_job()
    model = build(job)
    with torch.no_grad():
        next(model.roi_heads.parameters()).fill_(math.nan)
    with pytest.raises(NonFiniteLossError, match="at step 1 "):
        Trainer(model, job.train, LocalContext(), job.seed).run(make_batches())


def test_a_finite_loss_with_an_infinite_gradient_stops_training(make_job: MakeJob, make_batches: MakeBatches) -> None:
    class Root(PixelRegression):
        def forward(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
            return {"loss": (self.convolution.weight * 0).sum().sqrt()}  # 0, with gradient 0 x infinity

    job = make_job()
    with pytest.raises(NonFiniteLossError, match=r"gradient norm nan.*losses finite"):
        Trainer(Root(), job.train, LocalContext(), job.seed).run(make_batches())


def test_an_error_of_the_model_says_at_which_images(make_job: MakeJob, make_batches: MakeBatches) -> None:
    trainer = Trainer(nn.Sequential(nn.Linear(2, 2)), make_job().train, LocalContext(), 0)
    trainer.model.forward = lambda batch, generator: {"loss": torch.ones(2) @ torch.ones(3)}
    with pytest.raises(RuntimeError) as caught:
        trainer.run(make_batches(), 1)
    assert caught.value.__notes__ == ["in step 2, rank 0, image ids [100, 101]"]


def test_too_few_batches_are_an_error(make_job: MakeJob, make_batch: Callable[..., Batch]) -> None:
    job = make_job(steps=3)
    with pytest.raises(ValueError, match="training data ended at step 2 of 3"):
        Trainer(PixelRegression(), job.train, LocalContext(), job.seed).run(lambda step: iter([make_batch(0)] * 2))


def test_the_stream_is_closed_when_training_ends(make_job: MakeJob, make_batches: MakeBatches) -> None:
    closed: list[bool] = []

    def batches(start_step: int) -> Iterator[Batch]:
        try:
            yield from make_batches()(start_step)
        finally:
            closed.append(True)

    Trainer(PixelRegression(), make_job().train, LocalContext(), 0).run(batches)
    assert closed == [True]


def test_seeds_differ_by_position() -> None:
    seeds = {step_seed(*position) for position in itertools.product(range(3), range(4), range(3), range(2))}
    assert len(seeds) == 3 * 4 * 3 * 2
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_loop_imports_neither_ray_nor_mlflow() -> None:
    folder = Path(str(trainer_module.__file__)).parent
    for name in ("trainer.py", "context.py", "solver.py"):
        for node in ast.walk(ast.parse((folder / name).read_text())):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not [module for module in imported if module.split(".")[0] in ("ray", "mlflow")], name
