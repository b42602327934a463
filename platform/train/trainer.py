"""The training loop: forward, backward, step, measured and reproducible by step; it knows neither Ray nor MLflow."""

from __future__ import annotations

import contextlib
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from maskray.model.structures import Batch
from maskray.platform.job.train_config import TrainConfig
from maskray.platform.train.context import Context, SharedError, Wishes
from maskray.platform.train.solver import build_optimizer, learning_rate, set_learning_rate
from maskray.platform.train.weight_average import WeightAverage


class NonFiniteLossError(SharedError):
    """A loss or the gradient became NaN or infinite; the message names the step, the losses and the images."""


@dataclass
class _StepReport:
    """What one step measured; it may still be on its way from the device."""

    step: int
    image_ids: list[int]  # of this rank
    losses: dict[str, Tensor]  # of this rank
    mean: Tensor  # over the ranks, losses, gradient norm and wishes, on the CPU
    arrived: torch.cuda.Event | None

    def values(self) -> list[float]:
        """Losses and gradient norm over all ranks."""
        return self._all()[: -len(Wishes._fields)]

    def wishes(self) -> Wishes:
        """What at least one rank wished."""
        return Wishes(*(share > 0 for share in self._all()[-len(Wishes._fields) :]))

    def _all(self) -> list[float]:
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.mean.tolist()


@dataclass
class _Clock:
    """Seconds and images since the last log."""

    started: float = field(default_factory=time.perf_counter)
    waited: float = 0.0
    images: int = 0


def step_seed(seed: int, step: int, rank: int, micro_batch: int) -> int:
    """Seed of all that is drawn in one micro-batch: a function of its position alone, so step k needs no history."""
    state = np.random.SeedSequence((seed, step, rank, micro_batch)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


class Trainer:
    """Trains a model that maps (batch, generator) to a dict of scalar losses.

    `model` is a MaskRCNN on context.device, wrapped in DistributedDataParallel where there are several ranks. All
    randomness of a step comes from (seed, step, rank), so a run resumed from a checkpoint goes on as if never stopped.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, context: Context, seed: int, first_step: int = 0) -> None:
        """The schedule of `config` begins after `first_step` steps, and ends config.num_steps later."""
        self.model = model
        self.first_step = first_step
        self.last_step = first_step + config.num_steps
        self.config = config
        self.context = context
        self.seed = seed
        self.optimizer = build_optimizer(self.bare_model, config)
        self._parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self._average = None if config.ema is None else WeightAverage(self.bare_model, config.ema)
        self._generator = torch.Generator(device=context.device)
        self._looks_at_once = context.device.type == "cpu"  # where nothing is gained by looking later

    @property
    def bare_model(self) -> nn.Module:
        """The model without its DistributedDataParallel wrapper."""
        return self.model.module if isinstance(self.model, DistributedDataParallel) else self.model

    def state_dict(self) -> dict[str, Any]:
        """What besides the kept weights is needed to go on: tensors, numbers and text only.

        To be taken outside of kept_weights: with an average the weights of the last step are part of it.
        """
        state = {"optimizer": self.optimizer.state_dict(), "seed": self.seed}
        return state if self._average is None else state | {"weights": self._average.weights()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what state_dict gave, the model having the kept weights by then.

        Another seed or other parameters are a ValueError.
        """
        if state["seed"] != self.seed:
            raise ValueError(f"the checkpoint was trained with seed {state['seed']}, the job says {self.seed}")
        self.optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.load(state["weights"])

    def checkpoint_bytes(self) -> int:
        """About what a checkpoint takes: weights, and for each trained one what the optimizer and the average keep."""
        weights = sum(tensor.nbytes for tensor in self.bare_model.state_dict().values())
        copies = (2 if self.config.optimizer.name == "adamw" else 1) + (self._average is not None)
        return weights + copies * sum(parameter.nbytes for parameter in self._parameters)

    def kept_weights(self) -> contextlib.AbstractContextManager[None]:
        """While it is open the model has the weights that are evaluated and kept: their average, where there is one."""
        return contextlib.nullcontext() if self._average is None else self._average.in_place()

    def run(self, batches: Callable[[int], Iterator[Batch]], start_step: int = 0) -> None:
        """Train from `start_step` finished steps to last_step, or to where the context ends it.

        `batches(start_step)` gives this rank's micro-batches from that step on, accumulate_steps of them per step.
        Raises NonFiniteLossError on every rank, for the first step that was not finite and before anything of it is
        logged or saved: on a CPU before the weights change, on an accelerator when the next step is under way, so that
        it never waits for the answer.
        """
        stream = batches(start_step)
        self.model.train()
        clock = _Clock()
        before: _StepReport | None = None
        try:
            for step in range(start_step, self.last_step):
                try:
                    report = self._take_step(stream, step, clock)
                finally:  # a step may fail because of the one before it
                    if before is not None:
                        self._check(before)
                # Of this step where it is known already, else of the one before it: every rank has the same answer.
                known = report if self._looks_at_once else before
                wishes = Wishes() if known is None else known.wishes()
                before = report
                done = step + 1
                last = done == self.last_step
                if last or done % self.config.log_every == 0:
                    self.context.log(self._measure(report, clock), done)
                    clock = _Clock()
                if last or any(wishes) or done % self.config.checkpoint_every == 0:
                    self._check(report)
                    paused = time.perf_counter()
                    over = self.context.save(self, done, wishes.stop)
                    self.model.train()
                    clock.started += time.perf_counter() - paused
                    if over:
                        return
        finally:
            close = getattr(stream, "close", None)
            if close is not None:
                close()

    def _take_step(self, stream: Iterator[Batch], step: int, clock: _Clock) -> _StepReport:
        """One optimizer step over accumulate_steps micro-batches."""
        rate = self._rate(step)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        accumulate = self.config.accumulate_steps
        totals: dict[str, Tensor] = {}
        image_ids: list[int] = []
        for micro_batch in range(accumulate):
            batch = self._next_batch(stream, step, clock)
            image_ids += batch.image_ids.tolist()
            clock.images += len(batch.image_ids)
            self._seed(step, micro_batch)
            # Gradients are exchanged once per step, with the last micro-batch.
            with self._without_exchange() if micro_batch + 1 < accumulate else contextlib.nullcontext():
                try:
                    losses = self._forward(batch.to(self.context.device))
                    torch.stack(list(losses.values())).sum().div(accumulate).backward()
                except RuntimeError as error:  # such as no memory left
                    error.add_note(
                        f"in step {step + 1}, rank {self.context.rank}, image ids {batch.image_ids.tolist()}"
                    )
                    raise
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0.0) + loss.detach().float() / accumulate
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        report = self._report(step, image_ids, totals, norm)
        if self._looks_at_once:
            self._check(report)
        if self.config.clip_gradient_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self.config.clip_gradient_norm, norm)
        self.optimizer.step()
        if self._average is not None:
            self._average.update(step + 1 - self.first_step)
        return report

    def _next_batch(self, stream: Iterator[Batch], step: int, clock: _Clock) -> Batch:
        started = time.perf_counter()
        try:
            return next(stream)
        except StopIteration:
            raise ValueError(f"the training data ended at step {step} of {self.last_step}") from None
        finally:
            clock.waited += time.perf_counter() - started

    def _rate(self, step: int) -> float:
        return learning_rate(self.config, step - self.first_step)

    def _seed(self, step: int, micro_batch: int) -> None:
        seed = step_seed(self.seed, step, self.context.rank, micro_batch)
        self._generator.manual_seed(seed)
        torch.manual_seed(seed)

    def _without_exchange(self) -> contextlib.AbstractContextManager[None]:
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) else contextlib.nullcontext()

    def _forward(self, batch: Batch) -> dict[str, Tensor]:
        bfloat16 = self.config.precision == "bfloat16"
        with torch.autocast(self.context.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            return self.model(batch, generator=self._generator)

    def _report(self, step: int, image_ids: list[int], losses: dict[str, Tensor], norm: Tensor) -> _StepReport:
        """Send what was measured to the CPU, which goes on. The gradient is equal on every rank already."""
        wishes = norm.new_tensor(self.context.wishes(), dtype=torch.float32)
        measured = torch.stack([*losses.values(), norm.float()])
        mean = self.context.average(torch.cat([measured, wishes])).to("cpu", non_blocking=True)
        arrived = None
        if self.context.device.type == "cuda":
            arrived = torch.cuda.Event()
            arrived.record()
        return _StepReport(step, image_ids, losses, mean, arrived)

    def _check(self, report: _StepReport) -> list[float]:
        """Losses and gradient norm of a step, or a stop of every rank if anything was not finite on one of them."""
        values = report.values()
        if not all(math.isfinite(value) for value in values):
            losses = {name: loss.item() for name, loss in report.losses.items()}
            self._stop(losses, values[-1], report.step, report.image_ids)
        return values

    def _stop(self, losses: dict[str, float], norm: float, step: int, image_ids: list[int]) -> None:
        """Raise NonFiniteLossError with what every rank saw."""
        lines = []
        for rank, (seen, ids) in enumerate(self.context.gather((losses, image_ids))):
            bad = [f"{name}={value}" for name, value in seen.items() if not math.isfinite(value)]
            terms = ", ".join(bad) if bad else "losses finite"
            lines.append(f"rank {rank}: {terms}, image ids {ids}")
        rate = self._rate(step)
        raise NonFiniteLossError(
            f"not finite at step {step + 1} (lr {rate:.4g}, gradient norm {norm}): {'; '.join(lines)}. "
            "No checkpoint was written after it: lower train.base_lr, set train.clip_gradient_norm, look at the images"
        )

    def _measure(self, report: _StepReport, clock: _Clock) -> dict[str, float]:
        """Metrics of the step just done; the rates are over the steps since the last log."""
        *losses, norm = self._check(report)
        seconds = time.perf_counter() - clock.started
        return {
            "loss": sum(losses),
            **dict(zip(report.losses, losses)),
            "lr": self._rate(report.step),
            "gradient_norm": norm,
            "images_per_second": clock.images * self.context.num_ranks / seconds,
            "data_wait_seconds": clock.waited,
            "data_wait_share": clock.waited / seconds,
            "memory_gib": peak_memory_bytes(self.context.device) / 2**30,
        }


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory used so far: of the GPU by tensors, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
