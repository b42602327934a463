"""Starts distributed training on the connected Ray cluster and gives back its checkpoints."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ray.exceptions import OutOfMemoryError
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, TrainingFailedError, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer
from rich.console import Console

from maskray.platform.data.manifest import read_manifest
from maskray.platform.files.lease import Lease
from maskray.platform.job.config import JobConfig
from maskray.platform.job.resume import check_same_config, training_config
from maskray.platform.job.train_config import TrainConfig
from maskray.platform.machine.stop_signals import StopSignals
from maskray.platform.machine.terminal import tell
from maskray.platform.train.checkpoint import (
    best_checkpoint,
    checkpoint_to_go_on_from,
    list_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    read_metrics,
    step_of,
)
from maskray.platform.train.cluster_checks import check_resources, check_shared_folder, node_resources
from maskray.platform.train.early_stop import EarlyStop, find_early_stop
from maskray.platform.train.free_resources import free_resources
from maskray.platform.train.run_context import Validation
from maskray.platform.train.run_files import RunFiles
from maskray.platform.train.stoppable_fit import fit_until_stopped
from maskray.platform.train.trainer import NonFiniteLossError
from maskray.platform.train.training_progress import TrainingProgress
from maskray.platform.train.worker import WorkerPlan, train_worker

MOST_REASON = 500  # letters of what Ray says of a failure; advice of its own follows
# How often Ray Train looks at its workers: the time in which it sees one that died, and takes up a report.
POLL_SECONDS = "0.5"


class TrainingInterruptedError(RuntimeError):
    """Workers were lost more often than resources.max_failures allows; the run can be resumed."""


@dataclass(frozen=True)
class TrainResult:
    """Where a finished run left its model: `best` by train.best_metric, or the last one where none was evaluated.

    `early_stop` says why it ended before its last step, if it did.
    """

    best: str
    last: str
    best_metric: float | None
    step: int
    early_stop: EarlyStop | None
    history_path: str


def train(
    job: JobConfig,
    manifest_path: str,
    run_folder: str,
    tracking: dict[str, str] | None = None,
    validate: Validation | None = None,
    resume: bool = False,
    callbacks: Sequence[UserCallback] = (),
    lease: Lease | None = None,
    signals: StopSignals | None = None,
) -> TrainResult:
    """Train `job` on the shards at `manifest_path` with data parallel workers; Ray must be connected.

    Writes run_folder/checkpoints, history.jsonl and events.jsonl; run_folder must be seen by every node. `tracking`
    holds the `uri` and `run_id` that rank 0 logs metrics to; `callbacks` are told of each checkpoint by Ray Train.
    A worker that dies is replaced, up to resources.max_failures times, and training goes on from the newest complete
    checkpoint; `resume` does the same for a run that was interrupted as a whole. With the same number of workers the
    numbers are those of a run that was never interrupted. Workers write only while the run's `lease` is held, and at
    the first of `signals` they end with a checkpoint.

    Raises ValueError where the cluster is too small, the folder not shared, the run not new (or not the same, for
    resume) or the data wrong; NonFiniteLossError where training diverges; TrainingInterruptedError; StopRequested where
    a signal ended it; LeaseLostError.
    """
    folder = Path(run_folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    record = RunFiles(folder)
    if not resume and list_checkpoints(record.checkpoints):
        raise ValueError(f"{record.checkpoints}: holds checkpoints of an earlier run; resume it or take a new name")
    newest, _ = checkpoint_to_go_on_from(record.checkpoints)
    if newest is not None and step_of(newest) > job.train.total_steps:
        steps = job.train.total_steps
        raise ValueError(f"train.steps {steps}: the run has trained {step_of(newest)} steps already; ask for more")
    record.clear_failure()
    if "://" not in manifest_path:
        manifest_path = str(Path(manifest_path).resolve())
    if newest is not None and _is_complete(job, manifest_path, record, newest, validate is not None):
        return _collect(record, job.train)
    check_resources(job.resources, node_resources())
    check_shared_folder(folder)
    plan = WorkerPlan(job, manifest_path, str(folder), tracking, validate, None if lease is None else lease.number)
    progress = TrainingProgress(record, job.train.total_steps, job.train.images_per_batch)
    with free_resources(job.resources, plan.run_folder, partial(tell, Console())), progress:
        _fit(plan, record, callbacks, lease, signals)
    return _collect(record, job.train)


def _is_complete(job: JobConfig, manifest_path: str, record: RunFiles, newest: Path, validates: bool) -> bool:
    """Whether a run that goes on has nothing left to train or to evaluate; ValueError where it is of another job."""
    step = step_of(newest)
    if step < job.train.total_steps and find_early_stop(record, job.train, step) is None:
        return False
    if validates and job.train.evaluate_every and read_metrics(newest) is None:
        return False
    check_same_config(read_checkpoint(newest).config, training_config(job, read_manifest(manifest_path).digest))
    return True


def _fit(
    plan: WorkerPlan,
    record: RunFiles,
    callbacks: Sequence[UserCallback],
    lease: Lease | None,
    signals: StopSignals | None,
) -> None:
    """Run the workers to their end; their own failure comes before what Ray Train says about it."""
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", POLL_SECONDS)
    fit = build_ray_trainer(plan, callbacks).fit
    error: TrainingFailedError | None = None
    starts, failure = _count_starts(record), None
    try:
        result = fit() if lease is None or signals is None else fit_until_stopped(fit, record, lease, signals)
        failure = result.return_value
    except TrainingFailedError as caught:
        error = caught
    failure = record.failure() or failure
    if failure is not None:
        kind = NonFiniteLossError if failure.kind == NonFiniteLossError.__name__ else ValueError
        raise kind(failure.message) from None
    if error is not None:
        raise TrainingInterruptedError(
            f"training was given up: {describe_failure(error)} Workers began {_count_starts(record) - starts} times "
            f"(resources.max_failures {plan.job.resources.max_failures}); the run can be resumed"
        ) from error


def _count_starts(record: RunFiles) -> int:
    return sum(event["event"] == "start" for event in record.events())


def describe_failure(error: TrainingFailedError) -> str:
    """What a worker ended of, in one line that begins with the cause, and what helps where memory was short."""
    failures = getattr(error, "worker_failures", None) or {}
    cause = next(iter(failures.values()), None) or getattr(error, "controller_failure", error)
    cause = getattr(cause, "health_check_failure", None) or cause  # before whose words Ray puts a page about the worker
    lines = str(cause).strip().splitlines()
    if any("Traceback (most recent call last)" in line for line in lines):
        lines = lines[-1:]  # of what our own code raised, the error itself
    text = " ".join(" ".join(lines).split())
    told = f"{type(cause).__name__}: {text[:MOST_REASON]}{' ...' if len(text) > MOST_REASON else ''}"
    if isinstance(cause, OutOfMemoryError) or "low on memory" in text:
        told += " Smaller images_per_batch, fewer num_workers and num_evaluators, or more memory help."
    return told


def build_ray_trainer(plan: WorkerPlan, callbacks: Sequence[UserCallback] = ()) -> TorchTrainer:
    """Ray's trainer for a plan. Its own files lie under run_folder/ray and hold no weights.

    The name is new each time: with a known name Ray Train would go on by its own record, which may be older than the
    checkpoints in the run folder.
    """
    resources = plan.job.resources
    per_worker = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker > 0:
        per_worker["GPU"] = resources.gpus_per_worker
    use_gpu = resources.gpus_per_worker > 0
    return TorchTrainer(
        train_worker,
        train_loop_config={"plan": plan},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=resources.num_workers, use_gpu=use_gpu, resources_per_worker=per_worker
        ),
        run_config=RunConfig(
            name=f"{plan.job.name}-{secrets.token_hex(4)}",
            storage_path=str(Path(plan.run_folder) / "ray"),
            failure_config=FailureConfig(max_failures=resources.max_failures),
            callbacks=list(callbacks),
            # Starts, checkpoints and failures are told by the run's own events.
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _collect(record: RunFiles, train: TrainConfig) -> TrainResult:
    last, passed_over = newest_checkpoint(record.checkpoints)
    if last is None:
        raise ValueError(f"{record.checkpoints}: no complete checkpoint: {'; '.join(passed_over) or 'empty'}")
    best = best_checkpoint(record.checkpoints, train.best_metric)
    step = step_of(last)
    return TrainResult(
        best=str(best[0] if best else last),
        last=str(last),
        best_metric=best[1] if best else None,
        step=step,
        early_stop=find_early_stop(record, train, step) if step < train.total_steps else None,
        history_path=str(record.history_path),
    )
