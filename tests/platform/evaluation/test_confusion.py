"""The confusion matrix: by hand, as hotcoco has it, and what lies in a crowd."""

from __future__ import annotations

import numpy as np
import pytest
from hotcoco import COCO, COCOeval

from maskray.platform.evaluation.confusion import confusion_matrix
from maskray.platform.evaluation.diagnosis import diagnose_entries

CATEGORIES = [2, 5, 9]


def diagnose(ground_truth, detections):
    gt = [{"category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": crowd} for c, b, crowd in ground_truth]
    dt = [{"category_id": c, "bbox": b, "score": s} for c, b, s in detections]
    return diagnose_entries([(1, (100, 100), gt, dt)], CATEGORIES, "bbox")


def test_values_by_hand():
    box, other = [10.0, 10.0, 20.0, 20.0], [60.0, 60.0, 20.0, 20.0]
    found = diagnose(
        [(2, box, 0), (5, other, 0), (9, [10.0, 60.0, 20.0, 20.0], 0), (9, [0.0, 85.0, 60.0, 14.0], 1)],
        [(2, box, 0.9), (2, other, 0.8), (5, other, 0.7), (9, [30.0, 87.0, 9.0, 9.0], 0.6)],
    )
    # An object of 2 is found, one of 5 taken for 2, so that the second on it has no partner; one of 9 is missed. What
    # is in the crowd is left out.
    assert confusion_matrix(found).tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]
    assert confusion_matrix(found, 0.85).tolist() == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_matrix_is_that_of_hotcoco(draw_errors, as_entries, iou_type):
    for seed in range(10):
        dataset, results = draw_errors(seed, crowds=False)
        truth = COCO(dataset)
        evaluation = COCOeval(truth, truth.load_res(results), iou_type)
        found = diagnose_entries(as_entries(dataset, results), CATEGORIES, iou_type)
        for score in (None, 0.5):
            theirs = evaluation.confusion_matrix(min_score=score)
            np.testing.assert_array_equal(confusion_matrix(found, score or 0.0), theirs["matrix"])
            assert theirs["cat_ids"] == CATEGORIES


def test_rows_are_objects_and_columns_detections(draw_errors, as_entries):
    dataset, results = draw_errors(3, crowds=False)
    matrix = confusion_matrix(diagnose_entries(as_entries(dataset, results), CATEGORIES, "bbox"))
    for k, category in enumerate(CATEGORIES):
        assert matrix[k].sum() == sum(one["category_id"] == category for one in dataset["annotations"])
        assert matrix[:, k].sum() == sum(one["category_id"] == category for one in results)
    assert matrix[-1, -1] == 0
