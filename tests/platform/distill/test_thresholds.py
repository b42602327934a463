"""Which detections become labels: as many as people annotate, of equal scores all, and all where there are too few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskray.platform.distill.thresholds import choose_threshold


@pytest.mark.parametrize(
    ("wanted", "threshold", "kept"),
    [
        (2.0, 0.8, 2),
        (2.4, 0.8, 2),
        (2.5, 0.5, 4),  # half up to three, and the fourth has the score of the third
        (5.0, 0.0, 5),
        (70.0, 0.0, 5),  # never reached: all are kept
    ],
)
def test_thresholds_of_hand(wanted: float, threshold: float, kept: int) -> None:
    scores = np.array([0.5, 0.9, 0.1, 0.8, 0.5])
    assert choose_threshold(scores, wanted) == threshold
    assert (scores >= threshold).sum() == kept


@pytest.mark.parametrize("wanted", [0.0, 0.49])
def test_a_class_that_people_do_not_annotate_has_no_labels(wanted: float) -> None:
    assert choose_threshold(np.array([0.99, 0.98]), wanted) is None


def test_nothing_found() -> None:
    assert choose_threshold(np.array([]), 3.0) == 0.0


@given(st.lists(st.integers(1, 20), max_size=60), st.integers(1, 80))
def test_no_fewer_than_wanted_and_only_equal_scores_more(tenths: list[int], wanted: int) -> None:
    scores = np.array(tenths, dtype=np.float64) / 20
    threshold = choose_threshold(scores, wanted)
    assert threshold is not None
    kept = scores >= threshold
    assert kept.sum() >= min(wanted, len(scores))
    assert (scores > threshold).sum() < wanted or threshold == 0.0
