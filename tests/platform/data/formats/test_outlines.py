"""The geometry of annotations: run lengths of cut-out masks, areas, borders, circles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from maskray.platform.data.formats.outlines import (
    box_object,
    ellipse_polygon,
    encode_crop,
    mask_object,
    polygons_object,
    rectangle_polygon,
)

MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.booleans())


@given(MASKS, st.integers(0, 4), st.integers(0, 4), st.integers(0, 3), st.integers(0, 3))
def test_a_cut_out_mask_has_the_run_lengths_of_the_whole(
    mask: Any, left: int, top: int, right: int, below: int
) -> None:
    size = (top + mask.shape[0] + below, left + mask.shape[1] + right)
    whole = np.zeros(size, dtype=np.uint8, order="F")
    whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    if not mask.any():
        return
    expected = coco_mask.encode(whole)["counts"].decode()
    assert encode_crop(mask, (left, top), size) == {"size": list(size), "counts": expected}
    found = mask_object("a", mask, (left, top), size)
    assert found.area == whole.sum()
    assert list(found.bbox) == coco_mask.toBbox(coco_mask.encode(whole)).tolist()


@given(MASKS, st.integers(-7, 7), st.integers(-7, 7))
def test_a_mask_is_cut_at_the_borders(mask: Any, left: int, top: int) -> None:
    wide = np.zeros((26, 26), dtype=np.uint8)
    wide[top + 10 : top + 10 + mask.shape[0], left + 10 : left + 10 + mask.shape[1]] = mask
    inside = wide[10:16, 10:17]
    if not inside.any():
        with pytest.raises(ValueError, match="without a pixel in the image"):
            mask_object("a", mask, (left, top), (6, 7))
        return
    found = mask_object("a", mask, (left, top), (6, 7))
    assert (coco_mask.decode(found.segmentation) == inside).all()


def test_area_is_of_the_union_and_the_box_of_the_extremes() -> None:
    # 4 x 4 and 4 x 4 that share 2 x 4
    found = polygons_object("a", [[0, 0, 4, 0, 4, 4, 0, 4], [2, 0, 6, 0, 6, 4, 2, 4]], (10, 10))
    assert (found.area, found.bbox) == (24, (0, 0, 6, 4))
    assert polygons_object("a", [[-3, 1, 4, 1, 4, 3, -3, 3]], (10, 10)).bbox == (0, 1, 4, 2)
    assert box_object("a", 8, 8, -1, 20, (10, 10)).bbox == (0, 8, 8, 2)


def test_an_outline_that_would_fill_the_memory_is_refused() -> None:
    zigzag = [value for index in range(200_000) for value in (10_000.0 * (index % 2), 0.05 * index)]
    with pytest.raises(ValueError, match="outline is longer than 4000000 pixels"):
        polygons_object("a", [zigzag], (10_000, 10_000))


@given(st.lists(st.floats(), min_size=6, max_size=14))
def test_no_polygon_takes_long_or_ends_otherwise_than_in_a_line(values: list[float]) -> None:
    try:
        found = polygons_object("a", [values], (50, 40))
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        x, y, width, height = found.bbox
        assert x >= 0 <= y
        assert x + width <= 40.001
        assert y + height <= 50.001


@pytest.mark.parametrize("radius", [0.3, 2.0, 50.0, 3000.0])
def test_a_circle_is_nowhere_a_twentieth_of_a_pixel_off(radius: float) -> None:
    points = np.reshape(ellipse_polygon(7, 9, radius, radius), (-1, 2)) - (7, 9)
    middles = (points + np.roll(points, 1, axis=0)) / 2
    assert np.hypot(*points.T) == pytest.approx(radius)
    assert (radius - np.hypot(*middles.T)).max() <= 0.05
    assert points.max(axis=0).tolist() == pytest.approx([radius, radius])


def test_turning_is_clockwise_on_the_screen() -> None:
    assert rectangle_polygon(0, 0, 4, 2, 90) == pytest.approx([3, -1, 3, 3, 1, 3, 1, -1])
    (x, y) = ellipse_polygon(10, 10, 5, 1, 30)[:2]  # the end of the long axis goes down
    assert (x, y) == pytest.approx((10 + 5 * math.cos(math.pi / 6), 12.5))
