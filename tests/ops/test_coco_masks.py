"""Masks as columns: measured as pycocotools measures them, and refused where a text is none of their image."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from maskray.ops.coco_masks import gather_masks


def draw_polygons(random: np.random.Generator, height: int, width: int) -> list[list[float]]:
    """One to three polygons of any form, which may cross themselves and leave the image."""
    polygons = []
    for _ in range(int(random.integers(1, 4))):
        points = random.random((int(random.integers(3, 9)), 2)) * (width, height) * 1.6 - (0.3 * width, 0.3 * height)
        polygons.append(np.round(points, int(random.integers(0, 4))).reshape(-1).tolist())
    return polygons


def test_polygons_cover_what_pycocotools_fills():
    random = np.random.default_rng(0)
    for _ in range(600):
        height, width = random.integers(1, 60, 2).tolist()
        polygons = draw_polygons(random, height, width)
        expected = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
        masks = gather_masks([polygons, expected], np.array([[height, width]] * 2))
        assert masks.areas.tolist() == [coco_mask.area(expected)] * 2
        ys, xs = np.nonzero(coco_mask.decode(expected))
        extent = [xs.min(), ys.min(), xs.max(), ys.max()] if len(xs) else [0, 0, -1, -1]
        assert masks.extents.tolist() == [extent, extent]


def test_no_masks():
    masks = gather_masks([], np.zeros((0, 2), dtype=np.int64))
    assert masks.areas.shape == (0,)
    assert masks.extents.shape == (0, 4)


@pytest.mark.parametrize(
    ("segmentation", "size", "message"),
    [
        ({"counts": "4"}, (2, 3), "masks: the counts of mask 0 are not those of 2 x 3 pixels"),
        ({"counts": "~"}, (2, 2), "the counts of mask 0"),
        ({"counts": b"\xff" * 40}, (2, 2), "the counts of mask 0"),
        ({"counts": "é4"}, (2, 2), "the counts of mask 0"),
        ({"counts": ""}, (2, 2), "the counts of mask 0"),
        ([[1, 2, 3, 4, 5]], (9, 9), "masks: polygon 0 has no pairs of coordinates"),
        ([[1, 2, 3, float("nan"), 5, 6]], (9, 9), "a coordinate that is no number"),
        ([[1, 2, 3, float("inf"), 5, 6]], (9, 9), "a coordinate that is no number"),
        ({"counts": "4"}, (0, 4), "mask 0 has no possible size"),
        ({"counts": "4"}, (2**31, 2), "mask 0 has no possible size"),
    ],
)
def test_what_is_no_mask_is_refused(segmentation, size, message):
    with pytest.raises(ValueError, match=message):
        gather_masks([segmentation], np.array([size]))


def test_a_polygon_far_away_takes_no_time_and_covers_nothing():
    far = [[1e300, 1e300, 2e300, 1e300, 1e300, 3e300], [-1e12, -1e12, -1e11, -1e12, -1e12, -1e11]]
    assert gather_masks([far], np.array([[50, 60]])).areas.tolist() == [0]
