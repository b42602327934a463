"""Evaluates a model that is there already on a data set of the user's: its metrics, results file and report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from maskray.model.config import ModelConfig
from maskray.platform.data.preparation import check_source, read_source, write_source
from maskray.platform.data.suitability import ReadingRules, evaluated_labels
from maskray.platform.evaluation.evaluate import evaluate_model
from maskray.platform.evaluation.report import EvaluatedModel
from maskray.platform.evaluation.row_prediction import check_iou_types
from maskray.platform.evaluation.rules import IouType
from maskray.platform.files.model_folder import read_model_spec
from maskray.platform.inference.engine import TORCH, Engine, check_engine
from maskray.platform.job.config import EvaluationConfig, ResourceConfig, first_mistake
from maskray.platform.job.data_config import CocoSource, FilesSource
from maskray.platform.job.tta_config import TTAConfig
from maskray.platform.machine.ray_cluster import connect
from maskray.platform.runs.summary import RunSummary


def evaluate_on_coco(
    model_folder: str,
    annotations: Path,
    images: Path | None,
    out: Path,
    resources: ResourceConfig,
    iou_type: IouType | None = None,
    engine: Engine = TORCH,
    protocol: Literal["coco", "cityscapes"] = "coco",
    submission: bool = False,
    tta: TTAConfig | None = None,
) -> RunSummary:
    """Evaluate a model on every image of an annotation file or a folder of any format, with Ray Data actors.

    images is the folder of the images, None where a folder of annotations holds them; submission writes OUT/submission
    for the server of Cityscapes. `out` gets what an evaluation of a run leaves, and the shards that were read; it must
    be new or empty. iou_type says what is evaluated; None takes boxes, and masks and keypoints where the model has
    them. Raises ValueError where something is not there or damaged, where the data have no masks to evaluate, or a
    category that the model lacks.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: exists already; an evaluation is never written over another")
    check_engine(engine, "cuda" if resources.gpus_per_worker > 0 else "cpu")
    spec = read_model_spec(model_folder)
    source = source_of(annotations, images)
    check_source(source, "data")
    config = _evaluation(spec.model, iou_type, protocol, submission, tta)
    masks: Literal["all", "none"] = "all" if "segm" in config.iou_types else "none"
    rules = ReadingRules(masks=masks, remedy="--iou-type bbox evaluates boxes alone")
    read = read_source(source, "val", out, rules)
    labels = evaluated_labels(spec.labels, read.labels, str(annotations), model_folder)
    connect(resources.address, resources.local_cpus)
    started = time.perf_counter()
    manifest = write_source(read, "val", out).model_copy(update={"labels": labels})
    written = time.perf_counter()
    model, folder = EvaluatedModel(model_folder, out.name, engine=engine), out / "submission" if submission else None
    metrics = evaluate_model(model, manifest, config, resources, out, submission=folder)
    seconds = {"data": written - started, "evaluation": time.perf_counter() - written}
    return RunSummary(out.name, out, Path(model_folder), metrics, out / "report.html", seconds, submission=folder)


def source_of(annotations: Path, images: Path | None) -> CocoSource | FilesSource:
    """An annotation file with the folder of its images, or a folder of annotations of any format."""
    if annotations.is_dir():
        return FilesSource(path=str(annotations), images=None if images is None else str(images))
    return CocoSource(annotations=str(annotations), images=str(images))


def _evaluation(
    model: ModelConfig,
    iou_type: IouType | None,
    protocol: Literal["coco", "cityscapes"],
    submission: bool,
    tta: TTAConfig | None,
) -> EvaluationConfig:
    """What is evaluated; ValueError where it is of masks or keypoints that the model has not."""
    wanted = {"bbox": True, "segm": model.masks, "keypoints": model.keypoints}
    iou_types: tuple[IouType, ...] = tuple(name for name, has in wanted.items() if has)  # type: ignore[misc]
    if iou_type is not None:
        iou_types = (iou_type,)
        check_iou_types(iou_types, model)
    try:
        return EvaluationConfig(iou_types=iou_types, protocol=protocol, submission=submission, tta=tta)
    except ValidationError as error:
        raise ValueError(first_mistake(error)) from None
