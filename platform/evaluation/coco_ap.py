"""COCO average precision and recall from per-image matches, equal to pycocotools whatever the partition.

Letters: T IoU thresholds, R recall levels, K categories, A area ranges, M limits on detections per image and category.
Source: pycocotools 2.0.11, cocoeval.py (COCOeval.accumulate and summarize).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.platform.evaluation.matching import IOU_THRESHOLDS, ImageMatches, match_image
from maskray.platform.evaluation.rules import RULES, IouType, Metric, Rules, metric_names

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
    return [match_image(image_id, size, gt, dt, category_ids, iou_type) for image_id, size, gt, dt in images]


def merge(parts: Iterable[ImageMatches], category_ids: Sequence[int], iou_type: IouType) -> CocoMetrics:
    """Metrics of the images in `parts`, in whatever order they come.

    Equal scores rank by image id, then by order within the image, as pycocotools ranks them: the outcome does not
    depend on how the images were divided. Raises ValueError when an image comes twice or has another IoU type.
    """
    images = sorted(parts, key=lambda part: part.image_id)
    for image, following in itertools.pairwise(images):
        if image.image_id == following.image_id:
            raise ValueError(f"image {image.image_id} was evaluated twice for {iou_type}")
    for image in images:
        if image.iou_type != iou_type:
            raise ValueError(f"image {image.image_id} was evaluated for {image.iou_type}, not for {iou_type}")
    ids = tuple(sorted(set(category_ids)))
    rules = RULES[iou_type]
    num_t, num_r, num_k, num_m = len(IOU_THRESHOLDS), len(RECALL_LEVELS), len(ids), len(rules.limits)
    precision = -np.ones((num_t, num_r, num_k, len(rules.areas), num_m))
    recall = -np.ones((num_t, num_k, len(rules.areas), num_m))
    scores = -np.ones_like(precision)
    gt_counts = _count_ground_truth(images, ids, rules)
    pooled = _pool(images, rules)
    for k, category in enumerate(ids):
        detections = pooled.of_category(category)
        for a in np.flatnonzero(gt_counts[k]):
            for m, limit in enumerate(rules.limits):
                curve = _precision_recall(detections, int(a), limit, int(gt_counts[k, a]))
                precision[:, :, k, a, m], recall[:, k, a, m], scores[:, :, k, a, m] = curve
    return CocoMetrics(iou_type, ids, len(images), precision, recall, scores, gt_counts)


@dataclass(frozen=True)
class _Pooled:
    """Detections of many images in image order: like ImageMatches, and ranks (D,) within image and category."""

    categories: NDArray[np.int64]
    ranks: NDArray[np.int64]
    scores: NDArray[np.float64]
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]

    def of_category(self, category: int) -> _Pooled:
        """The detections of one category by descending score; the sort is stable, so ties stay in image order."""
        chosen = np.flatnonzero(self.categories == category)
        order = chosen[np.argsort(-self.scores[chosen], kind="stable")]
        return _Pooled(
            self.categories[order], self.ranks[order], self.scores[order], self.matched[order], self.ignored[order]
        )


def _pool(images: list[ImageMatches], rules: Rules) -> _Pooled:
    shape = (0, len(rules.areas), len(IOU_THRESHOLDS))
    empty = np.zeros(0, dtype=np.int64)
    return _Pooled(
        np.concatenate([empty, *(image.categories for image in images)]),
        np.concatenate([empty, *(_ranks(image.categories) for image in images)]),
        np.concatenate([np.zeros(0), *(image.scores for image in images)]),
        np.concatenate([np.zeros(shape, dtype=bool), *(image.matched for image in images)]),
        np.concatenate([np.zeros(shape, dtype=bool), *(image.ignored for image in images)]),
    )


def _ranks(categories: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each detection within its run of equal categories, from 0."""
    _, starts, counts = np.unique(categories, return_index=True, return_counts=True)
    return np.arange(len(categories)) - np.repeat(starts, counts)


def _count_ground_truth(images: list[ImageMatches], category_ids: tuple[int, ...], rules: Rules) -> NDArray[np.int64]:
    """Objects of every category that are not ignored, (K, A)."""
    counts = np.zeros((len(category_ids), len(rules.areas)), dtype=np.int64)
    row = {category: k for k, category in enumerate(category_ids)}
    for image in images:
        counts[[row[int(category)] for category in image.gt_categories]] += image.gt_counts
    return counts


def _precision_recall(
    detections: _Pooled, area: int, limit: int, num_objects: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision (T, R) made monotonic, final recall (T,) and scores (T, R) of one category, area range and limit."""
    kept = detections.ranks < limit
    scores = detections.scores[kept]
    counted = ~detections.ignored[kept, area]
    matched = detections.matched[kept, area]
    true_positives = np.cumsum(matched & counted, axis=0, dtype=np.float64)  # (D, T)
    false_positives = np.cumsum(~matched & counted, axis=0, dtype=np.float64)
    recalls = true_positives / num_objects
    precisions = true_positives / (false_positives + true_positives + np.spacing(1))
    precisions = np.maximum.accumulate(precisions[::-1], axis=0)[::-1]
    shape = (len(IOU_THRESHOLDS), len(RECALL_LEVELS))
    precision_at, score_at = np.zeros(shape), np.zeros(shape)
    for t in range(len(IOU_THRESHOLDS)):
        reached = np.searchsorted(recalls[:, t], RECALL_LEVELS, side="left")
        reached = reached[reached < len(scores)]
        precision_at[t, : len(reached)] = precisions[reached, t]
        score_at[t, : len(reached)] = scores[reached]
    final_recall = recalls[-1] if len(scores) else np.zeros(len(IOU_THRESHOLDS))
    return precision_at, final_recall, score_at


def _mean(values: NDArray[np.float64]) -> float:
    """Mean of the defined values, -1 without any."""
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else -1.0
