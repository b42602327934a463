"""Precision, recall, F1 and calibration over scores: by hand, and as scikit-learn and hotcoco have them."""

from __future__ import annotations

import numpy as np
import pytest
from hotcoco import COCO, COCOeval
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score, precision_recall_curve

from maskray.platform.evaluation.matching import match_entries
from maskray.platform.evaluation.score_curves import JudgedDetections, calibrate, judge_detections, score_curve

CATEGORIES = [2, 5, 9]


def judged(scores, right, objects):
    return JudgedDetections(
        np.zeros(len(scores), np.int32), np.array(scores, float), np.array(right, bool), np.array([objects])
    )


def test_curve_by_hand():
    curve = score_curve(judged([0.9, 0.5, 0.5, 0.2], [1, 1, 0, 0], 4), 0)
    assert curve.scores.tolist() == [0.2, 0.5, 0.9]
    assert curve.precision.tolist() == [2 / 4, 2 / 3, 1]
    assert curve.recall.tolist() == [2 / 4, 2 / 4, 1 / 4]
    assert curve.best() == pytest.approx((0.5, 4 / 7, 2 / 3, 1 / 2))
    assert score_curve(judged([], [], 4), 0).best() is None
    assert score_curve(judged([0.5], [0], 0), 0).best() is None


@given(
    st.lists(st.tuples(st.integers(0, 12).map(lambda n: n / 12), st.booleans()), min_size=1, max_size=60),
    st.integers(0, 20),
)
def test_curve_is_that_of_scikit_learn(pairs, missed):
    scores, right = (np.array(values) for values in zip(*pairs))
    objects = int(right.sum()) + missed
    if objects == 0:
        return
    curve = score_curve(judged(scores, right, objects), 0)
    # What was never found is an object below every score.
    all_right, all_scores = np.append(right, [True] * missed), np.append(scores, [-1.0] * missed)
    precision, recall, thresholds = precision_recall_curve(all_right, all_scores)
    kept = slice(int(missed > 0), len(thresholds))
    np.testing.assert_array_equal(curve.scores, thresholds[kept])
    np.testing.assert_allclose(curve.precision, precision[kept], rtol=1e-12)
    np.testing.assert_allclose(curve.recall, recall[kept], rtol=1e-12)
    score, f1, _, _ = curve.best()
    assert f1 == pytest.approx(max(f1_score(all_right, all_scores >= least, zero_division=0) for least in scores))
    assert f1 == pytest.approx(f1_score(all_right, all_scores >= score, zero_division=0))


@given(st.lists(st.tuples(st.floats(0, 1) | st.integers(0, 10).map(lambda n: n / 10), st.booleans()), min_size=1))
def test_bins_are_those_of_scikit_learn(pairs):
    scores, right = (np.array(values) for values in zip(*pairs))
    found = calibrate(scores, right)
    share, mean = calibration_curve(right, scores, n_bins=10)
    filled = found.counts > 0
    np.testing.assert_allclose(found.accuracy[filled], share, rtol=1e-12)
    np.testing.assert_allclose(found.confidence[filled], mean, rtol=1e-12)
    assert found.error == pytest.approx((np.abs(share - mean) * found.counts[filled]).sum() / len(scores))


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_calibration_is_that_of_hotcoco(draw_errors, as_entries, iou_type):
    for seed in range(5):
        dataset, results = draw_errors(seed)
        truth = COCO(dataset)
        evaluation = COCOeval(truth, truth.load_res(results), iou_type)
        evaluation.evaluate()
        theirs = evaluation.calibration()
        ours = judge_detections(match_entries(as_entries(dataset, results), CATEGORIES, iou_type))
        found = calibrate(ours.scores, ours.right)
        assert found.error == pytest.approx(theirs["ece"], abs=1e-12)
        assert found.counts.tolist() == [one["count"] for one in theirs["bins"]]
        for k, name in enumerate(theirs["per_category"]):
            of = ours.classes == k
            assert calibrate(ours.scores[of], ours.right[of]).error == pytest.approx(theirs["per_category"][name])


def test_nothing_is_not_calibrated():
    found = calibrate(np.zeros(0), np.zeros(0, bool))
    assert np.isnan(found.error)
    assert found.counts.sum() == 0
