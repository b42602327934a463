"""Two ways of computing a model compared, by hand."""

import math

import pytest

from maskray.platform.inference.agreement import Agreement, compare_results


def result(x, score=0.9, category=1):
    return {"category_id": category, "score": score, "bbox": [x, 0.0, 10.0, 10.0]}


def test_pairs_are_of_one_category_and_overlap_the_best_first():
    first = [result(0), result(100), result(200, category=2)]
    second = [result(2), result(1), result(200), result(100, score=0.4)]
    found = compare_results(first, second)
    assert (found.first, found.second, found.both) == (3, 3, 1)  # 1 pixel apart; of another class; not sure
    assert found.mean_iou == pytest.approx(90 / 110)


def test_nothing_found_is_nothing_in_common():
    assert compare_results([], [result(0)]) == Agreement(0, 1)
    assert compare_results([result(0, score=0.1)], []) == Agreement()
    assert math.isnan(Agreement().mean_iou)
    assert (Agreement(1, 2, 1, 0.5) + Agreement(3, 1, 1, 0.7)).mean_iou == pytest.approx(0.6)
