"""Which images a report shows, and why: the worst, what is missed or wrongly found, and probable annotation errors.

Letters: D detections, G objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from maskray.ops.diagnose_images import BACKGROUND, CLASS, IN_CROWD, MISSED, RIGHT
from maskray.platform.evaluation.diagnosis import Diagnosis
from maskray.platform.evaluation.diagnostics import SHOWN_SCORE
from maskray.platform.evaluation.matching import IOU_THRESHOLDS, ImageMatches, MatchColumns

CONFIDENT = 0.8
ON_THE_OBJECT = 0.75  # overlap of a detection that finds an object well and calls it something else
# In the order in which they take turns.
REASONS = {
    "first": "the first images of the data set",
    "best": "best F1 of what is shown, mean over IoU 0.50:0.95",
    "worst": "worst F1 of what is shown, mean over IoU 0.50:0.95",
    "missed objects": "most objects that no detection finds, whatever its class or place",
    "confident and wrong": f"wrong detections with the highest scores, from {SHOWN_SCORE:g} on",
    "object without annotation?": f"a detection of {CONFIDENT:g} or more on the background: perhaps an object that "
    "nobody annotated",
    "annotation without object?": "an object that no detection of any class or score touches: perhaps there is none",
    "other class?": f"a detection of {CONFIDENT:g} or more lies on an object of another class "
    f"(IoU {ON_THE_OBJECT:g}): perhaps its annotation is wrong",
}


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


def rank_images(qualities: Mapping[int, float], diagnosis: Diagnosis | None) -> dict[str, list[int]]:
    """By reason the ids of images that have it, the foremost first; without a diagnosis by their qualities alone."""
    ids = sorted(qualities)
    by_quality = sorted((i for i in ids if not math.isnan(qualities[i])), key=lambda i: (-qualities[i], i))
    ranked = {"first": ids, "best": by_quality, "worst": by_quality[::-1]}
    if diagnosis is None:
        return ranked
    image_of = np.repeat(diagnosis.matches.image_ids, diagnosis.counts)
    gt_image_of = np.repeat(diagnosis.matches.image_ids, diagnosis.gt_counts)
    scores = diagnosis.scores
    wrong = (diagnosis.verdicts != RIGHT) & (diagnosis.flags & IN_CROWD == 0)
    confident = wrong & (scores >= CONFIDENT)
    alone = confident & (diagnosis.verdicts == BACKGROUND)
    other = confident & (diagnosis.verdicts == CLASS) & (diagnosis.overlaps >= ON_THE_OBJECT)
    return ranked | {
        "missed objects": _by_sum(gt_image_of, (diagnosis.fates == MISSED).astype(float)),
        "confident and wrong": _by_most(image_of, np.where(wrong & (scores >= SHOWN_SCORE), scores, 0)),
        "object without annotation?": _by_most(image_of, np.where(alone, scores, 0)),
        "annotation without object?": _by_sum(gt_image_of, (diagnosis.gt_overlaps == 0).astype(float)),
        "other class?": _by_most(image_of, np.where(other, scores, 0)),
    }


def choose_images(ranked: Mapping[str, list[int]], num_images: int) -> dict[int, list[str]]:
    """At most so many images, the reasons taking turns, each once, with all reasons that they were met for."""
    chosen: dict[int, list[str]] = {}
    waiting = {reason: iter(ids) for reason, ids in ranked.items()}
    while waiting and len(chosen) < num_images:
        for reason in list(waiting):
            image_id = next(waiting[reason], None)
            if image_id is None:
                del waiting[reason]
            elif image_id in chosen:
                chosen[image_id].append(reason)
            elif len(chosen) < num_images:
                chosen[image_id] = [reason]
    return chosen


def _by_sum(image_of: NDArray[np.int64], values: NDArray[np.float64]) -> list[int]:
    return _ranked(image_of, values, np.add)


def _by_most(image_of: NDArray[np.int64], values: NDArray[np.float64]) -> list[int]:
    return _ranked(image_of, values, np.maximum)


def _ranked(image_of: NDArray[np.int64], values: NDArray[np.float64], join: Callable[..., None]) -> list[int]:
    """Ids of the images with a value above 0 once theirs are joined, the largest first."""
    ids, at = np.unique(image_of, return_inverse=True)
    joined = np.zeros(len(ids))
    join.at(joined, at, values)  # type: ignore[attr-defined]
    order = np.lexsort((ids, -joined))
    return [int(ids[n]) for n in order if joined[n] > 0]
