"""The average precision that each kind of error costs: what would be gained if every one of that kind were put right.

Source: Bolya et al. 2020, "TIDE", section 2; tidecv 1.0.1, equal to it where scores differ. Letters: D detections,
K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskray.ops.diagnose_images import (
    BACKGROUND,
    BOTH,
    CLASS,
    DUPLICATE,
    FIXES,
    IN_CROWD,
    MISSED,
    PLACE,
    RIGHT,
)
from maskray.platform.evaluation.diagnosis import Diagnosis

MISS = 6  # beside the verdicts on detections
KINDS = {
    "class": CLASS,
    "localisation": PLACE,
    "both": BOTH,
    "duplicate": DUPLICATE,
    "background": BACKGROUND,
    "missed": MISS,
}
_RECALL_LEVELS = np.arange(101) / 100


@dataclass(frozen=True)
class ErrorCosts:
    """AP at IoU 0.5 as it is; of each kind of error how many there are, by class (K,), and the AP that it costs.

    Fractions. As tidecv has it a class without objects counts with an AP of 0 while it is detected.
    """

    average_precision: float
    counts: dict[str, NDArray[np.int64]]
    costs: dict[str, float]


def measure_errors(diagnosis: Diagnosis) -> ErrorCosts:
    """Count errors and what they cost, each kind by itself; the images are in the order in which equal scores rank."""
    base = _mean_precision(diagnosis, None)
    counts, costs = {}, {}
    for name, kind in KINDS.items():
        if kind == MISS:
            classes = diagnosis.gt_classes[diagnosis.fates == MISSED]
        else:
            classes = diagnosis.classes[diagnosis.verdicts == kind]
        counts[name] = np.bincount(classes, minlength=diagnosis.num_classes)
        costs[name] = max(_mean_precision(diagnosis, kind) - base, 0.0)
    return ErrorCosts(base, counts, costs)


def _mean_precision(diagnosis: Diagnosis, fixed: int | None) -> float:
    """Mean over the classes once errors of one kind are put right."""
    verdicts = diagnosis.verdicts
    right = verdicts == RIGHT
    kept = right | (diagnosis.flags & IN_CROWD == 0)
    classes = diagnosis.classes
    objects = np.bincount(diagnosis.gt_classes, minlength=diagnosis.num_classes)
    if fixed == MISS:
        missed = diagnosis.gt_classes[diagnosis.fates == MISSED]
        objects = objects - np.bincount(missed, minlength=diagnosis.num_classes)
    elif fixed is not None:
        of_kind = verdicts == fixed
        fixes = of_kind & (diagnosis.flags & FIXES != 0)
        right, kept = right | fixes, (kept & ~of_kind) | fixes
        classes = np.where(fixes, diagnosis.about, classes)
    values = class_precisions(classes[kept], diagnosis.scores[kept], right[kept], objects)
    counted = (objects > 0) | (np.bincount(classes[kept], minlength=diagnosis.num_classes) > 0)
    return float(values[counted].mean()) if counted.any() else 0.0


def class_precisions(
    classes: NDArray[np.int32], scores: NDArray[np.float64], right: NDArray[np.bool_], objects: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Average precision (K,) by 101 recall levels of detections (D,) of K classes with so many objects each.

    Equal scores rank in the order given; 0 of a class without objects.
    """
    order = np.lexsort((-scores, classes))
    ends = np.cumsum(np.bincount(classes, minlength=len(objects)))
    values = np.zeros(len(objects))
    for k, (end, start) in enumerate(zip(ends, np.append(0, ends[:-1]))):
        if objects[k] == 0 or start == end:
            continue
        hits = np.cumsum(right[order[start:end]])
        precision = np.maximum.accumulate((hits / np.arange(1, end - start + 1))[::-1])[::-1]
        reached = np.searchsorted(hits / objects[k], _RECALL_LEVELS, side="left")
        values[k] = precision[reached[reached < len(hits)]].sum() / len(_RECALL_LEVELS)
    return values
