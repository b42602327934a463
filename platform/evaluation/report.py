"""The HTML report of an evaluation: one file that needs nothing else, for a browser on any machine."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from maskray.platform.data.decode import decode_row
from maskray.platform.data.manifest import Manifest
from maskray.platform.data.row_reader import read_rows
from maskray.platform.evaluation.charts import TITLES, history_chart, precision_recall_chart
from maskray.platform.evaluation.coco_ap import CocoMetrics
from maskray.platform.evaluation.evaluated_images import EvaluatedImages
from maskray.platform.evaluation.matching import IOU_THRESHOLDS, ImageMatches, MatchColumns
from maskray.platform.evaluation.pages import data_uri, drawing_scale, page_environment
from maskray.platform.evaluation.paper import PaperRow, read_paper_row
from maskray.platform.evaluation.rules import RULES, metric_names
from maskray.platform.evaluation.tables import per_class_rows
from maskray.platform.files.model_folder import read_model_spec
from maskray.platform.files.storage import write_whole
from maskray.platform.inference.drawing import draw_detections
from maskray.platform.inference.engine import TORCH, Engine
from maskray.platform.job.config import EvaluationConfig

SHOWN_SCORE = 0.5
MEANING = {  # IoU, size of the objects, most detections per image
    "AP": "IoU 0.50:0.95",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "APs": "small objects, below 32² pixels",
    "APm": "medium objects",
    "APl": "large objects, above 96² pixels",
    "AR1": "recall, 1 detection per image",
    "AR10": "recall, 10 detections",
    "AR100": "recall, 100 detections",
    "AR": "recall, 20 detections",
    "AR50": "recall at IoU 0.50, 20 detections",
    "AR75": "recall at IoU 0.75, 20 detections",
    "ARs": "recall, small objects",
    "ARm": "recall, medium objects",
    "ARl": "recall, large objects",
}


@dataclass(frozen=True)
class ShownImage:
    """Ground truth beside prediction of one image; quality is F1 at score 0.5, mean over IoU, nan without objects."""

    why: str
    image_id: int
    file_name: str
    quality: float
    ground_truth: str
    prediction: str


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


def write_report(
    path: Path,
    model: EvaluatedModel,
    manifest: Manifest,
    config: EvaluationConfig,
    metrics: Sequence[CocoMetrics],
    images: EvaluatedImages,
    history: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write the report of an evaluation to one HTML file, whole or not at all.

    Published metrics stand beside the measured ones where evaluation.paper_row names a row; ValueError where it names
    none. evaluation.report_images images are shown: the first of the data set, the best and the worst.
    """
    paper = None if config.paper_row is None else read_paper_row(config.paper_row)
    environment = page_environment()
    environment.filters["percent"] = _percent
    text = environment.get_template("report.html.jinja").render(
        model=model,
        spec=read_model_spec(model.folder),
        manifest=manifest,
        num_detections=images.num_results,
        shown_score=SHOWN_SCORE,
        types=[
            {
                "iou_type": one.iou_type,
                "title": TITLES[one.iou_type],
                "by_category": RULES[one.iou_type].by_category,
            }
            for one in metrics
        ],
        metric_rows=_metric_rows(metrics, paper),
        paper=paper,
        per_class=per_class_rows(metrics, manifest.labels),
        precision_recall=Markup(precision_recall_chart(metrics)),
        history=Markup(history_chart(history or [])),
        images=_images(manifest, images, config.report_images),
    )
    write_whole(path, text)


def image_quality(part: ImageMatches) -> float:
    """F1 of the detections that are drawn, mean over the IoU thresholds; nan where there is nothing to find or say."""
    drawn = part.scores >= SHOWN_SCORE
    return _quality(part.matched[drawn, 0], part.ignored[drawn, 0], part.gt_counts[:, 0])


def image_qualities(matches: MatchColumns) -> dict[int, float]:
    """image_quality of every image, by its id."""
    bits = np.arange(len(IOU_THRESHOLDS), dtype=np.uint64)  # of the first area range
    ends, gt_ends = np.cumsum(matches.counts), np.cumsum(matches.gt_counts)
    qualities = {}
    for n, image_id in enumerate(matches.image_ids.tolist()):
        of, gt = slice(ends[n] - matches.counts[n], ends[n]), slice(gt_ends[n] - matches.gt_counts[n], gt_ends[n])
        drawn = matches.scores[of] >= SHOWN_SCORE
        matched, ignored = (
            (levels[of][drawn, None] >> bits & np.uint64(1)).astype(bool)
            for levels in (matches.matched, matches.ignored)
        )
        qualities[image_id] = _quality(matched, ignored, matches.gt_objects[gt, 0])
    return qualities


def _quality(matched: NDArray[np.bool_], ignored: NDArray[np.bool_], gt_counts: NDArray[np.int64]) -> float:
    """F1 of matches (D, T), mean over T; nan where there is nothing to find or say."""
    true_positives = (matched & ~ignored).sum(axis=0)
    total = gt_counts.sum() + (~ignored).sum(axis=0)
    return float(np.mean(2 * true_positives / total)) if (total > 0).all() else math.nan


def choose_images(qualities: Mapping[int, float], num_images: int) -> list[tuple[str, int]]:
    """Which images are shown, and why, as (reason, image id): a third each the first, the best and the worst.

    qualities are by image id; images without a quality are never best or worst. No image comes twice.
    """
    ids = sorted(qualities)
    ranked = sorted((i for i in ids if not math.isnan(qualities[i])), key=lambda i: (-qualities[i], i))
    third = -(-num_images // 3)
    chosen: dict[int, str] = {}
    for why, candidates, limit in (
        ("first", ids, third),
        ("best", ranked, (num_images - third + 1) // 2),
        ("worst", ranked[::-1], num_images),
        ("next", ids, num_images),
    ):
        room = min(limit, num_images - len(chosen))
        chosen |= dict.fromkeys([i for i in candidates if i not in chosen][:room], why)
    return [(why, image_id) for image_id, why in chosen.items()]


def _metric_rows(metrics: Sequence[CocoMetrics], paper: PaperRow | None) -> list[dict[str, Any]]:
    """The metrics, one a row: name, meaning, and measured and published value of every IoU type, None without."""
    rows = []
    for name in dict.fromkeys(name for one in metrics for name in metric_names(one.iou_type)):
        keys = [f"{one.iou_type}/{name}" for one in metrics]
        cells = [
            (one.metrics.get(key), None if paper is None else paper.metrics.get(key)) for one, key in zip(metrics, keys)
        ]
        rows.append({"name": name, "meaning": MEANING[name], "cells": cells})
    return rows


def _images(manifest: Manifest, evaluated: EvaluatedImages, num_images: int) -> list[ShownImage]:
    import ray

    # The last type decides: masks or keypoints where there are any.
    qualities = image_qualities(evaluated.matches()[-1]) if len(evaluated.image_ids) else {}
    index_of = {image_id: index for index, image_id in enumerate(manifest.image_ids)}
    chosen = choose_images(qualities, num_images)
    results = evaluated.results([image_id for _, image_id in chosen])
    # Without a CPU of its own, and not in the placement group of a trial, it waits for nobody.
    task = ray.remote(num_cpus=0, scheduling_strategy="SPREAD")(draw_pairs)
    pairs = ray.get(task.remote(manifest, [index_of[image_id] for _, image_id in chosen], results)) if chosen else []
    return [
        ShownImage(why, image_id, pair[0], qualities[image_id], *pair[1:])
        for (why, image_id), pair in zip(chosen, pairs)
    ]


def draw_pairs(
    manifest: Manifest, indices: Sequence[int], results: Sequence[Sequence[Mapping[str, Any]]]
) -> list[tuple[str, str, str]]:
    """Of each image its name and two pages' worth of it: with its objects, and with what was found in it.

    Runs in a task of Ray, near the shards, so that no image is ever decoded in the driver.
    """
    return [_draw_pair(manifest, index, found) for index, found in zip(indices, results, strict=True)]


def _draw_pair(manifest: Manifest, index: int, results: Sequence[Mapping[str, Any]]) -> tuple[str, str, str]:
    (row,) = read_rows(manifest, [index])
    image = decode_row(row)
    scale = drawing_scale(image)
    truth = draw_detections(image, json.loads(row["annotations"]), manifest.labels, scale=scale)
    found = draw_detections(image, results, manifest.labels, SHOWN_SCORE, scale)
    return row["file_name"], data_uri(truth), data_uri(found)


def _percent(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) or value <= -1 else f"{100 * value:.1f}"
