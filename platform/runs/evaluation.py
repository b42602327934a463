"""Evaluates a model that is there already on a COCO data set of the user's: its metrics, results file and report."""

from __future__ import annotations

import time
from pathlib import Path

from maskray.platform.data.preparation import check_source, prepare
from maskray.platform.evaluation.evaluate import evaluate_model
from maskray.platform.evaluation.report import EvaluatedModel
from maskray.platform.evaluation.row_prediction import check_labels
from maskray.platform.evaluation.rules import IouType
from maskray.platform.files.model_folder import read_model_spec
from maskray.platform.job.config import EvaluationConfig, ResourceConfig
from maskray.platform.job.data_config import CocoSource
from maskray.platform.machine.ray_cluster import connect
from maskray.platform.runs.summary import RunSummary


def evaluate_on_coco(
    model_folder: str, annotations: Path, images: Path, out: Path, resources: ResourceConfig
) -> RunSummary:
    """Evaluate a model on every image of an annotation file, each once, with Ray Data actors.

    `out` gets what an evaluation of a run leaves, and the shards that were read; it must be new or empty. Boxes are
    evaluated, and masks and keypoints where the model has them. Raises ValueError where something is not there or
    damaged, or where the categories of the model are not those of the data.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: exists already; an evaluation is never written over another")
    spec = read_model_spec(model_folder)
    source = CocoSource(annotations=str(annotations), images=str(images))
    check_source(source, "data")
    wanted = {"bbox": True, "segm": spec.model.masks, "keypoints": spec.model.keypoints}
    iou_types: tuple[IouType, ...] = tuple(name for name, has in wanted.items() if has)  # type: ignore[misc]
    connect(resources.address, resources.local_cpus)
    started = time.perf_counter()
    manifest = prepare(source, "val", out)
    check_labels(model_folder, spec.labels, manifest)
    read = time.perf_counter()
    metrics = evaluate_model(
        EvaluatedModel(model_folder, out.name), manifest, EvaluationConfig(iou_types=iou_types), resources, out
    )
    seconds = {"data": read - started, "evaluation": time.perf_counter() - read}
    return RunSummary(out.name, out, Path(model_folder), metrics, out / "report.html", seconds)
