"""Evaluation as a user asks for it: of a results file, of rows while training, of a model on a whole data set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskray.ops.match_images import RegionColumns
from maskray.platform.data.manifest import Manifest
from maskray.platform.evaluation.coco_ap import CocoMetrics, merge, merge_columns
from maskray.platform.evaluation.file_columns import TruthColumns, read_result_columns, read_truth_columns
from maskray.platform.evaluation.matches_file import write_matches
from maskray.platform.evaluation.matching import ImageMatches, MatchColumns, match_columns, of_images
from maskray.platform.evaluation.rules import IOU_TYPES, IouType
from maskray.platform.files.storage import write_whole
from maskray.platform.job.config import EvaluationConfig, ResourceConfig

if TYPE_CHECKING:  # torch takes seconds to import, and files are evaluated without it
    from maskray.platform.evaluation.report import EvaluatedModel
    from maskray.platform.inference.predictor import Predictor


def evaluate_files(gt_path: str | Path, dt_path: str | Path, iou_type: IouType, partitions: int = 1) -> CocoMetrics:
    """Metrics of a COCO results file against an annotation file.

    With more than one partition the images are divided among as many Ray tasks (a cluster is joined or started); the
    metrics are the same to the last bit. ValueError naming the file and the entry where one is malformed, or where a
    detection is of an image that the ground truth lacks.
    """
    if iou_type not in IOU_TYPES:
        raise ValueError(f"IoU type {iou_type!r}: there are {', '.join(IOU_TYPES)}")
    if partitions < 1:
        raise ValueError(f"{partitions} partitions: at least 1")
    truth = read_truth_columns(gt_path, iou_type)
    detections = read_result_columns(dt_path, truth, iou_type)
    category_ids = truth.category_ids.tolist()
    if partitions == 1:
        return merge_columns([match_part(truth, detections, iou_type)], category_ids, iou_type)
    return merge_columns(_match_on_ray(truth, detections, iou_type, partitions), category_ids, iou_type)


def match_part(
    truth: TruthColumns, detections: RegionColumns, iou_type: IouType, part: int = 0, parts: int = 1
) -> MatchColumns:
    """Match one of so many parts of the images of a data set."""
    edges = np.linspace(0, len(truth.image_ids), parts + 1).astype(int)
    of = slice(edges[part], edges[part + 1])
    objects, found = (of_images(columns, of.start, of.stop) for columns in (truth.objects, detections))
    return match_columns(truth.image_ids[of], truth.sizes[of], objects, found, truth.category_ids, iou_type)


def evaluate_rows(
    predictor: Predictor,
    manifest: Manifest,
    indices: Iterable[int],
    iou_types: Sequence[IouType],
    images_per_batch: int = 4,
) -> list[ImageMatches]:
    """Predict the rows of global indices in this process and match them: one part per image and IoU type.

    The model must be in eval mode. Parts are small and picklable; merge_parts makes metrics of those of all rows.
    ValueError where an image cannot be read, or segm or keypoints is asked of a model without such a head.
    """
    from maskray.platform.evaluation.row_prediction import RowEvaluator, plan_batches

    evaluator = RowEvaluator(predictor, manifest, iou_types)
    batches = plan_batches(manifest, indices, predictor.spec, images_per_batch)
    return [part for batch in batches for evaluation in evaluator.evaluate(batch) for part in evaluation.parts]


def merge_parts(parts: Iterable[ImageMatches], manifest: Manifest, iou_types: Sequence[IouType]) -> dict[str, float]:
    """The COCO metrics of every IoU type by name (bbox/AP, segm/AP50, ...) as fractions, -1 where undefined.

    ValueError unless the parts are those of every image of the data set, each once.
    """
    return _named(_metrics(list(parts), manifest, iou_types))


def evaluate_model(
    model: EvaluatedModel,
    manifest: Manifest,
    config: EvaluationConfig,
    resources: ResourceConfig,
    out_folder: str | Path,
    history: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, float]:
    """Evaluate a model on a data set by Ray Data actors and write everything that is to be known about it.

    Returns the metrics as merge_parts does. out_folder gets results.json (COCO results of all images), metrics.json,
    matches.npz (matches_file.py), per_class.csv, per_class.md and report.html, each whole or not at all. history are
    records of training with step and loss, for the report. Ray must be initialised. Errors as predict_rows.
    """
    from maskray.platform.evaluation.paper import read_paper_row
    from maskray.platform.evaluation.report import write_report
    from maskray.platform.evaluation.row_prediction import decide_engine, predict_rows
    from maskray.platform.evaluation.tables import per_class_csv, per_class_markdown
    from maskray.platform.files.model_folder import read_model_spec

    if config.paper_row is not None:
        read_paper_row(config.paper_row)  # a name that does not exist is told before the work
    model = replace(model, engine=decide_engine(read_model_spec(model.folder).model, resources, model.engine))
    evaluations = predict_rows(model.folder, manifest, config, resources, model.engine)
    parts = [part for evaluation in evaluations for part in evaluation.parts]
    coco_metrics = _metrics(parts, manifest, config.iou_types)
    metrics = _named(coco_metrics)
    results = [result for evaluation in evaluations for result in evaluation.results]
    Path(out_folder).mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("results.json", json.dumps(results)),
        ("metrics.json", json.dumps(metrics, indent=1)),
        ("per_class.csv", per_class_csv(coco_metrics, manifest.labels)),
        ("per_class.md", per_class_markdown(coco_metrics, manifest.labels)),
    ):
        write_whole(Path(out_folder) / name, text)
    write_matches(Path(out_folder) / "matches.npz", parts)
    write_report(Path(out_folder) / "report.html", model, manifest, config, coco_metrics, evaluations, history)
    return metrics


def _metrics(parts: list[ImageMatches], manifest: Manifest, iou_types: Sequence[IouType]) -> list[CocoMetrics]:
    metrics = []
    for iou_type in iou_types:
        of_type = [part for part in parts if part.iou_type == iou_type]
        _check_complete([part.image_id for part in of_type], manifest)
        metrics.append(merge(of_type, manifest.labels.category_ids, iou_type))
    return metrics


def _check_complete(image_ids: Sequence[int], manifest: Manifest) -> None:
    """ValueError unless every image of the data set was evaluated exactly once."""
    seen = set(image_ids)
    missing = sorted(set(manifest.image_ids) - seen)
    if missing:
        raise ValueError(f"{len(missing)} of {manifest.num_images} images were not evaluated, such as {missing[0]}")
    if len(image_ids) != manifest.num_images or len(seen) != manifest.num_images:
        raise ValueError(f"{len(image_ids)} images were evaluated, {len(seen)} of them different: not each once")


def _named(metrics: list[CocoMetrics]) -> dict[str, float]:
    return {name: value for one in metrics for name, value in one.metrics.items()}


def _match_on_ray(
    truth: TruthColumns, detections: RegionColumns, iou_type: IouType, partitions: int
) -> list[MatchColumns]:
    import ray

    from maskray.platform.machine.ray_cluster import connect

    connect()
    task = ray.remote(match_part)
    stored = ray.put(truth), ray.put(detections)  # once, and shared by the tasks of a machine
    return ray.get([task.remote(*stored, iou_type, part, partitions) for part in range(partitions)])
