"""What a job is going to do, worked out from its file alone: arithmetic, resources, paths and what cannot work."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maskray.platform.job.config import COCO_KEYPOINTS, DATA_CPUS, JobConfig
from maskray.platform.job.data_config import CocoSource, FilesSource, ShardSource, Source, SyntheticSource

# An annotation file up to this size is counted in about 0.1 s; a larger one is left to the run.
COUNTED_BYTES = 16_000_000
URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")

PlanRows = list[tuple[str, list[tuple[str, str]]]]  # heading, "" for none, and name and value of each row
CountFiles = Callable[[FilesSource], "int | None"]


@dataclass(frozen=True)
class Plan:
    """Numbers that follow from a job; `problems` stop the run, `warnings` only deserve a look."""

    run_folder: str
    train_images: int | None
    val_images: int | None
    steps: int
    images_per_batch: int
    images_per_worker: int
    epochs: float | None
    lr: float
    lr_rule: str
    warmup_steps: int
    decay_at: tuple[int, ...]
    num_checkpoints: int
    num_evaluations: int
    cpus_needed: float
    cpus_local: int | None
    gpus_needed: float
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return asdict(self)


def plan_job(job: JobConfig, new: bool = True, count_files: CountFiles | None = None) -> Plan:
    """Work out the plan of a job; reads at most the small files that the job names, starts nothing.

    A trial of a sweep need not be new: that its folder is there is no reason to warn. count_files looks into a source
    of kind files: how many images it has, None where that takes long, ValueError where it cannot be read.
    """
    problems, warnings = _find_problems(job), _find_warnings(job)
    if new and job.resources.address is None and Path(job.output, job.name).exists():
        warnings.append(f"{job.output}/{job.name} exists: a new run needs another name, an old one --resume")
    train_images = _count_images(job.data.train, "data.train", problems, warnings, count_files)
    val_images = _count_images(job.data.val, "data.val", problems, warnings, count_files)
    train, resources = job.train, job.resources
    if train_images is not None and train_images < train.images_per_batch:
        problems.append(f"train.images_per_batch {train.images_per_batch} is more than the {train_images} images")
    return Plan(
        run_folder=f"{job.output.rstrip('/')}/{job.name}",
        train_images=train_images,
        val_images=val_images,
        steps=train.total_steps,
        images_per_batch=train.images_per_batch,
        images_per_worker=train.images_per_batch // (resources.num_workers * train.accumulate_steps),
        epochs=train.total_steps * train.images_per_batch / train_images if train_images else None,
        lr=train.lr,
        lr_rule=f"{train.base_lr:g} x {train.images_per_batch} / {train.reference_images_per_batch} = {train.lr:g}",
        warmup_steps=train.warmup_steps,
        decay_at=train.decay_at,
        num_checkpoints=train.num_stages * -(-train.steps // train.checkpoint_every),
        num_evaluations=train.steps // train.evaluate_every if train.evaluate_every else 0,
        cpus_needed=resources.training_cpus,
        cpus_local=resources.local_cpus if resources.address is None else None,
        gpus_needed=resources.num_workers * resources.gpus_per_worker,
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


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
    if job.train.evaluate_every and kind not in job.evaluation.iou_types:
        problems.append(f"train.best_metric {job.train.best_metric} is not among evaluation.iou_types")
    for figure in job.evaluation.expect:
        if figure.split("/")[0] not in job.evaluation.iou_types:
            problems.append(f"evaluation.expect names {figure}, which evaluation.iou_types does not compute")
    prefix, _, weights = (job.train.initial_weights or "").partition(":")
    if prefix == "torchvision" and weights != job.model.backbone.name:
        problems.append(f"train.initial_weights is {weights}, but model.backbone.name is {job.model.backbone.name}")
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
    if job.model.keypoints and "keypoints" not in job.evaluation.iou_types:
        warnings.append("model.keypoints is true, but evaluation.iou_types has no keypoints: they are not evaluated")
    if train.warmup_steps >= train.steps:
        warnings.append(f"train.warmup_steps {train.warmup_steps} is not before the last step {train.steps}")
    return warnings


def _count_images(
    source: Source, where: str, problems: list[str], warnings: list[str], count_files: CountFiles | None
) -> int | None:
    """Images of a source when that is cheap to know; what is not there is a warning: the cluster may see it."""
    if isinstance(source, SyntheticSource):
        return source.num_images
    if isinstance(source, FilesSource):
        return _count_files(source, where, problems, warnings, count_files)
    path = _counted_file(source)
    if path is None:
        return None
    if isinstance(source, CocoSource) and not Path(source.images).is_dir():
        warnings.append(f"{where}.images: no folder {source.images} on this machine")
    try:
        if path.stat().st_size > COUNTED_BYTES:
            return None
        tree = json.loads(path.read_bytes())
        return len(tree["images"]) if isinstance(source, CocoSource) else int(tree["num_images"])
    except FileNotFoundError:
        warnings.append(f"{where}: no file {path} on this machine")
    except (OSError, ValueError, KeyError, TypeError) as error:
        problems.append(f"{where}: {path} is not what it should be: {type(error).__name__}: {error}")
    return None


def _count_files(
    source: FilesSource, where: str, problems: list[str], warnings: list[str], count_files: CountFiles | None
) -> int | None:
    for key, path in (("path", source.path), ("images", source.images)):
        if path is not None and not Path(path).exists():
            warnings.append(f"{where}.{key}: no {path} on this machine")
            return None
    try:
        return None if count_files is None else count_files(source)
    except ValueError as error:
        problems.append(f"{where}: {error}")
    return None


def _counted_file(source: CocoSource | ShardSource) -> Path | None:
    """The JSON file that tells the number of images, when it is a path of this machine."""
    name = source.annotations if isinstance(source, CocoSource) else f"{source.path.rstrip('/')}/manifest.json"
    return None if URI.match(name) else Path(name)


def plan_rows(job: JobConfig, plan: Plan) -> PlanRows:
    """The plan for the terminal."""
    train, resources, backbone = job.train, job.resources, job.model.backbone
    parts = f"{resources.num_workers} workers" if resources.num_workers > 1 else "1 worker"
    if train.accumulate_steps > 1:
        parts += f" x {train.accumulate_steps} accumulation steps"
    epochs = "unknown before the data are read" if plan.epochs is None else f"{plan.epochs:.4g}"
    if plan.decay_at:
        decays = ", ".join(str(step) for step in plan.decay_at)
        schedule = f"x {train.decay:g} after {decays}"
    else:
        schedule = "constant after warm-up"
    place = "this machine" if resources.address is None else f"cluster {resources.address}"
    cpus = (
        f"{resources.num_workers} workers x {resources.cpus_per_worker:g} + {DATA_CPUS:g} for Ray Data "
        f"= {plan.cpus_needed:g}" + ("" if plan.cpus_local is None else f" of {plan.cpus_local}")
    )
    rows = [
        ("run folder", plan.run_folder),
        ("data", f"train {_images(plan.train_images, job.data.train.kind)}, val "
                 f"{_images(plan.val_images, job.data.val.kind)}"),
        ("model", f"{'Mask' if job.model.masks else 'Faster'} R-CNN {backbone.name} {backbone.features.upper()}"
                  f"{' with keypoints' if job.model.keypoints else ''}, {backbone.norm}, "
                  f"from {train.initial_weights or 'random weights'}"),
        ("input", f"shorter edge {job.input.shorter_edge}, longer edge up to {job.input.longer_edge_max} pixels"),
        ("batch", f"{plan.images_per_batch} images = {parts} x {plan.images_per_worker} images"),
        ("length", f"{plan.steps} steps x {plan.images_per_batch} images, epochs: {epochs}"),
        ("learning rate", f"linear scaling rule: {plan.lr_rule}"),
        ("schedule", f"warm-up {plan.warmup_steps} steps, {schedule}"),
        ("checkpoints", f"{plan.num_checkpoints}, evaluations in training: {plan.num_evaluations}"),
        ("CPUs", f"{cpus}, on {place}"),
        ("GPUs", f"{plan.gpus_needed:g}"),
    ]  # fmt: skip
    return [("", rows)]


def _images(count: int | None, kind: str) -> str:
    return f"{kind}, {'number of images unknown yet' if count is None else f'{count} images'}"


def move_job(job: JobConfig, address: str) -> JobConfig:
    """The job for the cluster at an address."""
    return job.model_copy(update={"resources": job.resources.model_copy(update={"address": address})})


def read_paths(job: JobConfig) -> Iterator[tuple[str, str]]:
    """Dotted key and path of everything that a job reads."""
    for split in ("train", "val"):
        source = getattr(job.data, split)
        if isinstance(source, CocoSource):
            yield f"data.{split}.annotations", source.annotations
            yield f"data.{split}.images", source.images
        if isinstance(source, ShardSource | FilesSource):
            yield f"data.{split}.path", source.path
        if isinstance(source, FilesSource) and source.images is not None:
            yield f"data.{split}.images", source.images
    weights = job.train.initial_weights
    if weights is not None and not weights.startswith("torchvision:"):
        yield "train.initial_weights", weights
