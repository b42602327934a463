"""Metrics of resampled data sets: how far a metric, or a difference of two models, could lie with other images.

Letters: B resamples, N images, D detections of one category, H right ones, K categories, T IoU thresholds, F metrics.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maskray.platform.evaluation.coco_ap import RECALL_LEVELS
from maskray.platform.evaluation.matching import IOU_THRESHOLDS, ImageMatches, MatchColumns, join_images
from maskray.platform.evaluation.rules import RULES, IouType, Metric, Rules

Floats = NDArray[np.float64]
MOST_VALUES = 20_000_000  # of one array: resamples are worked on in groups of so many
INTERVAL = (2.5, 97.5)  # percentiles


def draw_weights(num_images: int, num_samples: int, seed: int = 0) -> NDArray[np.int64]:
    """How often each image is in each resample with replacement, (B, N); the same arguments give the same."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(num_images, np.full(num_images, 1.0 / num_images), size=num_samples)


def interval(values: Floats) -> tuple[float, float]:
    """The middle 95 % of resampled values (B,) that are defined; nan where fewer than half are."""
    defined = values[~np.isnan(values)]
    if len(defined) == 0 or 2 * len(defined) < len(values):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, INTERVAL)
    return float(low), float(high)


def resampled_metrics(
    parts: Sequence[ImageMatches],
    category_ids: Sequence[int],
    iou_type: IouType,
    names: Sequence[str],
    weights: NDArray[np.int64],
) -> Floats:
    """Metrics by name (AP, AP50, APm, ...; precision alone) of each resample, (B, F); nan where it has no ground truth.

    parts are those of N images in the order of the columns of weights (B, N). An image that is drawn twice counts as
    two images with the same detections; with all weights 1 the metrics are those of coco_ap.merge.
    """
    rules = RULES[iou_type]
    metrics = [find_metric(rules, name, iou_type) for name in names]
    matches = join_images(parts, category_ids, iou_type)
    by_area = {metric.area: resampled_precisions(matches, rules, metric.area, weights) for metric in metrics}
    return np.stack([mean_metric(metric, by_area[metric.area]) for metric in metrics], axis=1)


def find_metric(rules: Rules, name: str, iou_type: IouType) -> Metric:
    """A metric that is made of precisions alone, by name; ValueError where there is none."""
    for metric in rules.metrics:
        if metric.name == name and metric.of == "precision":
            return metric
    raise ValueError(f"no interval is known for {iou_type}/{name}: it is made of precisions alone")


def mean_metric(metric: Metric, precisions: Floats) -> Floats:
    """A metric (B,) of precisions (B, K, T) of its area: mean of the categories that are defined, else nan."""
    at = slice(None) if metric.overlap is None else np.isclose(IOU_THRESHOLDS, metric.overlap)
    values = precisions[:, :, at].mean(axis=2)
    defined = (~np.isnan(values)).sum(axis=1)
    return np.nansum(values, axis=1) / np.where(defined > 0, defined, np.nan)


def resampled_precisions(matches: MatchColumns, rules: Rules, area: str, weights: NDArray[np.int64]) -> Floats:
    """Average precision of each resample, category and threshold, (B, K, T); nan where it has no ground truth.

    weights (B, N) are of the images in the order of matches, which is that in which equal scores rank.
    """
    a, num_thresholds = list(rules.areas).index(area), len(IOU_THRESHOLDS)
    bits = np.arange(a * num_thresholds, (a + 1) * num_thresholds, dtype=np.uint64)
    image_of, gt_image_of = (np.repeat(np.arange(len(of)), of) for of in (matches.counts, matches.gt_counts))
    order = np.lexsort((-matches.scores, matches.classes))
    ends = np.cumsum(np.bincount(matches.classes, minlength=len(matches.category_ids)))
    found = np.full((len(weights), len(matches.category_ids), num_thresholds), np.nan)
    for k, (start, end) in enumerate(zip(np.append(0, ends[:-1]), ends)):
        of_class = matches.gt_classes == k
        objects = weights[:, gt_image_of[of_class]] @ matches.gt_objects[of_class, a]
        rows = order[start:end]
        matched, ignored = (levels[rows, None] >> bits & np.uint64(1) for levels in (matches.matched, matches.ignored))
        counts = ignored == 0
        right = (matched != 0) & counts
        precision = _mean_precision(weights, image_of[rows], right, ~right & counts, objects)
        found[:, k] = np.where(objects[:, None] > 0, precision, np.nan)
    return found


def _mean_precision(
    weights: NDArray[np.int64],
    image_of: NDArray[np.int64],
    right: NDArray[np.bool_],
    wrong: NDArray[np.bool_],
    objects: NDArray[np.int64],
) -> Floats:
    """Mean over the recall levels of the monotonic precision, (B, T), of detections (D, T) by descending score."""
    means = np.zeros((len(weights), len(IOU_THRESHOLDS)))
    if len(image_of) == 0:
        return means
    group = max(1, MOST_VALUES // len(image_of))
    for start in range(0, len(weights), group):
        times = weights[start : start + group, image_of].astype(np.float64)  # (b, D)
        to_find = np.maximum(objects[start : start + group], 1)[:, None]
        for t in range(len(IOU_THRESHOLDS)):
            hits = np.flatnonzero(right[:, t])
            if len(hits) == 0:
                continue
            # Precision falls from one right detection to the next, so that it is needed there alone: (b, H).
            others = np.flatnonzero(wrong[: hits[-1], t])
            false = np.cumsum(np.pad(times[:, others], ((0, 0), (1, 0))), axis=1)[:, np.searchsorted(others, hits)]
            true = np.cumsum(times[:, hits], axis=1)
            precisions = true / (true + false + np.spacing(1))
            precisions = np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
            for b, (recall, precision) in enumerate(zip(true / to_find, precisions)):
                reached = np.searchsorted(recall, RECALL_LEVELS, side="left")
                means[start + b, t] = precision[reached[reached < len(recall)]].sum() / len(RECALL_LEVELS)
    return means
