"""The context of a real run: checkpoints, evaluation, history and tracking around the loop, over torch.distributed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from maskray.model.config import ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.platform.files.disk_errors import StorageError, lasting_error
from maskray.platform.job.config import JobConfig
from maskray.platform.train.checkpoint import prune_checkpoints, read_metrics, write_checkpoint, write_metrics
from maskray.platform.train.context import Wishes, agree, average_over_ranks, gather_from_ranks
from maskray.platform.train.early_stop import find_early_stop
from maskray.platform.train.metric_uploader import MetricUploader
from maskray.platform.train.run_files import RunFiles
from maskray.platform.train.trainer import Trainer


class Validation(Protocol):
    """Evaluation in training, given from above so that training does not know how it is done; picklable."""

    def evaluate(self, model: MaskRCNN, rank: int, num_ranks: int) -> list[Any]:
        """Picklable parts of this rank's share of the images; `model` is in eval mode on its device."""
        ...

    def merge(self, parts: list[Any]) -> dict[str, float]:
        """Metrics of the parts of all ranks, one list in the order of the ranks; called on rank 0 only."""
        ...


class RunContext:
    """Implements Context for one of several processes; only rank 0 writes. Works without a process group as well."""

    def __init__(
        self,
        job: JobConfig,
        spec: ModelSpec,
        record: RunFiles,
        config_text: str,
        rank: int = 0,
        num_ranks: int = 1,
        device: torch.device | str = "cpu",
        sender: MetricUploader | None = None,
        validate: Validation | None = None,
        report: Callable[[dict[str, float], Path], None] | None = None,
        wished: Callable[[], Wishes] = Wishes,
    ) -> None:
        """`report(metrics, checkpoint)` is called on every rank after each checkpoint.

        Beside metrics of an evaluation it gets "step", and "last", whether training ends there. `wished` is asked once
        a step, on every rank, what comes from outside. `stopped` tells afterwards whether training was to stop.
        """
        self.job = job
        self.spec = spec
        self.record = record
        self.config_text = config_text
        self.rank = rank
        self.num_ranks = num_ranks
        self.device = torch.device(device)
        self.sender = sender
        self.validate = validate
        self.report = report
        self.wished = wished
        self.stopped = False
        self._saved = time.monotonic()
        self._refused: StorageError | None = None

    def average(self, values: Tensor) -> Tensor:
        """Mean over the ranks."""
        return average_over_ranks(values)

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank."""
        return gather_from_ranks(value)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Append to the history and queue for the tracking server.

        A disk that refuses ends training with the next step: the other ranks know nothing of it before.
        """
        if self.rank == 0:
            try:
                milliseconds = self.record.log(metrics, step)
            except OSError as error:
                self._refused = lasting_error(error, self.record.folder)
                if self._refused is None:
                    raise
                return
            if self.sender is not None:
                self.sender.put(metrics, step, milliseconds)

    def wishes(self) -> Wishes:
        """What comes from outside, and a checkpoint where the last one is older than checkpoint_every_minutes."""
        wished, minutes = self.wished(), self.job.train.checkpoint_every_minutes
        due = self.rank == 0 and minutes is not None and time.monotonic() - self._saved >= 60 * minutes
        return wished._replace(save=wished.save or due, stop=wished.stop or self._refused is not None)

    def save(self, trainer: Trainer, step: int, stop: bool) -> bool:
        """Write a checkpoint, evaluate it where that is due, and delete those that are no longer kept.

        What is written and evaluated are the kept weights of the trainer. Whether training ends here: see ends_at, or
        it is to stop, and then the evaluation is left to who goes on.
        """
        train = self.job.train
        path = self.record.checkpoints / f"step-{step:06d}"
        agree(self, lambda: self._write(trainer, step) if self.rank == 0 else None)
        self._saved, self.stopped = time.monotonic(), stop
        metrics = {} if stop else self.evaluate(trainer, step)
        agree(self, lambda: self._prune() if self.rank == 0 else None)
        over = stop or self.ends_at(step)
        if self.report is not None:
            self.report({"step": step, "last": over or step == train.total_steps, **metrics}, path)
        return over

    def _write(self, trainer: Trainer, step: int) -> None:
        if self._refused is not None:
            raise self._refused
        started = time.perf_counter()
        folder, state, model = self.record.checkpoints, trainer.state_dict(), trainer.bare_model
        with trainer.kept_weights():
            path = write_checkpoint(folder, step, model, self.spec, state, self.config_text, self.record.check)
        self.record.note("checkpoint", step=step, path=str(path), seconds=time.perf_counter() - started)

    def _prune(self) -> None:
        train = self.job.train
        self.record.check()
        prune_checkpoints(self.record.checkpoints, train.keep_checkpoints, train.best_metric)

    def ends_at(self, step: int) -> bool:
        """Whether training ends after `step` steps for want of patience; rank 0 says so to all, and writes it down."""
        if self.job.train.patience == 0 or not self._is_due(step):
            return False
        stop = find_early_stop(self.record, self.job.train, step) if self.rank == 0 else None
        if stop is not None and step < self.job.train.total_steps:
            known = any(e["event"] == "early_stop" and e["step"] == step for e in self.record.events())
            if not known:  # it is after a restart
                self.record.note("early_stop", patience=self.job.train.patience, **stop._asdict())
        return bool(self.gather(stop is not None)[0])

    def evaluate(self, trainer: Trainer, step: int) -> dict[str, float]:
        """Evaluate the checkpoint of `step` where that is due; the metrics on rank 0, nothing elsewhere."""
        if self.validate is None or not self._is_due(step):
            return {}
        started = time.perf_counter()
        model = cast(MaskRCNN, trainer.bare_model)
        model.eval()
        with trainer.kept_weights():
            mine = self.validate.evaluate(model, self.rank, self.num_ranks)
        model.train()
        parts = [part for of_rank in self.gather(mine) for part in of_rank]
        return agree(self, lambda: self._merge(parts, step, started) if self.rank == 0 else {})

    def _merge(self, parts: list[Any], step: int, started: float) -> dict[str, float]:
        assert self.validate is not None
        metrics = self.validate.merge(parts)
        best_metric = self.job.train.best_metric
        if best_metric not in metrics:
            raise ValueError(f"train.best_metric: no metric {best_metric!r}; evaluation gives {', '.join(metrics)}")
        write_metrics(self.record.checkpoints / f"step-{step:06d}", metrics)
        self.record.note("evaluation", step=step, seconds=time.perf_counter() - started, metrics=finite(metrics))
        self.log({f"val/{name}": value for name, value in metrics.items()}, step)
        return metrics

    def finish_evaluation(self, trainer: Trainer, step: int) -> None:
        """Evaluate the checkpoint that training goes on from, if the run was cut short before that was done."""
        path = self.record.checkpoints / f"step-{step:06d}"
        # Rank 0 looks and all do the same: a file may show up at different times on shared storage.
        if self.gather(read_metrics(path) is None)[0]:
            self.evaluate(trainer, step)

    def _is_due(self, step: int) -> bool:
        train = self.job.train
        if train.evaluate_every == 0 or step <= train.total_steps - train.num_steps:
            return False  # before the last stage of a scheme the model is not whole
        return step % train.evaluate_every == 0 or step == train.total_steps


def finite(metrics: dict[str, float]) -> dict[str, float | None]:
    """Metrics as JSON can hold them: what is not a number becomes None."""
    return {name: value if value == value and abs(value) != float("inf") else None for name, value in metrics.items()}
