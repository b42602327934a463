"""One training process inside Ray Train: it builds or resumes the model, trains, and tells how it ended."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import ray.train
import ray.train.torch
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from maskray.model.build_model import build_model
from maskray.model.config import ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch
from maskray.model.transfer import transfer
from maskray.platform.data.manifest import Manifest, read_manifest
from maskray.platform.data.stream import train_batches
from maskray.platform.files.disk_errors import check_free_space
from maskray.platform.files.initial_weights import open_source
from maskray.platform.files.lease import LeaseLostError
from maskray.platform.job.config import JobConfig, TrackingConfig
from maskray.platform.job.resume import check_same_config, training_config
from maskray.platform.machine.memory import return_large_blocks
from maskray.platform.registry.metric_delivery import MetricDelivery
from maskray.platform.registry.tracking import Tracking
from maskray.platform.train.checkpoint import (
    Checkpoint,
    checkpoint_to_go_on_from,
    list_checkpoints,
    read_checkpoint,
    remove_temporary,
    step_of,
)
from maskray.platform.train.context import SharedError, agree
from maskray.platform.train.free_resources import let_next_in
from maskray.platform.train.metric_uploader import MetricUploader
from maskray.platform.train.proposals import ProposalStore, store_proposals, with_proposals
from maskray.platform.train.run_context import RunContext, Validation
from maskray.platform.train.run_files import Failure, RunFiles
from maskray.platform.train.stages import Stage, training_stages
from maskray.platform.train.trainer import Trainer
from maskray.platform.train.worker_lease import WorkerLease


@dataclass(frozen=True)
class WorkerPlan:
    """All that a worker is told: absolute paths, for Ray Train changes the working directory."""

    job: JobConfig
    manifest_path: str
    run_folder: str
    tracking: dict[str, str] | None
    validate: Validation | None
    lease: int | None = None  # the number of the driver's


def train_worker(config: dict[str, WorkerPlan]) -> Failure | None:
    """Run in every worker, and again in each after a restart: goes on from the newest complete checkpoint.

    A ValueError is a mistake that another try would repeat. It is left as failure.json, and the worker that finds one
    returns at once, so that Ray Train's restarts are spent on lost processes and machines only. It is returned too,
    since a full disk takes no file. A worker whose run another process has taken over returns and writes nothing.
    """
    plan = config["plan"]
    for chatty in ("ray.data", "ray.train"):  # the run tells by its own events what they say
        logging.getLogger(chatty).setLevel(logging.ERROR)
    lease = WorkerLease(plan.run_folder, plan.lease)
    record = RunFiles(plan.run_folder, lease.check)
    context = ray.train.get_context()
    rank, num_ranks = context.get_world_rank(), context.get_world_size()
    begun = False
    try:
        lease.check()
        if record.failure() is not None:
            return None
        begun = True
        _train(plan, record, lease, rank, num_ranks)
    except LeaseLostError:
        if begun and num_ranks > 1:
            raise  # as below
    except ValueError as error:
        shared, failure = isinstance(error, SharedError), Failure(type(error).__name__, rank, str(error))
        if rank == 0 or not shared:
            with contextlib.suppress(OSError):
                record.write_failure(failure)
        if not shared and num_ranks > 1:
            raise  # the other ranks wait for this one: only its end wakes them
        return failure
    return None


def _train(plan: WorkerPlan, record: RunFiles, lease: WorkerLease, rank: int, num_ranks: int) -> None:
    job = plan.job
    return_large_blocks()
    torch.set_num_threads(job.resources.threads)
    device = ray.train.torch.get_device() if job.resources.gpus_per_worker > 0 else torch.device("cpu")
    manifest = read_manifest(plan.manifest_path)
    spec = ModelSpec(model=job.model, input=job.input, labels=manifest.labels)
    config_text = training_config(job, manifest.digest)
    sender = _start_sender(plan.tracking) if rank == 0 else None
    context = RunContext(
        job, spec, record, config_text, rank, num_ranks, device, sender, plan.validate, report_checkpoint, lease.wishes
    )

    try:
        if any(reason is not None for reason in context.gather(lease.stop())):
            return  # what the driver asked for before these workers were started anew
        for stage in training_stages(job.train, job.model):
            _train_stage(context, manifest, stage)
            if context.stopped:
                return
    finally:
        if sender is not None:
            unsent = sender.close()
            if unsent:
                record.note("metrics_not_sent", steps=unsent, error=sender.last_error)


def _train_stage(context: RunContext, manifest: Manifest, stage: Stage) -> None:
    """Train one stage of the scheme to its end, from where the newest checkpoint left it; nothing if it is over."""
    job = context.job
    path = _choose_checkpoint(context)
    if path is not None and stage.last_step <= step_of(path) < job.train.total_steps:
        return
    context.spec = context.spec.model_copy(update={"model": stage.model(job.model)})
    trainer, start_step = build_trainer(context, stage, path)
    agree(context, lambda: _check_space(context, trainer) if context.rank == 0 else None)
    _note_start(context, start_step, stage)
    store: ProposalStore | None = None
    if stage.stored_proposals:
        folder = context.record.folder / "proposals" / f"step-{stage.first_step:06d}"
        ranks = (context.rank, context.num_ranks)
        agree(context, lambda: store_proposals(cast(MaskRCNN, trainer.bare_model), manifest, job.input, folder, *ranks))
        store = agree(context, lambda: ProposalStore(folder, context.num_ranks))
    if start_step > stage.first_step:
        context.finish_evaluation(trainer, start_step)
        if context.ends_at(start_step):
            return

    def batches(step: int) -> Iterator[Batch]:
        stream = train_batches(manifest, job.stream, context.rank, context.num_ranks, step)
        return stream if store is None else with_proposals(stream, store)

    trainer.run(batches, start_step)


def build_trainer(context: RunContext, stage: Stage, path: Path | None) -> tuple[Trainer, int]:
    """The trainer of one rank for a stage and the step it starts from: new, or as the checkpoint at `path` left it.

    Raises SharedError where the checkpoint belongs to another configuration or the initial weights do not load.
    """
    job = context.job
    model, checkpoint = agree(context, lambda: _build_model(context, stage, path))
    model = model.to(context.device)
    model = model.to(memory_format=torch.channels_last)  # as the activations are
    if context.num_ranks > 1:
        model = DistributedDataParallel(model)
        # Set afterwards: as an argument, False would also leave out the exchange of frozen statistics at the start.
        model.broadcast_buffers = _has_running_statistics(model)
    trainer = Trainer(model, job.train, context, job.seed, stage.first_step)
    if checkpoint is None or checkpoint.step == stage.first_step:
        return trainer, stage.first_step
    trainer.load_state_dict(checkpoint.state)
    return trainer, checkpoint.step


def _choose_checkpoint(context: RunContext) -> Path | None:
    """Rank 0 chooses the checkpoint to go on from, so that all start from the same."""

    def choose() -> Path | None:
        if context.rank != 0:
            return None
        remove_temporary(context.record.checkpoints)
        path, passed_over = checkpoint_to_go_on_from(context.record.checkpoints)
        for reason in passed_over:
            context.record.note("checkpoint_passed_over", reason=reason)
        return path

    return context.gather(agree(context, choose))[0]


def _build_model(context: RunContext, stage: Stage, path: Path | None) -> tuple[nn.Module, Checkpoint | None]:
    """The model of a stage with the weights of a checkpoint, or with the job's initial ones."""
    job = context.job
    torch.manual_seed(job.seed)
    model = build_model(context.spec.model, job.input, context.spec.labels.num_classes)
    if stage.parts:
        model.train_parts(stage.parts)
    if job.train.freeze:
        model.freeze_parts(job.train.freeze)
    if path is not None:
        checkpoint = read_checkpoint(path)
        check_same_config(checkpoint.config, context.config_text)
        weights = checkpoint.weights
        if checkpoint.step == stage.first_step and not stage.own_backbone:
            # What the stage before had besides: from here on the RPN shares the detector's features.
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith("rpn_backbone.")}
        model.load_state_dict(weights)
        return model, checkpoint
    if job.train.initial_weights is not None and context.rank == 0:
        # The others get them when DistributedDataParallel starts.
        source = open_source(job.train.initial_weights)
        taken = transfer(model, job.input, context.spec.labels, source, job.train.class_names)
        context.record.note("initial_weights", **taken.as_dict())
    return model, None


def report_checkpoint(metrics: dict[str, float], path: Path) -> None:
    """Tell Ray Train, on every rank, that a checkpoint is in the run folder; only its address goes along."""
    if ray.train.get_context().get_world_rank() != 0:
        ray.train.report({})
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "address.json").write_text(json.dumps({"checkpoint": str(path)}), encoding="utf-8")
        ray.train.report(
            {**metrics, "checkpoint_path": str(path)}, checkpoint=ray.train.Checkpoint.from_directory(folder)
        )


def _check_space(context: RunContext, trainer: Trainer) -> None:
    """StorageError where the checkpoints that are kept will not fit beside those that are there."""
    folder, train = context.record.checkpoints, context.job.train
    folder.mkdir(parents=True, exist_ok=True)
    size, kept = trainer.checkpoint_bytes(), train.keep_checkpoints + 2
    missing = max(1, kept - len(list_checkpoints(folder)))
    reason = f"train.keep_checkpoints {train.keep_checkpoints}, the best and one more, of {size / 1e9:.2f} GB each"
    check_free_space(folder, missing * size, reason)


def _note_start(context: RunContext, start_step: int, stage: Stage) -> None:
    workers = context.gather({"rank": context.rank, "host": socket.gethostname(), "pid": os.getpid()})

    def note() -> None:
        if context.rank == 0:
            context.record.forget_after(start_step)
            context.record.note("start", step=start_step, stage=stage.name, device=str(context.device), workers=workers)

    agree(context, note)
    if context.rank == 0:
        let_next_in(str(context.record.folder))


def _start_sender(tracking: dict[str, str] | None) -> MetricUploader | None:
    if tracking is None:
        return None
    return MetricUploader(MetricDelivery(Tracking(TrackingConfig(uri=tracking["uri"])), tracking["run_id"]).send)


def _has_running_statistics(model: nn.Module) -> bool:
    """Whether buffers change in training, and so must be made equal between the ranks."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
