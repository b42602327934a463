"""Evaluates a model that is there already on a COCO data set of the user's: its metrics, results file and report."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from maskray.model.coco_categories import is_unused
from maskray.model.config import LabelMap
from maskray.platform.data.preparation import check_source, read_source, write_source
from maskray.platform.data.suitability import ReadingRules, missing_categories
from maskray.platform.evaluation.evaluate import evaluate_model
from maskray.platform.evaluation.report import EvaluatedModel
from maskray.platform.evaluation.row_prediction import check_iou_types
from maskray.platform.evaluation.rules import IouType
from maskray.platform.files.model_folder import read_model_spec
from maskray.platform.inference.engine import Engine, check_engine
from maskray.platform.job.config import EvaluationConfig, ResourceConfig
from maskray.platform.job.data_config import CocoSource
from maskray.platform.job.serve_config import Runtime
from maskray.platform.machine.ray_cluster import connect
from maskray.platform.runs.summary import RunSummary

logger = logging.getLogger(__name__)


def evaluate_on_coco(
    model_folder: str,
    annotations: Path,
    images: Path,
    out: Path,
    resources: ResourceConfig,
    iou_type: IouType | None = None,
    runtime: Runtime = "torch",
) -> RunSummary:
    """Evaluate a model on every image of an annotation file, each once, with Ray Data actors.

    `out` gets what an evaluation of a run leaves, and the shards that were read; it must be new or empty. iou_type says
    what is evaluated; None takes boxes, and masks and keypoints where the model has them. Raises ValueError where
    something is not there or damaged, where the data have no masks to evaluate, or a category that the model lacks.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: exists already; an evaluation is never written over another")
    engine = Engine(runtime)
    check_engine(engine, "cuda" if resources.gpus_per_worker > 0 else "cpu")
    spec = read_model_spec(model_folder)
    source = CocoSource(annotations=str(annotations), images=str(images))
    check_source(source, "data")
    wanted = {"bbox": True, "segm": spec.model.masks, "keypoints": spec.model.keypoints}
    iou_types: tuple[IouType, ...] = tuple(name for name, has in wanted.items() if has)  # type: ignore[misc]
    if iou_type is not None:
        iou_types = (iou_type,)
        check_iou_types(iou_types, spec.model)
    rules = ReadingRules(masks="all" if "segm" in iou_types else "none", remedy="--iou-type bbox evaluates boxes alone")
    read = read_source(source, "val", out, rules)
    labels = LabelMap(categories=tuple(one for one in spec.labels.categories if not is_unused(one)))
    missing = missing_categories(labels, read.labels, str(annotations), model_folder)
    if missing:
        logger.warning("%s lacks %d of the %d categories of the model", annotations, len(missing), labels.num_classes)
    connect(resources.address, resources.local_cpus)
    started = time.perf_counter()
    manifest = write_source(read, "val", out).model_copy(update={"labels": labels})
    written = time.perf_counter()
    metrics = evaluate_model(
        EvaluatedModel(model_folder, out.name, engine=engine),
        manifest,
        EvaluationConfig(iou_types=iou_types),
        resources,
        out,
    )
    seconds = {"data": written - started, "evaluation": time.perf_counter() - written}
    return RunSummary(out.name, out, Path(model_folder), metrics, out / "report.html", seconds)
