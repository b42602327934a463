"""Evaluation as a user asks for it: of rows while training, of a model on a whole data set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskray.platform.data.manifest import Manifest
from maskray.platform.evaluation.coco_ap import CocoMetrics, merge, merge_columns
from maskray.platform.evaluation.matches_file import write_match_columns
from maskray.platform.evaluation.matching import ImageMatches, join_images
from maskray.platform.evaluation.rules import IouType
from maskray.platform.files.storage import write_whole
from maskray.platform.job.config import EvaluationConfig, ResourceConfig

if TYPE_CHECKING:  # torch takes seconds to import, and files are evaluated without it
    from maskray.platform.evaluation.report import EvaluatedModel
    from maskray.platform.inference.predictor import Predictor


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
    return [image for batch in batches for part in evaluator.evaluate(batch).parts for image in part.images()]


def merge_parts(parts: Iterable[ImageMatches], manifest: Manifest, iou_types: Sequence[IouType]) -> dict[str, float]:
    """The COCO metrics of every IoU type by name (bbox/AP, segm/AP50, ...) as fractions, -1 where undefined.

    ValueError unless the parts are those of every image of the data set, each once.
    """
    images = list(parts)
    metrics = []
    for iou_type in iou_types:
        of_type = [image for image in images if image.iou_type == iou_type]
        _check_complete([image.image_id for image in of_type], manifest)
        metrics.append(merge(of_type, manifest.labels.category_ids, iou_type))
    return _named(metrics)


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
    Path(out_folder).mkdir(parents=True, exist_ok=True)
    images = predict_rows(model.folder, manifest, config, resources, model.engine, out_folder)
    _check_complete(images.image_ids.tolist(), manifest)
    matches = images.matches() or [join_images([], manifest.labels.category_ids, kind) for kind in config.iou_types]
    coco_metrics = [merge_columns([part], manifest.labels.category_ids, part.iou_type) for part in matches]
    metrics = _named(coco_metrics)
    images.write_results(Path(out_folder) / "results.json")
    for name, text in (
        ("metrics.json", json.dumps(metrics, indent=1)),
        ("per_class.csv", per_class_csv(coco_metrics, manifest.labels)),
        ("per_class.md", per_class_markdown(coco_metrics, manifest.labels)),
    ):
        write_whole(Path(out_folder) / name, text)
    write_match_columns(Path(out_folder) / "matches.npz", matches)
    write_report(Path(out_folder) / "report.html", model, manifest, config, coco_metrics, images, history)
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
