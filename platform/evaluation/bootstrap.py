"""Metrics of resampled data sets: how far a metric, or a difference of two models, could lie with other images.

Letters: B resamples, N images, D detections of one category, T IoU thresholds, R recall levels, F metrics.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maskray.platform.evaluation.coco_ap import RECALL_LEVELS
from maskray.platform.evaluation.matching import IOU_THRESHOLDS, ImageMatches
from maskray.platform.evaluation.rules import RULES, IouType, Metric

Floats = NDArray[np.float64]
MOST_VALUES = 20_000_000  # of one array: resamples are worked on in groups of so many


def draw_weights(num_images: int, num_samples: int, seed: int = 0) -> NDArray[np.int64]:
    """How often each image is in each resample with replacement, (B, N); the same arguments give the same."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(num_images, np.full(num_images, 1.0 / num_images), size=num_samples)


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
    metrics = [_find(rules.metrics, name, iou_type) for name in names]
    areas = list(rules.areas)
    image_of = np.repeat(np.arange(len(parts)), [len(part.categories) for part in parts])
    categories = np.concatenate([part.categories for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    wanted = {metric.area for metric in metrics}
    sums = {area: np.zeros((len(weights), len(IOU_THRESHOLDS))) for area in wanted}
    defined = {area: np.zeros(len(weights)) for area in wanted}
    matched = {area: np.concatenate([part.matched[:, areas.index(area)] for part in parts]) for area in wanted}
    counted = {area: ~np.concatenate([part.ignored[:, areas.index(area)] for part in parts]) for area in wanted}
    for category in sorted(set(category_ids)):
        chosen = np.flatnonzero(categories == category)
        order = chosen[np.argsort(-scores[chosen], kind="stable")]
        for area in wanted:
            num_objects = weights @ _objects(parts, category, areas.index(area))
            hit, counts = matched[area][order], counted[area][order]
            precision = _mean_precision(weights, image_of[order], hit & counts, ~hit & counts, num_objects)
            has_objects = num_objects > 0
            sums[area][has_objects] += precision[has_objects]
            defined[area] += has_objects
    columns = []
    for metric in metrics:
        at = slice(None) if metric.overlap is None else np.isclose(IOU_THRESHOLDS, metric.overlap)
        with np.errstate(invalid="ignore"):
            columns.append(
                sums[metric.area][:, at].mean(axis=1) / np.where(defined[metric.area] > 0, defined[metric.area], np.nan)
            )
    return np.stack(columns, axis=1)


def _find(metrics: Sequence[Metric], name: str, iou_type: IouType) -> Metric:
    for metric in metrics:
        if metric.name == name and metric.of == "precision":
            return metric
    raise ValueError(f"no interval is known for {iou_type}/{name}: it is made of precisions alone")


def _objects(parts: Sequence[ImageMatches], category: int, area: int) -> NDArray[np.int64]:
    """Objects of a category in each image, (N,)."""
    return np.array([int(part.gt_counts[part.gt_categories == category, area].sum()) for part in parts], dtype=np.int64)


def _mean_precision(
    weights: NDArray[np.int64],
    image_of: NDArray[np.int64],
    true: NDArray[np.bool_],
    false: NDArray[np.bool_],
    num_objects: NDArray[np.int64],
) -> Floats:
    """Mean over the recall levels of the monotonic precision, (B, T), of detections (D, T) by descending score."""
    means = np.zeros((len(weights), len(IOU_THRESHOLDS)))
    if len(image_of) == 0:
        return means
    group = max(1, MOST_VALUES // len(image_of))
    for start in range(0, len(weights), group):
        times = weights[start : start + group, image_of].astype(np.float64)  # (b, D)
        objects = np.maximum(num_objects[start : start + group], 1)[:, None]
        for t in range(len(IOU_THRESHOLDS)):
            hits = np.cumsum(times * true[:, t], axis=1)
            precisions = hits / (hits + np.cumsum(times * false[:, t], axis=1) + np.spacing(1))
            precisions = np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
            recalls = hits / objects
            for b, (recall, precision) in enumerate(zip(recalls, precisions)):
                reached = np.searchsorted(recall, RECALL_LEVELS, side="left")
                reached = reached[reached < len(recall)]
                means[start + b, t] = precision[reached].sum() / len(RECALL_LEVELS)
    return means
