"""Segmentations that no image has: left out with one line, before pycocotools sees them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from maskray.platform.data.formats.problem import VERDICTS
from maskray.platform.data.formats.segmentation import most_counts, read_segmentation, rle_text_problem

HEIGHT, WIDTH = 30, 40


@pytest.mark.parametrize(
    ("segmentation", "told"),
    [
        ([[2, 3, 1e9, 3, 1e9, 1e9]], "a polygon is not a list of numbers of pixels"),
        ([[2, 3, 1e308, 3, 1e308, -1e308]], "a polygon is not a list of numbers of pixels"),
        ([[2, 3, 401, 3, 10, 10]], "a polygon has corners farther than 400 pixels from its image"),
        ([[2, 3, 10, 3, 10, -401]], "a polygon has corners farther than 400 pixels from its image"),
        ({"size": None, "counts": [1200]}, r"RLE size None is not \[height, width\] of its image \[30, 40\]"),
        ({"size": 7, "counts": "f0U5"}, "RLE size 7 is not"),
        ({"size": [100_000, 100_000], "counts": [10**10]}, r"RLE size \[100000, 100000\] is not"),
        ({"size": [HEIGHT, WIDTH], "counts": "0" * 5_000_000}, "RLE text of 5000000 letters is longer than 1200"),
        ({"size": [HEIGHT, WIDTH], "counts": [1200] + [0] * 2402}, "2403 RLE counts are more than 1200 pixels can"),
    ],
)
def test_a_hostile_segmentation_is_left_out_with_one_line(segmentation: Any, told: str) -> None:
    read, findings = read_segmentation(segmentation, HEIGHT, WIDTH)
    assert read is None
    ((code, message),) = findings
    assert VERDICTS[code] == "dropped"
    assert re.search(told, message)
    assert len(message) < 200


def test_an_outline_that_leaves_the_image_by_its_size_is_read() -> None:
    polygon = [[2, 3, 400, 3, 10, -400]]
    assert read_segmentation(polygon, HEIGHT, WIDTH) == (polygon, [])


@pytest.mark.parametrize("counts", [[0, 1200], [1200, 0, 0], [0, 1] * 600 + [600], [1200] + [0] * 2401])
def test_counts_of_any_length_within_reason_are_read(counts: list[int]) -> None:
    segmentation = {"size": [HEIGHT, WIDTH], "counts": counts}
    assert len(counts) <= most_counts(HEIGHT * WIDTH)
    assert read_segmentation(segmentation, HEIGHT, WIDTH) == (segmentation, [])


def test_the_longest_text_of_an_image_is_read() -> None:
    # counts 0 1 1 1 1 of a column of four pixels: from the fourth on differences, all 0
    assert rle_text_problem("01110", 4) is not None
    assert rle_text_problem("01100", 4) is None
