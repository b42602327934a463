"""What scores mean: precision, recall and F1 over the least score, the best one, and how well scores are calibrated.

Of matches at IoU 0.5, all sizes, detections in crowds left out. Letters: D detections, K classes, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskray.platform.evaluation.matching import MatchColumns

Floats = NDArray[np.float64]
NUM_BINS = 10
_FIRST_LEVEL = np.uint64(1)  # all sizes, the lowest threshold


@dataclass(frozen=True)
class JudgedDetections:
    """Detections (D,) that count: classes, scores, whether right; and objects (K,) of each class."""

    classes: NDArray[np.int32]
    scores: Floats
    right: NDArray[np.bool_]
    objects: NDArray[np.int64]


@dataclass(frozen=True)
class ScoreCurve:
    """Precision and recall of the detections of at least each score, scores ascending; `objects` are to be found."""

    scores: Floats
    precision: Floats
    recall: Floats
    objects: int

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall, 0 where both are."""
        total = self.precision + self.recall
        return np.where(total > 0, 2 * self.precision * self.recall / np.maximum(total, 1e-300), 0.0)

    def best(self) -> tuple[float, float, float, float] | None:
        """Score, F1, precision and recall where F1 is largest, the lowest such score; None where there is nothing."""
        if self.objects == 0 or len(self.scores) == 0:
            return None
        at = int(np.argmax(self.f1))
        return tuple(float(of[at]) for of in (self.scores, self.f1, self.precision, self.recall))  # type: ignore[return-value]


@dataclass(frozen=True)
class Calibration:
    """By bins (B,) of equal width: detections, their mean score and share that is right, nan without any; and the ECE.

    error is the mean gap of score and share, weighted by detections (Naeini et al. 2015); nan without detections.
    """

    counts: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats
    error: float


def judge_detections(matches: MatchColumns) -> JudgedDetections:
    """The detections of matches that count at IoU 0.5."""
    counts = matches.ignored & _FIRST_LEVEL == 0
    objects = np.zeros(len(matches.category_ids), dtype=np.int64)
    np.add.at(objects, matches.gt_classes, matches.gt_objects[:, 0])
    right = matches.matched & _FIRST_LEVEL != 0
    return JudgedDetections(matches.classes[counts], matches.scores[counts], right[counts], objects)


def score_curve(judged: JudgedDetections, class_index: int | None = None) -> ScoreCurve:
    """The curve of one class, or of all detections together."""
    chosen = slice(None) if class_index is None else judged.classes == class_index
    objects = int(judged.objects.sum() if class_index is None else judged.objects[class_index])
    scores, right = judged.scores[chosen], judged.right[chosen]
    order = np.argsort(scores, kind="stable")
    scores, right = scores[order], right[order]
    first = np.flatnonzero(np.append(True, np.diff(scores) > 0)[: len(scores)])
    hits = np.cumsum(right[::-1])[::-1][first]
    return ScoreCurve(scores[first], hits / (len(scores) - first), hits / max(objects, 1), objects)


def calibrate(scores: Floats, right: NDArray[np.bool_], num_bins: int = NUM_BINS) -> Calibration:
    """How scores of detections (D,), 0 to 1, compare with the share that is right; a bin includes its upper end."""
    edges = np.linspace(0, 1, num_bins + 1)
    bins = np.searchsorted(edges[1:-1], scores, side="left")
    counts = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bins, weights=scores, minlength=num_bins) / counts
        accuracy = np.bincount(bins, weights=right, minlength=num_bins) / counts
    gaps = np.abs(np.nan_to_num(confidence) - np.nan_to_num(accuracy))
    error = float((gaps * counts).sum() / counts.sum()) if counts.any() else float("nan")
    return Calibration(counts, confidence, accuracy, error)
