"""COCO average precision and recall from per-image matches, equal to pycocotools whatever the partition.

Letters: T IoU thresholds, R recall levels, K categories, A area ranges, M limits on detections per image and category.
Source: pycocotools 2.0.11, cocoeval.py (COCOeval.accumulate and summarize).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.ops.accumulate_matches import accumulate_matches
from maskray.platform.evaluation.matching import IOU_THRESHOLDS, ImageMatches, MatchColumns, join_images, match_entries
from maskray.platform.evaluation.rules import RULES, IouType, Metric, metric_names

RECALL_LEVELS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class CocoMetrics:
    """The metrics of one data set and IoU type; -1 wherever there is no ground truth, as pycocotools has it.

    category_ids (K,) ascending; precision (T, R, K, A, M), recall (T, K, A, M) and scores like precision (the score at
    which a recall level is reached); gt_counts (K, A) objects that are not ignored.
    """

    iou_type: IouType
    category_ids: tuple[int, ...]
    num_images: int
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    scores: NDArray[np.float64]
    gt_counts: NDArray[np.int64]

    @property
    def stats(self) -> list[float]:
        """The COCO metrics in pycocotools' order (metric_names), as fractions, -1 where undefined."""
        return [self._value(metric, slice(None)) for metric in RULES[self.iou_type].metrics]

    @property
    def metrics(self) -> dict[str, float]:
        """The same by name: bbox/AP, bbox/AP50, ..."""
        return {f"{self.iou_type}/{name}": value for name, value in zip(metric_names(self.iou_type), self.stats)}

    def per_category(self) -> dict[int, dict[str, float]]:
        """The metrics Rules.by_category of every category id, nan where it has no ground truth."""
        rules = RULES[self.iou_type]
        chosen = [metric for metric in rules.metrics if metric.name in rules.by_category]
        rows = {}
        for k, category in enumerate(self.category_ids):
            values = [self._value(metric, slice(k, k + 1)) for metric in chosen]
            rows[category] = {metric.name: value if value > -1 else math.nan for metric, value in zip(chosen, values)}
        return rows

    def _value(self, metric: Metric, categories: slice) -> float:
        """A metric, mean of a range of categories; -1 where it is undefined."""
        rules = RULES[self.iou_type]
        area, limit = list(rules.areas).index(metric.area), rules.limits.index(metric.limit)
        values = self.precision if metric.of == "precision" else self.recall
        if metric.overlap is not None:
            values = values[np.isclose(IOU_THRESHOLDS, metric.overlap)]
        return _mean(values[..., categories, area, limit])


def evaluate_images(
    images: Iterable[tuple[int, tuple[int, int], Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]],
    category_ids: Sequence[int],
    iou_type: IouType,
) -> list[ImageMatches]:
    """Match every image given as (image id, (height, width), ground truth, detections); see match_image."""
    return match_entries(list(images), category_ids, iou_type).images()


def merge(parts: Iterable[ImageMatches], category_ids: Sequence[int], iou_type: IouType) -> CocoMetrics:
    """Metrics of the images in `parts`, in whatever order they come.

    Equal scores rank by image id, then by order within the image, as pycocotools ranks them: the outcome does not
    depend on how the images were divided. Raises ValueError when an image comes twice or has another IoU type.
    """
    images = sorted(parts, key=lambda part: part.image_id)
    for image in images:
        if image.iou_type != iou_type:
            raise ValueError(f"image {image.image_id} was evaluated for {image.iou_type}, not for {iou_type}")
    return merge_columns([join_images(images, category_ids, iou_type)], category_ids, iou_type)


def merge_columns(parts: Sequence[MatchColumns], category_ids: Sequence[int], iou_type: IouType) -> CocoMetrics:
    """The same of columns of many images each; they are matches of this IoU type and of these categories."""
    ids = np.array(sorted(set(category_ids)), dtype=np.int64)
    for part in parts:
        if part.iou_type != iou_type or not np.array_equal(part.category_ids, ids):
            raise ValueError(f"the matches are of {part.iou_type} or of other categories, not of {iou_type}")
    rules = RULES[iou_type]
    whole = _in_image_order(parts) if len(parts) else join_images([], category_ids, iou_type)
    twice = whole.image_ids[1:][whole.image_ids[1:] == whole.image_ids[:-1]]
    if len(twice):
        raise ValueError(f"image {twice[0]} was evaluated twice for {iou_type}")
    gt_counts = np.zeros((len(ids), len(rules.areas)), dtype=np.int64)
    np.add.at(gt_counts, whole.gt_classes, whole.gt_objects)
    precision, recall, scores = accumulate_matches(
        whole.counts,
        whole.classes,
        whole.scores,
        whole.matched,
        whole.ignored,
        gt_counts,
        len(IOU_THRESHOLDS),
        RECALL_LEVELS,
        rules.limits,
    )
    num_images = len(whole.image_ids)
    return CocoMetrics(iou_type, tuple(ids.tolist()), num_images, precision, recall, scores, gt_counts)


def _in_image_order(parts: Sequence[MatchColumns]) -> MatchColumns:
    """All parts as one, by ascending image id; the order of categories with objects does not matter, and is lost."""
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts]) if len(parts) > 1 else getattr(parts[0], name)
        for name in vars(parts[0])
        if name not in ("iou_type", "category_ids")
    }
    image_ids = joined["image_ids"]
    if (np.diff(image_ids) < 0).any():
        order = np.argsort(image_ids, kind="stable")
        counts = joined["counts"][order]
        starts = (np.cumsum(joined["counts"]) - joined["counts"])[order]
        rows = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        joined |= {name: joined[name][rows] for name in ("classes", "scores", "matched", "ignored")}
        joined |= {"image_ids": image_ids[order], "counts": counts}
    return MatchColumns(iou_type=parts[0].iou_type, category_ids=parts[0].category_ids, **joined)


def _mean(values: NDArray[np.float64]) -> float:
    """Mean of the defined values, -1 without any."""
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else -1.0
