"""COCO average precision and recall from per-image matches, equal to pycocotools whatever the partition.

Letters: T IoU thresholds, R recall levels, K categories, A area ranges, M limits on detections per image and category.
Source: pycocotools 2.0.11, cocoeval.py (COCOeval.accumulate and summarize).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.ops.accumulate_matches import accumulate_matches
from maskray.platform.evaluation.matching import (
    IOU_THRESHOLDS,
    ImageMatches,
    MatchColumns,
    concatenate,
    in_image_order,
    join_images,
    match_entries,
)
from maskray.platform.evaluation.protocols import COCO, Protocol
from maskray.platform.evaluation.rules import IouType, Metric, Rules

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
    protocol: Protocol = COCO
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def stats(self) -> list[float]:
        """The metrics in the order of the protocol's rules, as fractions, -1 where undefined."""
        return [self._value(metric, self._chosen(metric)) for metric in self._rules.metrics]

    @property
    def metrics(self) -> dict[str, float]:
        """The same by name: bbox/AP, bbox/AP50, ..."""
        return {f"{self.iou_type}/{metric.name}": value for metric, value in zip(self._rules.metrics, self.stats)}

    def per_category(self) -> dict[int, dict[str, float]]:
        """The metrics Rules.by_category of every category id, nan where it has no ground truth."""
        rules = self._rules
        chosen = [metric for metric in rules.metrics if metric.name in rules.by_category]
        rows = {}
        for k, category in enumerate(self.category_ids):
            values = [self._value(metric, [k]) for metric in chosen]
            rows[category] = {metric.name: value if value > -1 else math.nan for metric, value in zip(chosen, values)}
        return rows

    @property
    def _rules(self) -> Rules:
        return self.protocol.rules[self.iou_type]

    def _chosen(self, metric: Metric) -> list[int]:
        """The categories that a metric is the mean of, as indices."""
        known = set(self.category_ids if metric.group is None else self.groups[metric.group])
        return [k for k, category in enumerate(self.category_ids) if category in known]

    def _value(self, metric: Metric, categories: list[int]) -> float:
        """A metric, mean of some categories; -1 where it is undefined."""
        rules = self._rules
        area, limit = list(rules.areas).index(metric.area), rules.limits.index(metric.limit)
        values = self.precision if metric.of == "precision" else self.recall
        if metric.overlap is not None:
            values = values[np.isclose(IOU_THRESHOLDS, metric.overlap)]
        return _mean(values[..., area, limit][..., categories])


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


def merge_columns(
    parts: Sequence[MatchColumns],
    category_ids: Sequence[int],
    iou_type: IouType,
    protocol: Protocol = COCO,
    groups: Mapping[str, tuple[int, ...]] | None = None,
) -> CocoMetrics:
    """The same of columns of many images each; they are matches of this IoU type, protocol and of these categories.

    groups names ids of categories of which the protocol has metrics of their own.
    """
    ids = np.array(sorted(set(category_ids)), dtype=np.int64)
    rules = protocol.rules[iou_type]
    whole = in_image_order(concatenate(parts) if len(parts) else join_images([], category_ids, iou_type))
    if whole.iou_type != iou_type or not np.array_equal(whole.category_ids, ids):
        raise ValueError(f"the matches are of {whole.iou_type} or of other categories, not of {iou_type}")
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
    curves = (precision, recall, scores)
    return CocoMetrics(iou_type, tuple(ids.tolist()), num_images, *curves, gt_counts, protocol, groups or {})


def _mean(values: NDArray[np.float64]) -> float:
    """Mean of the defined values, -1 without any."""
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else -1.0
