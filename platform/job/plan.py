"""What a job is going to do, worked out from its file alone: arithmetic, resources, paths and what cannot work."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from maskray.platform.job.config import COCO_KEYPOINTS, DATA_CPUS, JobConfig
from maskray.platform.job.data_config import CocoSource, FilesSource, ShardSource, Source, SyntheticSource
from maskray.platform.job.frozen_parts import describe_trained
from maskray.platform.job.resume import may_change
from maskray.platform.job.schedule import resolve_schedule
from maskray.platform.job.train_config import TrainConfig
from maskray.platform.job.training_text import describe_optimizer, describe_schedule

# An annotation file up to this size is counted in about 0.1 s; a larger one is left to the run.
COUNTED_BYTES = 16_000_000
LARGE_ADAMW_RATE = 0.002
NOT_COUNTED: Mapping[str, int | None] = MappingProxyType({})
URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")

PlanRows = list[tuple[str, list[tuple[str, str]]]]  # heading, "" for none, and name and value of each row


@dataclass(frozen=True)
class Plan:
    """Numbers that follow from a job; `problems` stop the run, `warnings` only deserve a look.

    None are those that only the data can tell.
    """

    run_folder: str
    train_images: int | None
    val_images: int | None
    trained: str
    steps: int | None
    images_per_batch: int
    images_per_worker: int
    epochs: float | None
    lr: float
    lr_rule: str
    warmup_steps: int
    decay_at: tuple[int, ...]
    num_checkpoints: int | None
    num_evaluations: int | None
    cpus_needed: float
    cpus_local: int | None
    gpus_needed: float
    may_change: tuple[str, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return asdict(self)


def plan_job(job: JobConfig, new: bool = True, counted: Mapping[str, int | None] = NOT_COUNTED) -> Plan:
    """Work out the plan of a job; reads at most the small files that the job names, starts nothing.

    A trial of a sweep need not be new: that its folder is there is no reason to warn. `counted` are the images of train
    and val where someone has read them, None where they could not be read and that is told already.
    """
    problems, warnings = _find_problems(job), _find_warnings(job)
    if new and job.resources.address is None and Path(job.output, job.name).exists():
        warnings.append(f"{job.output}/{job.name} exists: a new run needs another name, an old one --resume")
    train_images = _count_images(job.data.train, "train", problems, warnings, counted)
    val_images = _count_images(job.data.val, "val", problems, warnings, counted)
    train, resources = job.train, job.resources
    if train_images is not None and train_images < train.images_per_batch:
        problems.append(f"train.images_per_batch {train.images_per_batch} is more than the {train_images} images")
    timed = _in_steps(job, train_images, problems)
    if timed is not None and train.warmup_steps >= timed.num_steps:
        warnings.append(f"train.warmup_steps {train.warmup_steps} is not before the last step {timed.num_steps}")
    return Plan(
        run_folder=f"{job.output.rstrip('/')}/{job.name}",
        train_images=train_images,
        val_images=val_images,
        trained=describe_trained(train, job.model),
        steps=None if timed is None else timed.total_steps,
        images_per_batch=train.images_per_batch,
        images_per_worker=train.images_per_batch // (resources.num_workers * train.accumulate_steps),
        epochs=_count_epochs(train, timed, train_images),
        lr=train.lr,
        lr_rule=f"{train.base_lr:g} x {train.images_per_batch} / {train.reference_images_per_batch} = {train.lr:g}",
        warmup_steps=train.warmup_steps,
        decay_at=() if timed is None else timed.decay_at,
        num_checkpoints=None if timed is None else timed.num_stages * -(-timed.num_steps // timed.checkpoint_every),
        num_evaluations=None if timed is None else _count_evaluations(timed),
        cpus_needed=resources.training_cpus,
        cpus_local=resources.local_cpus if resources.address is None else None,
        gpus_needed=resources.num_workers * resources.gpus_per_worker,
        may_change=may_change(job),
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def _in_steps(job: JobConfig, num_images: int | None, problems: list[str]) -> TrainConfig | None:
    """The training in steps; None where these follow from data that are still to be looked at."""
    if not job.train.in_epochs:
        return job.train
    if num_images is None or job.data.skip_images_without_objects:
        return None
    try:
        return resolve_schedule(job.train, num_images)
    except ValueError as error:
        problems.append(str(error))
        return None


def _count_epochs(train: TrainConfig, timed: TrainConfig | None, num_images: int | None) -> float | None:
    """How often all stages together go through the images."""
    if train.epochs is not None:
        return train.epochs * train.num_stages
    if timed is None or not num_images:
        return None
    return timed.total_steps * train.images_per_batch / num_images


def _count_evaluations(train: TrainConfig) -> int:
    """Evaluations in training, that of the last step among them."""
    return -(-train.num_steps // train.evaluate_every) if train.evaluate_every else 0


def _find_problems(job: JobConfig) -> list[str]:
    problems = []
    resources, needed = job.resources, job.resources.training_cpus
    if resources.address is None and needed > resources.local_cpus:
        problems.append(
            f"resources.local_cpus {resources.local_cpus} is too few, reading would wait for ever: {needed:g} = "
            f"{resources.num_workers} workers x {resources.cpus_per_worker:g} CPU + {DATA_CPUS:g} for Ray Data"
        )
    if "segm" in job.evaluation.iou_types and not job.model.masks:
        problems.append("evaluation.iou_types has segm, but model.masks is false: set evaluation.iou_types to [bbox]")
    if "keypoints" in job.evaluation.iou_types and not job.model.keypoints:
        problems.append("evaluation.iou_types has keypoints, but model.keypoints is false: leave them out")
    elif "keypoints" in job.evaluation.iou_types and job.model.keypoint_head.num_keypoints != COCO_KEYPOINTS:
        problems.append(
            f"evaluation.iou_types has keypoints, but how exact they can be is known of COCO's {COCO_KEYPOINTS} alone, "
            f"and model.keypoint_head.num_keypoints is {job.model.keypoint_head.num_keypoints}: leave them out"
        )
    kind = job.train.best_metric.split("/")[0]
    if job.train.evaluates and kind not in job.evaluation.iou_types:
        problems.append(f"train.best_metric {job.train.best_metric} is not among evaluation.iou_types")
    for figure in job.evaluation.expect:
        if figure.split("/")[0] not in (*job.evaluation.iou_types, *{job.evaluation.protocol} - {"coco"}):
            problems.append(f"evaluation.expect names {figure}, which evaluation.iou_types does not compute")
    prefix, _, weights = (job.train.initial_weights or "").partition(":")
    if prefix == "torchvision" and "rcnn" not in weights and weights != job.model.backbone.name:
        problems.append(f"train.initial_weights is {weights}, but model.backbone.name is {job.model.backbone.name}")
    if job.train.class_names and job.train.initial_weights is None:
        problems.append("train.class_names says what classes are called in train.initial_weights, which is not set")
    if job.tracking.alias and not job.tracking.register_as:
        problems.append("tracking.alias needs a registered model: set tracking.register_as")
    return problems


def _find_warnings(job: JobConfig) -> list[str]:
    warnings = []
    train = job.train
    if train.initial_weights is None and job.model.backbone.norm == "frozen_batch_norm":
        warnings.append(
            "a backbone without initial weights does not learn under frozen_batch_norm: set train.initial_weights, "
            "or model.backbone.norm to group_norm"
        )
    if train.initial_weights is None and job.model.backbone.freeze_stages:
        warnings.append(
            f"model.backbone.freeze_stages {job.model.backbone.freeze_stages} freezes random weights: use 0"
        )
    if train.initial_weights is None and train.freeze:
        warnings.append(f"train.freeze {', '.join(train.freeze)} freezes random weights: set train.initial_weights")
    if train.optimizer.name == "adamw" and train.lr > LARGE_ADAMW_RATE:
        warnings.append(f"the learning rate {train.lr:g} is large for AdamW: set train.base_lr to 0.0001 or so")
    if job.model.keypoints and "keypoints" not in job.evaluation.iou_types:
        warnings.append("model.keypoints is true, but evaluation.iou_types has no keypoints: they are not evaluated")
    return warnings


def _count_images(
    source: Source, split: str, problems: list[str], warnings: list[str], counted: Mapping[str, int | None]
) -> int | None:
    """Images of a source when that is cheap to know; what is not there is a warning: the cluster may see it."""
    where = f"data.{split}"
    if isinstance(source, SyntheticSource):
        return counted.get(split, source.num_images)
    if isinstance(source, FilesSource):
        missing = [(key, path) for key, path in (("path", source.path), ("images", source.images))
                   if path is not None and not Path(path).exists()]  # fmt: skip
        warnings += [f"{where}.{key}: no {path} on this machine" for key, path in missing]
        return counted.get(split)
    path = _counted_file(source)
    if path is None:
        return None
    if isinstance(source, CocoSource) and not Path(source.images).is_dir():
        warnings.append(f"{where}.images: no folder {source.images} on this machine")
    if split in counted:
        return counted[split]
    try:
        if path.stat().st_size > COUNTED_BYTES:
            return None
        tree = json.loads(path.read_bytes())
        return len(tree["images"]) if isinstance(source, CocoSource) else int(tree["num_images"])
    except FileNotFoundError:
        warnings.append(f"{where}: no file {path} on this machine")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problems.append(f"{where}: {path} is not what it should be: {type(error).__name__}: {error}")
    return None


def _counted_file(source: CocoSource | ShardSource) -> Path | None:
    """The JSON file that tells the number of images, when it is a path of this machine."""
    name = source.annotations if isinstance(source, CocoSource) else f"{source.path.rstrip('/')}/manifest.json"
    return None if URI.match(name) else Path(name)


def plan_rows(job: JobConfig, plan: Plan) -> PlanRows:
    """The plan for the terminal."""
    return [("", [*job_rows(job, plan), resume_row(plan.may_change)])]


def resume_row(keys: Iterable[str]) -> tuple[str, str]:
    """The row of what may change when a run goes on."""
    return ("on --resume", f"may change: {', '.join(keys)}; nothing else")


def job_rows(job: JobConfig, plan: Plan) -> list[tuple[str, str]]:
    """What a job is going to do, as name and value of each row."""
    train, resources, backbone = job.train, job.resources, job.model.backbone
    parts = f"{resources.num_workers} workers" if resources.num_workers > 1 else "1 worker"
    if train.accumulate_steps > 1:
        parts += f" x {train.accumulate_steps} accumulation steps"
    place = "this machine" if resources.address is None else f"cluster {resources.address}"
    cpus = (
        f"{resources.num_workers} workers x {resources.cpus_per_worker:g} + {DATA_CPUS:g} for Ray Data "
        f"= {plan.cpus_needed:g}" + ("" if plan.cpus_local is None else f" of {plan.cpus_local}")
    )
    return [
        ("run folder", plan.run_folder),
        ("data", f"train {_images(plan.train_images, job.data.train.kind)}, val "
                 f"{_images(plan.val_images, job.data.val.kind)}"
                 + (f"; categories of less than {job.data.repeat_factor_threshold:.3g} of the images come more often"
                    if job.data.repeat_factor_threshold else "")),
        ("model", f"{'Mask' if job.model.masks else 'Faster'} R-CNN {backbone.name} {backbone.features.upper()}"
                  f"{' with keypoints' if job.model.keypoints else ''}, {backbone.norm}, "
                  f"from {train.initial_weights or 'random weights'}"),
        ("trained", plan.trained),
        ("input", f"shorter edge {job.input.shorter_edge}, longer edge up to {job.input.longer_edge_max} pixels"),
        ("batch", f"{plan.images_per_batch} images = {parts} x {plan.images_per_worker} images"),
        ("length", f"{_known(plan.steps)} steps x {plan.images_per_batch} images, "
                   f"epochs: {_known(plan.epochs)}"),
        ("optimizer", describe_optimizer(train)),
        ("learning rate", f"linear scaling rule: {plan.lr_rule}"),
        ("schedule", f"warm-up {plan.warmup_steps} steps, {describe_schedule(train, plan.decay_at)}"),
        ("checkpoints", f"{_known(plan.num_checkpoints)}, evaluations in training: {_known(plan.num_evaluations)}"
                        + (f", an end after {train.patience} without a better {train.best_metric}"
                           if train.patience else "")),
        ("CPUs", f"{cpus}, on {place}"),
        ("GPUs", f"{plan.gpus_needed:g}"),
    ]  # fmt: skip


def _known(value: float | None) -> str:
    if value is None:
        return "(unknown before the data are read)"
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _images(count: int | None, kind: str) -> str:
    return f"{kind}, {'number of images unknown yet' if count is None else f'{count} images'}"
