"""Evaluation as a user asks for it: of rows while training, of a model on a whole data set."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskray.platform.data.manifest import Manifest
from maskray.platform.evaluation.cityscapes_ap import merge_regions
from maskray.platform.evaluation.cityscapes_matching import match_regions
from maskray.platform.evaluation.coco_ap import CocoMetrics, merge, merge_columns
from maskray.platform.evaluation.matches_file import write_match_columns
from maskray.platform.evaluation.matching import ImageMatches, join_images
from maskray.platform.evaluation.rules import IouType
from maskray.platform.evaluation.tta_gain import TTAGain
from maskray.platform.files.storage import write_whole
from maskray.platform.job.config import EvaluationConfig, ResourceConfig

logger = logging.getLogger(__name__)

if TYPE_CHECKING:  # torch takes seconds to import, and files are evaluated without it
    from maskray.platform.evaluation.evaluated_images import EvaluatedImages
    from maskray.platform.evaluation.report import EvaluatedModel, Findings
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
    submission: Path | None = None,
) -> dict[str, float]:
    """Evaluate a model on a data set by Ray Data actors and write everything that is to be known about it.

    Returns the metrics as merge_parts does. out_folder gets results.json (COCO results of all images), metrics.json,
    diagnostics.json (diagnostics.py), curves and confusions as images (chart_files.py), matches.npz (matches_file.py),
    per_class.csv, per_class.md and report.html, each whole or not at all. history are records of training with step and
    loss, for the report. With config.tta the figures are those of it, and tta.json says what it gains and costs beside
    one view. submission is a folder for write_submission, which takes the place of one that is there. Ray must be
    initialised. Errors as predict_rows.
    """
    from maskray.platform.evaluation.paper import read_paper_row
    from maskray.platform.evaluation.report import write_report
    from maskray.platform.evaluation.row_prediction import decide_engine, predict_rows
    from maskray.platform.evaluation.submission import check_submission, submit
    from maskray.platform.files.model_folder import read_model_spec

    if config.paper_row is not None:
        read_paper_row(config.paper_row)  # a name that does not exist is told before the work
    if submission is not None:
        check_submission(manifest)
    model = replace(model, engine=decide_engine(read_model_spec(model.folder).model, resources, model.engine))
    folder = Path(out_folder)
    folder.mkdir(parents=True, exist_ok=True)
    one_view = None
    if config.tta is not None:
        alone = config.model_copy(update={"tta": None})
        one_view = predict_rows(model.folder, manifest, alone, resources, model.engine, folder)
    images = predict_rows(model.folder, manifest, config, resources, model.engine, folder)
    _check_complete(images.image_ids.tolist(), manifest)
    found = _find(images, manifest, config)
    if one_view is not None:
        found = replace(found, gain=_tell_gain(one_view, images, found.metrics, manifest, folder))
    metrics = _named(found.metrics) | ({} if found.official is None else found.official.metrics)
    _write(folder, found, metrics, manifest)
    write_report(folder / "report.html", model, manifest, config, found, history)
    if submission is not None:
        submit(submission, images, manifest)
    return metrics


def _find(images: EvaluatedImages, manifest: Manifest, config: EvaluationConfig) -> Findings:
    """Metrics and diagnostics of all images together, in the order of config.iou_types."""
    from maskray.platform.evaluation.diagnostics import make_diagnostics
    from maskray.platform.evaluation.report import Findings
    from maskray.platform.machine.progress_bar import track

    ids = manifest.labels.category_ids
    parts = images.matches()
    matches = parts[: len(config.iou_types)] or [join_images([], ids, kind) for kind in config.iou_types]
    matches.sort(key=lambda part: config.iou_types.index(part.iou_type))
    metrics = [merge_columns([part], ids, part.iou_type) for part in matches]
    official = None
    if config.protocol == "cityscapes":
        official = merge_regions(parts[len(matches) :] or [match_regions([], ids)], manifest.labels.names)
    diagnoses = {one.matches.iou_type: one for one in images.diagnoses()}
    diagnostics = [
        make_diagnostics(of_type, part, diagnoses.get(part.iou_type))
        for of_type, part in zip(metrics, track(matches, len(matches), "diagnostics"), strict=True)
    ]
    return Findings(metrics, matches, diagnostics, list(diagnoses.values()), images, official)


def _write(folder: Path, found: Findings, metrics: dict[str, float], manifest: Manifest) -> None:
    """The files beside the report, each whole or not at all."""
    from maskray.platform.evaluation.chart_files import write_charts
    from maskray.platform.evaluation.tables import per_class_csv, per_class_markdown

    found.images.write_results(folder / "results.json")
    diagnostics = {one.iou_type: one.as_dict() for one in found.diagnostics}
    for name, text in (
        ("metrics.json", json.dumps(metrics, indent=1)),
        ("diagnostics.json", json.dumps(diagnostics, allow_nan=False)),
        ("per_class.csv", per_class_csv(found.metrics, manifest.labels)),
        ("per_class.md", per_class_markdown(found.metrics, manifest.labels)),
    ):
        write_whole(folder / name, text)
    write_match_columns(folder / "matches.npz", found.matches)
    by_id = sorted(manifest.labels.categories, key=lambda category: category.id)
    write_charts(folder, found.metrics, found.diagnostics, [category.name for category in by_id])


def _tell_gain(
    one_view: EvaluatedImages, images: EvaluatedImages, metrics: Sequence[CocoMetrics], manifest: Manifest, folder: Path
) -> TTAGain:
    """What test-time augmentation gains and costs, which is written to tta.json too, and said."""
    of_types = {part.iou_type: part for part in one_view.matches()[: len(metrics)]}
    parts = [merge_columns([of_types[one.iou_type]], manifest.labels.category_ids, one.iou_type) for one in metrics]
    count = max(1, manifest.num_images)
    gain = TTAGain(_named(parts), _named(metrics), one_view.seconds / count, images.seconds / count)
    write_whole(folder / "tta.json", json.dumps(gain.as_dict(), indent=1))
    for line in gain.lines():
        logger.warning("%s", line)
    return gain


def _check_complete(image_ids: Sequence[int], manifest: Manifest) -> None:
    """ValueError unless every image of the data set was evaluated exactly once."""
    seen = set(image_ids)
    missing = sorted(set(manifest.image_ids.tolist()) - seen)
    if missing:
        raise ValueError(f"{len(missing)} of {manifest.num_images} images were not evaluated, such as {missing[0]}")
    if len(image_ids) != manifest.num_images or len(seen) != manifest.num_images:
        raise ValueError(f"{len(image_ids)} images were evaluated, {len(seen)} of them different: not each once")


def _named(metrics: Sequence[CocoMetrics]) -> dict[str, float]:
    return {name: value for one in metrics for name, value in one.metrics.items()}
