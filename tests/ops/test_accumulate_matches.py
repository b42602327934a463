"""Precision and recall of given matches: values by hand, order of ties, limits."""

from __future__ import annotations

import numpy as np
import pytest

from maskray.ops.accumulate_matches import accumulate_matches

LEVELS = np.array([0.0, 0.5, 1.0])


def run(counts, classes, scores, matched, ignored, gt_objects, limits=(10,)):
    return accumulate_matches(
        np.array(counts),
        np.array(classes, dtype=np.int32),
        np.array(scores, dtype=np.float64),
        np.array(matched, dtype=np.uint64),
        np.array(ignored, dtype=np.uint64),
        np.array(gt_objects, dtype=np.int64),
        1,
        LEVELS,
        limits,
    )


def test_known_values():
    # Right, wrong, ignored, right: precision 1, 1/2, 1/2, 2/3 of 2 objects; of class 1 there is none to find.
    scores_given, matched, ignored = [0.9, 0.6, 0.8, 0.7, 1], [1, 1, 0, 1, 0], [0, 0, 0, 1, 0]
    precision, recall, scores = run([2, 2, 1], [0, 0, 0, 0, 1], scores_given, matched, ignored, [[2], [0]])
    assert precision[0, :, 0, 0, 0].tolist() == pytest.approx([1, 1, 2 / 3])
    assert scores[0, :, 0, 0, 0].tolist() == [0.9, 0.9, 0.6]
    assert recall[0, 0, 0, 0] == 1
    assert (precision[:, :, 1] == -1).all()
    assert (recall[:, 1] == -1).all()


def test_of_equal_scores_the_earlier_image_ranks_first():
    for matched, expected in (([1, 0], [1, 1, 1]), ([0, 1], [0.5] * 3)):
        precision, _, _ = run([1, 1], [0, 0], [0.5, 0.5], matched, [0, 0], [[1]])
        assert precision[0, :, 0, 0, 0].tolist() == pytest.approx(expected)


def test_a_limit_counts_in_each_image():
    precision, recall, _ = run([2, 1], [0, 0, 0], [0.9, 0.8, 0.7], [0, 1, 1], [0, 0, 0], [[2]], limits=(1, 2))
    assert recall[0, 0, 0].tolist() == [0.5, 1]
    assert precision[0, 0, 0, 0].tolist() == pytest.approx([1 / 2, 2 / 3])


def test_without_detections_recall_is_zero():
    precision, recall, scores = run([0], [], [], [], [], [[3]])
    assert not precision.any()
    assert not recall.any()
    assert not scores.any()


def test_columns_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="counts: "):
        run([2], [0], [0.5], [1], [0], [[1]])
    with pytest.raises(ValueError, match="classes: there is no 4"):
        run([1], [4], [0.5], [1], [0], [[1]])
