"""Average precision of Cityscapes from the matches of images, however they were divided.

Letters: K classes, T overlaps. Source: cityscapesscripts 2.3.0, evaluation/evalInstanceLevelSemanticLabeling.py
(evaluateMatches, computeAverages).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskray.ops.match_images import unpack_levels
from maskray.platform.evaluation.cityscapes_matching import OVERLAPS
from maskray.platform.evaluation.matching import MatchColumns, concatenate

Floats = NDArray[np.float64]
PREFIX = "cityscapes"


@dataclass(frozen=True)
class CityscapesMetrics:
    """AP (K, T) of classes, nan where there is nothing to find; names and ids (K,) are those of the label map."""

    category_ids: tuple[int, ...]
    names: tuple[str, ...]
    ap: Floats
    num_images: int

    @property
    def stats(self) -> list[float]:
        """AP and AP50%, means of the classes that there are, as fractions; -1 without any."""
        return [_mean(self.ap), _mean(self.ap[:, :1])]

    def per_class(self) -> dict[str, dict[str, float]]:
        """AP and AP50 of every class by name, -1 where there is nothing to find."""
        return {name: {"AP": _mean(self.ap[k]), "AP50": _mean(self.ap[k, :1])} for k, name in enumerate(self.names)}

    @property
    def metrics(self) -> dict[str, float]:
        """The same by name: cityscapes/AP, cityscapes/AP50, cityscapes/AP/person, ..."""
        found = {f"{PREFIX}/AP": self.stats[0], f"{PREFIX}/AP50": self.stats[1]}
        for metric in ("AP", "AP50"):
            found |= {f"{PREFIX}/{metric}/{name}": row[metric] for name, row in self.per_class().items()}
        return found


def merge_regions(parts: Sequence[MatchColumns], names: Sequence[str]) -> CityscapesMetrics:
    """Metrics of parts that match_regions made, at least one, of the same categories; names in the order of their ids.

    The outcome does not depend on how the images were divided. ValueError where an image comes twice.
    """
    whole = concatenate(parts)
    ids, counts = np.unique(whole.image_ids, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"image {ids[counts > 1][0]} was evaluated twice for {PREFIX}")
    num_classes = len(whole.category_ids)
    objects = np.zeros(num_classes, dtype=np.int64)
    np.add.at(objects, whole.gt_classes, whole.gt_objects[:, 0])
    matched, ignored = (unpack_levels(levels, 1, len(OVERLAPS))[:, 0] for levels in (whole.matched, whole.ignored))
    ap = np.full((num_classes, len(OVERLAPS)), math.nan)
    for k in np.flatnonzero(objects):
        of_class = whole.classes == k
        for t in range(len(OVERLAPS)):
            kept = of_class & ~ignored[:, t]
            ap[k, t] = average_precision(whole.scores[kept], matched[kept, t], int(objects[k]))
    return CityscapesMetrics(tuple(whole.category_ids.tolist()), tuple(names), ap, len(ids))


def average_precision(scores: Floats, matched: NDArray[np.bool_], num_objects: int) -> float:
    """The mean of precision over recall, of detections with these scores, of which some are matched.

    A point of the curve is at every score that there is, and one of precision 1 at recall 0; each has half of the steps
    of recall before and after it. 0 without detections.
    """
    order = np.argsort(scores, kind="stable")
    true = np.cumsum(matched[order].astype(np.float64))
    _, first = np.unique(scores[order], return_index=True)
    below = np.where(first > 0, true[first - 1], 0.0) if len(true) else np.zeros(0)
    all_true = true[-1] if len(true) else 0.0
    found = all_true - below  # with a score of this or more
    precision = np.append(found / (len(scores) - first), 1.0)
    recall = np.append(found / num_objects, 0.0)
    padded = np.concatenate([recall[:1], recall, [0.0]])
    return float(np.dot(precision, 0.5 * padded[:-2] - 0.5 * padded[2:]))


def _mean(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(np.mean(defined)) if defined.size else -1.0
