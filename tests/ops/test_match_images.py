"""Matching of images in one call: values by hand, and columns that do not fit are refused by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maskray.ops.coco_masks import gather_masks
from maskray.ops.match_images import RegionColumns, match_images, match_overlaps, pack_levels, unpack_levels

AREAS = np.array([[0.0, 1e10], [0.0, 50.0]])
THRESHOLDS = np.array([0.5, 0.75])
SIZES = np.array([[20, 20]])


def objects(boxes: list[list[float]], **columns: object) -> RegionColumns:
    table = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    none = np.zeros(len(table), dtype=bool)
    whole = RegionColumns(
        offsets=np.array([0, len(table)]),
        rows=np.arange(len(table)),
        classes=np.zeros(len(table), dtype=np.int32),
        boxes=table,
        areas=table[:, 2] * table[:, 3],
        crowd=none,
        ignored=none,
    )
    return replace(whole, **columns)  # type: ignore[arg-type]


def detections(boxes: list[list[float]], scores: list[float], **columns: object) -> RegionColumns:
    return objects(boxes, crowd=None, ignored=None, scores=np.array(scores, dtype=np.float64), **columns)


def test_known_values():
    truth = objects([[0, 0, 10, 10], [10, 10, 5, 5]])
    found = detections([[10, 10, 5, 4], [0, 0, 10, 6], [0, 0, 10, 10], [1, 1, 2, 2]], [0.1, 0.9, 0.5, 0.3])
    result = match_images("bbox", SIZES, truth, found, AREAS, THRESHOLDS, 3)
    assert result.rows.tolist() == [1, 2, 3]  # by score, and no more than the limit
    matched, ignored = (unpack_levels(levels, 2, 2).tolist() for levels in (result.matched, result.ignored))
    # 60 of 100 pixels reach 0.5 alone; the object is then used up there, and free at 0.75 for the next.
    assert matched == [[[True, False]] * 2, [[False, True]] * 2, [[False, False]] * 2]
    # Among objects of at most 50 pixels the one of 100 is ignored; unmatched are ignored when they are of another size.
    assert ignored == [[[False, False], [True, True]], [[False, False], [True, True]], [[False, False]] * 2]
    assert result.counts.tolist() == [3]
    assert result.gt_objects.tolist() == [[2, 1]]


def test_a_detection_may_be_ignored_where_it_is_not_matched():
    truth, ignored = objects([[0, 0, 10, 10]]), np.array([True, True])
    found = replace(detections([[0, 0, 10, 10], [12, 12, 4, 4]], [0.9, 0.8]), ignored=ignored)
    result = match_images("bbox", SIZES, truth, found, AREAS, THRESHOLDS, 9)
    assert unpack_levels(result.ignored, 2, 2)[:, 0].tolist() == [[False, False], [True, True]]


def test_nothing_at_all():
    result = match_images("bbox", SIZES, objects([]), detections([], []), AREAS, THRESHOLDS, 9)
    assert result.counts.tolist() == [0]
    assert result.gt_objects.shape == (0, 2)
    none = match_images(
        "bbox", SIZES[:0], replace(objects([]), offsets=np.array([0])),
        replace(detections([], []), offsets=np.array([0])), AREAS, THRESHOLDS, 9,
    )  # fmt: skip
    assert none.rows.shape == (0,)


def test_the_boundary_of_a_mask_is_what_the_paper_says():
    """Distance 1 of an image of 30 x 40 (2 % of the diagonal): the pixels whose 3 x 3 neighbours are not all inside."""
    size = np.array([[30, 40]])
    whole, inner = [[[4, 4, 14, 4, 14, 14, 4, 14]], [[4, 4, 14, 4, 14, 13, 4, 13]]]
    truth = objects([[0, 0, 1, 1]], masks=gather_masks([whole], size))
    found = detections([[0, 0, 1, 1]], [0.9], masks=gather_masks([inner], size), areas=np.array([90.0]))
    # 90 of 100 pixels are shared; of the edges, 36 and 34 pixels, 26 of the 44 that are in either: 0.591.
    for threshold, expected in ((0.59, True), (0.6, False)):
        result = match_images("boundary", size, truth, found, AREAS[:1], np.array([threshold]), 9)
        assert bool(result.matched[0]) == expected
    of_masks = match_images("segm", size, truth, found, AREAS[:1], np.array([0.9]), 9)
    assert of_masks.matched.tolist() == [1]


def test_levels_pack_and_unpack():
    flags = np.random.default_rng(0).random((50, 4, 10)) < 0.5
    np.testing.assert_array_equal(unpack_levels(pack_levels(flags), 4, 10), flags)


def test_columns_that_do_not_fit_are_refused():
    truth, found = objects([[0, 0, 10, 10]]), detections([[0, 0, 10, 10]], [0.9])
    whole = ("bbox", SIZES, truth, found, AREAS, THRESHOLDS, 9)
    for change, message in (
        ({3: replace(found, rows=np.array([7]))}, "rows: row 7 is not there"),
        ({3: replace(found, offsets=np.array([0, 5]))}, "offsets: "),
        ({3: replace(found, offsets=np.array([0]))}, "offsets: "),
        ({3: replace(found, scores=np.zeros(3))}, "columns: "),
        ({5: np.array([0.9, 0.5])}, "thresholds: "),
        ({5: np.linspace(0.5, 0.9, 40)}, "thresholds: "),
        ({0: "segm"}, "masks: there are none"),
        ({0: "keypoints"}, "keypoints: there are none"),
    ):
        arguments = [change.get(index, value) for index, value in enumerate(whole)]
        with pytest.raises(ValueError, match=message):
            match_images(*arguments)
    masks = gather_masks([{"counts": "04"}], np.array([[2, 2]]))
    with pytest.raises(ValueError, match="the counts of mask 0 are not those of 20 x 20 pixels"):
        match_images(
            "segm", SIZES, replace(truth, masks=masks), replace(found, masks=masks, areas=np.ones(1)), AREAS,
            THRESHOLDS, 9,
        )  # fmt: skip
    with pytest.raises(ValueError, match="overlaps: "):
        match_overlaps(np.zeros((1, 2)), np.zeros((2, 1), bool), np.zeros(2, bool), np.zeros(1), AREAS, THRESHOLDS)
