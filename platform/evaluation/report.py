"""The HTML report of an evaluation: one file that needs nothing else, for a browser on any machine."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from maskray.model.config import ModelSpec
from maskray.platform.data.manifest import Manifest
from maskray.platform.evaluation.charts import TITLES, history_chart, precision_recall_chart, score_chart, score_text
from maskray.platform.evaluation.chosen_images import REASONS, choose_images, image_qualities, rank_images
from maskray.platform.evaluation.cityscapes_ap import CityscapesMetrics
from maskray.platform.evaluation.coco_ap import CocoMetrics
from maskray.platform.evaluation.definitions import ERRORS, all_definitions
from maskray.platform.evaluation.diagnosis import Diagnosis
from maskray.platform.evaluation.diagnostics import SHOWN_SCORE, Diagnostics
from maskray.platform.evaluation.evaluated_images import EvaluatedImages
from maskray.platform.evaluation.matching import MatchColumns
from maskray.platform.evaluation.pages import page_environment
from maskray.platform.evaluation.paper import PaperRow, read_paper_row
from maskray.platform.evaluation.pictures import Picture, class_names, draw_pictures
from maskray.platform.evaluation.report_tables import (
    BACKGROUND,
    category_rows,
    diagnostic_parts,
    metric_rows,
    official_rows,
)
from maskray.platform.evaluation.rules import RULES
from maskray.platform.evaluation.tta_gain import TTAGain
from maskray.platform.files.model_folder import read_model_spec
from maskray.platform.files.storage import write_whole
from maskray.platform.inference.engine import TORCH, Engine
from maskray.platform.job.config import EvaluationConfig

SCRIPT = Path(__file__).with_name("report.js")


@dataclass(frozen=True)
class EvaluatedModel:
    """A model folder under the name of its report; `training` and the YAML `job` tell how it was made, if known.

    `engine` is what computes it: for a model whose precision is auto it says which was taken, once that is decided.
    """

    folder: str
    name: str
    training: str = ""
    job: str = ""
    engine: Engine = TORCH


@dataclass(frozen=True)
class Findings:
    """What an evaluation found: of every IoU type metrics, matches and diagnostics, in one order; the images.

    Where they were asked for, also the figures of Cityscapes and what test-time augmentation gains.
    """

    metrics: Sequence[CocoMetrics]
    matches: Sequence[MatchColumns]
    diagnostics: Sequence[Diagnostics]
    diagnoses: Sequence[Diagnosis]
    images: EvaluatedImages
    official: CityscapesMetrics | None = None
    gain: TTAGain | None = None


def write_report(
    path: Path,
    model: EvaluatedModel,
    manifest: Manifest,
    config: EvaluationConfig,
    found: Findings,
    history: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write the report of an evaluation to one HTML file, whole or not at all.

    Published metrics stand beside the measured ones where evaluation.paper_row names a row; ValueError where it names
    none. At most evaluation.report_images images are shown, chosen as chosen_images.py has it.
    """
    paper = None if config.paper_row is None else read_paper_row(config.paper_row)
    pictures = _pictures(manifest, found, config.report_images)
    spec = read_model_spec(model.folder)
    write_whole(path, render_report(model, spec, manifest, found, paper, pictures, history or []))


def render_report(
    model: EvaluatedModel,
    spec: ModelSpec,
    manifest: Manifest,
    found: Findings,
    paper: PaperRow | None,
    pictures: Sequence[tuple[Picture, float, list[str]]],
    history: Sequence[Mapping[str, Any]],
) -> str:
    """The page; pictures are with their quality and why they are there."""
    names = class_names(manifest.labels)
    environment = page_environment()
    environment.filters["percent"] = _percent
    # Classes stand in the order of the label map, in the diagnostics by ascending id.
    by_id = [names[manifest.labels.class_indices[k]] for k in sorted(manifest.labels.category_ids)]
    index = [manifest.labels.class_indices[k] for k in sorted(manifest.labels.category_ids)]
    return environment.get_template("report.html.jinja").render(
        model=model,
        spec=spec,
        manifest=manifest,
        num_detections=found.images.num_results,
        shown_score=SHOWN_SCORE,
        types=[
            {"iou_type": one.iou_type, "title": TITLES[one.iou_type], "by_category": RULES[one.iou_type].by_category}
            for one in found.metrics
        ],
        metric_rows=metric_rows(found.metrics, paper, found.diagnostics),
        paper=paper,
        gain=found.gain,
        official=None if found.official is None else official_rows(found.official, paper),
        parts=diagnostic_parts(found.diagnostics, by_id, index),
        per_class=category_rows(found.metrics, found.diagnostics, manifest.labels),
        classes=names,
        classes_and_background=[*by_id, BACKGROUND],
        errors=list(ERRORS),
        reasons=[reason for reason in REASONS if any(reason in why for _, _, why in pictures)],
        definitions=all_definitions(),
        precision_recall=Markup(precision_recall_chart(found.metrics)),
        score_chart=Markup(score_chart(found.diagnostics)),
        score_text=score_text(found.diagnostics),
        history=Markup(history_chart(history)),
        pictures=[
            {"file_name": picture.file_name, "data": picture.data, "quality": quality, "why": why}
            for picture, quality, why in pictures
        ],
        picture_data=_as_script(
            {"classes": list(names), "pictures": [_for_script(one, why) for one, _, why in pictures]}
        ),
        script=Markup(SCRIPT.read_text(encoding="utf-8")),
    )


def _for_script(picture: Picture, why: list[str]) -> dict[str, Any]:
    """What the page's script needs of a picture; the image itself is in the page already."""
    size = {"width": picture.width, "height": picture.height}
    return {"id": picture.image_id, "name": picture.file_name, **size, "shapes": picture.shapes, "why": why}


def _pictures(manifest: Manifest, found: Findings, num_images: int) -> list[tuple[Picture, float, list[str]]]:
    import ray

    if not len(found.images.image_ids):
        return []
    # The last type decides: masks or keypoints where there are any; errors are those of masks, or else of boxes.
    qualities = image_qualities(found.matches[-1])
    diagnosis = found.diagnoses[-1] if found.diagnoses else None
    chosen = choose_images(rank_images(qualities, diagnosis), num_images)
    if not chosen:
        return []
    index_of = {image_id: index for index, image_id in enumerate(manifest.image_ids.tolist())}
    results = found.images.results(list(chosen))
    kind = "keypoints" if diagnosis is None else diagnosis.matches.iou_type
    # Without a CPU of its own, and not in the placement group of a trial, it waits for nobody.
    task = ray.remote(num_cpus=0, scheduling_strategy="SPREAD")(draw_pictures)
    pictures = ray.get(task.remote(manifest, [index_of[image_id] for image_id in chosen], results, kind))
    return [(one, qualities[one.image_id], chosen[one.image_id]) for one in pictures]


def _as_script(tree: Any) -> Markup:
    """A tree as JSON inside a script element, which nothing in it can end."""
    return Markup(json.dumps(tree, separators=(",", ":")).replace("<", "\\u003c"))


def _percent(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) or value <= -1 else f"{100 * value:.1f}"
