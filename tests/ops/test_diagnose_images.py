"""Verdicts on detections and objects: values by hand, limits, and what does not fit is refused by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maskray.ops.coco_masks import gather_masks
from maskray.ops.diagnose_images import (
    BACKGROUND,
    BOTH,
    CLASS,
    DUPLICATE,
    FIXABLE,
    FIXES,
    FOUND,
    IN_CROWD,
    MISSED,
    PLACE,
    RIGHT,
    diagnose_images,
)
from maskray.ops.match_images import RegionColumns

SIZES = np.array([[100, 100]])


def columns(boxes: list[list[float]], classes: list[int], scores: list[float] | None = None) -> RegionColumns:
    table = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    none = np.zeros(len(table), dtype=bool)
    return RegionColumns(
        offsets=np.array([0, len(table)]),
        rows=np.arange(len(table)),
        classes=np.array(classes, dtype=np.int32),
        boxes=table,
        areas=table[:, 2] * table[:, 3],
        scores=None if scores is None else np.array(scores),
        crowd=none if scores is None else None,
        ignored=none if scores is None else None,
    )


BOX, OTHER, FAR = [10, 10, 20, 20], [60, 60, 20, 20], [5, 85, 8, 8]
TRUTH = columns([BOX, OTHER, FAR], [0, 1, 0])
FOUND_BOXES = [BOX, [10, 10, 20, 19], OTHER, [60, 68, 20, 20], [62, 69, 20, 20], [40, 40, 9, 9]]
DETECTIONS = columns(FOUND_BOXES, [0, 0, 2, 1, 0, 1], [0.9, 0.8, 0.7, 0.95, 0.5, 0.4])


def test_known_values():
    found = diagnose_images("bbox", SIZES, TRUTH, DETECTIONS)
    assert found.counts.tolist() == [6]
    assert found.rows.tolist() == [3, 0, 1, 2, 4, 5]  # by score
    assert found.verdicts.tolist() == [PLACE, RIGHT, DUPLICATE, CLASS, BOTH, BACKGROUND]
    assert found.objects.tolist() == [1, 0, 0, 1, 1, -1]
    assert found.flags.tolist() == [FIXES, 0, 0, 0, 0, 0]  # of two that would find the second object the better one
    assert found.pairs.tolist() == [-1, 0, -1, 1, -1, -1]
    assert found.overlaps.tolist() == pytest.approx([240 / 560, 1, 0.95, 1, 198 / 602, 0])
    assert found.gt_rows.tolist() == [0, 1, 2]
    assert found.fates.tolist() == [FOUND, FIXABLE, MISSED]
    assert found.gt_overlaps.tolist() == [1, 1, 0]


def test_no_more_detections_than_asked_for():
    found = diagnose_images("bbox", SIZES, TRUTH, DETECTIONS, most=2)
    assert found.rows.tolist() == [3, 0]
    assert found.gt_overlaps.tolist() == pytest.approx([1, 240 / 560, 0])


def test_of_equal_scores_and_overlaps_the_first_goes_first():
    found = diagnose_images("bbox", SIZES, columns([BOX, BOX], [0, 0]), columns([BOX, BOX], [0, 0], [0.5, 0.5]))
    assert found.rows.tolist() == [0, 1]
    assert found.objects.tolist() == found.pairs.tolist() == [0, 1]


def test_crowds_are_no_objects():
    truth = replace(TRUTH, ignored=np.array([False, True, False]), crowd=np.array([False, True, False]))
    inside = columns([[62, 62, 4, 4], [62, 62, 4, 4]], [1, 0], [0.9, 0.8])
    found = diagnose_images("bbox", SIZES, truth, inside)
    assert found.flags.tolist() == [IN_CROWD, 0]  # of another class it is an error all the same
    assert found.gt_rows.tolist() == [0, 2]


def test_masks_are_compared_where_there_are_masks():
    square = [[10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]]
    half = [[10.0, 10.0, 30.0, 10.0, 30.0, 19.0, 10.0, 19.0]]
    truth = replace(columns([BOX], [0]), masks=gather_masks([square], np.array([[100, 100]])))
    masks = gather_masks([half], np.array([[100, 100]]))
    found = diagnose_images("segm", SIZES, truth, replace(columns([BOX], [0], [0.9]), masks=masks, areas=masks.areas))
    assert found.verdicts.tolist() == [PLACE]
    assert found.overlaps.tolist() == pytest.approx([180 / 400])


def test_nothing_at_all():
    found = diagnose_images("bbox", SIZES, columns([], []), columns([], [], []))
    assert found.counts.tolist() == found.gt_counts.tolist() == [0]
    alone = diagnose_images("bbox", SIZES, columns([], []), columns([BOX], [0], [0.9]))
    assert alone.verdicts.tolist() == [BACKGROUND]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="kind: expected boxes or masks"):
        diagnose_images("keypoints", SIZES, TRUTH, DETECTIONS)
    with pytest.raises(ValueError, match="masks: there are none"):
        diagnose_images("segm", SIZES, TRUTH, DETECTIONS)
    with pytest.raises(ValueError, match="limits: expected 0 < little < enough"):
        diagnose_images("bbox", SIZES, TRUTH, DETECTIONS, enough=0.1, little=0.5)
    with pytest.raises(ValueError, match="rows: row 9 is not there"):
        diagnose_images("bbox", SIZES, TRUTH, replace(DETECTIONS, rows=np.full(6, 9)))
    with pytest.raises(ValueError, match="columns: expected one length"):
        diagnose_images("bbox", SIZES, TRUTH, replace(DETECTIONS, measures=np.zeros(2)))
