"""All that an evaluation says of one IoU type beside its metrics: errors, confusion, scores, calibration, slices.

Letters: K classes, S attributes, R ranges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.ops.accumulate_matches import accumulate_matches
from maskray.platform.evaluation.bootstrap import (
    draw_weights,
    find_metric,
    interval,
    mean_metric,
    resampled_precisions,
)
from maskray.platform.evaluation.coco_ap import RECALL_LEVELS, CocoMetrics
from maskray.platform.evaluation.confusion import confusion_matrix
from maskray.platform.evaluation.diagnosis import Diagnosis, diagnosis_in_image_order
from maskray.platform.evaluation.error_costs import ErrorCosts, measure_errors
from maskray.platform.evaluation.matching import IOU_THRESHOLDS, MatchColumns, in_image_order
from maskray.platform.evaluation.rules import RULES, IouType
from maskray.platform.evaluation.score_curves import Calibration, ScoreCurve, calibrate, judge_detections, score_curve
from maskray.platform.evaluation.slices import ATTRIBUTES, NUM_RANGES

SHOWN_SCORE = 0.5
NUM_SAMPLES = 200
WITH_INTERVAL = ("AP", "AP50", "AP75")
_SIZES = {"small, below 32²": "small", "medium": "medium", "large, above 96²": "large"}


@dataclass(frozen=True)
class Slice:
    """AP and AP50 (nan without objects) of the objects in one range of an attribute, and how many count."""

    attribute: str
    meaning: str
    name: str
    average_precision: float
    ap50: float
    objects: int


@dataclass(frozen=True)
class Diagnostics:
    """Of one IoU type; errors, confusion and slices are of boxes and masks alone, and None or empty of keypoints.

    curves (K,) and whole over the scores; class_errors (K,) are the calibration errors of the classes, nan where there
    is no detection; confusion (K + 1, K + 1) of detections with a score of SHOWN_SCORE or more;
    intervals of metrics by name, 95 %, over images.
    """

    iou_type: IouType
    category_ids: tuple[int, ...]
    curves: tuple[ScoreCurve, ...]
    whole: ScoreCurve
    calibration: Calibration
    class_errors: tuple[float, ...]
    intervals: dict[str, tuple[float, float]]
    errors: ErrorCosts | None = None
    confusion: NDArray[np.int64] | None = None
    slices: tuple[Slice, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds: numbers, None where one is not defined."""
        best = [None if one is None else dict(zip(("score", "f1", "precision", "recall"), one)) for one in self._best()]
        found: dict[str, Any] = {
            "category_ids": list(self.category_ids),
            "intervals": {name: [_number(end) for end in ends] for name, ends in self.intervals.items()},
            "best_score": dict(zip(["all", *map(str, self.category_ids)], best)),
            "calibration": {
                "error": _number(self.calibration.error),
                "counts": self.calibration.counts.tolist(),
                "confidence": [_number(value) for value in self.calibration.confidence],
                "accuracy": [_number(value) for value in self.calibration.accuracy],
            },
        }
        if self.errors is not None and self.confusion is not None:
            found["errors"] = {
                name: {"cost": cost, "count": int(self.errors.counts[name].sum())}
                for name, cost in self.errors.costs.items()
            }
            found["confusion"] = {"least_score": SHOWN_SCORE, "matrix": self.confusion.tolist()}
            found["slices"] = [
                {"attribute": one.attribute, "range": one.name, "objects": one.objects}
                | {"AP": _number(one.average_precision), "AP50": _number(one.ap50)}
                for one in self.slices
            ]
        return found

    def _best(self) -> list[tuple[float, float, float, float] | None]:
        return [self.whole.best(), *(curve.best() for curve in self.curves)]


def make_diagnostics(
    metrics: CocoMetrics, matches: MatchColumns, diagnosis: Diagnosis | None, num_samples: int = NUM_SAMPLES
) -> Diagnostics:
    """The diagnostics of an evaluation; matches and diagnosis are of all its images, by ascending id or not."""
    matches = in_image_order(matches)
    judged = judge_detections(matches)
    found: dict[str, Any] = {}
    if diagnosis is not None:
        diagnosis = diagnosis_in_image_order(diagnosis)
        found = {
            "errors": measure_errors(diagnosis),
            "confusion": confusion_matrix(diagnosis, SHOWN_SCORE),
            "slices": (*_size_slices(metrics), *measure_slices(diagnosis)),
        }
    return Diagnostics(
        iou_type=metrics.iou_type,
        category_ids=metrics.category_ids,
        curves=tuple(score_curve(judged, k) for k in range(len(metrics.category_ids))),
        whole=score_curve(judged),
        calibration=calibrate(judged.scores, judged.right),
        class_errors=tuple(
            calibrate(judged.scores[of_class], judged.right[of_class]).error
            for of_class in (judged.classes == k for k in range(len(metrics.category_ids)))
        ),
        intervals=measure_intervals(matches, num_samples),
        **found,
    )


def measure_intervals(matches: MatchColumns, num_samples: int) -> dict[str, tuple[float, float]]:
    """Intervals of the metrics WITH_INTERVAL, of matches in the order in which equal scores rank."""
    rules = RULES[matches.iou_type]
    if len(matches.image_ids) == 0:
        return dict.fromkeys(WITH_INTERVAL, (math.nan, math.nan))
    weights = draw_weights(len(matches.image_ids), num_samples)
    precisions = resampled_precisions(matches, rules, "all", weights)
    chosen = {name: find_metric(rules, name, matches.iou_type) for name in WITH_INTERVAL}
    return {name: interval(mean_metric(metric, precisions)) for name, metric in chosen.items()}


def measure_slices(diagnosis: Diagnosis) -> list[Slice]:
    """AP of the objects in each range of each attribute; the images are in the order in which equal scores rank."""
    matches, num_classes = diagnosis.matches, diagnosis.num_classes
    limits = RULES[matches.iou_type].limits[-1:]
    found = []
    for s, attribute in enumerate(ATTRIBUTES):
        objects = np.zeros((num_classes, NUM_RANGES), dtype=np.int64)
        np.add.at(objects, matches.gt_classes, diagnosis.slices.objects[:, s])
        precision, _, _ = accumulate_matches(
            matches.counts,
            matches.classes,
            matches.scores,
            diagnosis.slices.matched[:, s].astype(np.uint64),
            diagnosis.slices.ignored[:, s].astype(np.uint64),
            objects,
            len(IOU_THRESHOLDS),
            RECALL_LEVELS,
            limits,
        )
        for r, name in enumerate(attribute.ranges):
            of_range = precision[:, :, objects[:, r] > 0, r, 0]
            found.append(_slice(attribute.name, attribute.meaning, name, of_range, int(objects[:, r].sum())))
    return found


def _size_slices(metrics: CocoMetrics) -> list[Slice]:
    """The areas of COCO as slices of their own."""
    areas = list(RULES[metrics.iou_type].areas)
    found = []
    for name, area in _SIZES.items():
        a = areas.index(area)
        of_area = metrics.precision[:, :, metrics.gt_counts[:, a] > 0, a, -1]
        objects = int(metrics.gt_counts[:, a].sum())
        found.append(_slice("size", "area of the object in square pixels", name, of_area, objects))
    return found


def _slice(attribute: str, meaning: str, name: str, precision: NDArray[np.float64], objects: int) -> Slice:
    """A slice of precisions (T, R, K) of the classes with objects."""
    whole, at_50 = (float(of.mean()) if of.size else math.nan for of in (precision, precision[0]))
    return Slice(attribute, meaning, name, whole, at_50, objects)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
