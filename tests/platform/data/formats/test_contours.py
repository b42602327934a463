"""One polygon of a mask with holes and parts has the very pixels of the mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from maskray.platform.data.formats.contours import join_rings, one_polygon, trace_rings


def pixels_of(polygon: list[float], size: tuple[int, int]) -> Any:
    return coco_mask.decode(coco_mask.frPyObjects([polygon], *size))[..., 0]


@given(arrays.arrays(np.uint8, st.tuples(st.integers(2, 9), st.integers(2, 9)), elements=st.integers(0, 1)))
def test_any_mask_is_one_polygon(mask: Any) -> None:
    rle = coco_mask.encode(np.asfortranarray(mask))
    segmentation = {"size": list(mask.shape), "counts": rle["counts"].decode()}
    polygon = one_polygon(segmentation, mask.shape)
    if not mask.any():
        assert polygon == []
        return
    assert (pixels_of(polygon, mask.shape) == mask).all()


def test_a_ring_has_two_outlines_of_corners() -> None:
    mask = np.ones((4, 5), dtype=np.uint8)
    mask[1:3, 1:3] = 0
    rings = trace_rings(mask)
    assert sorted(sorted(map(tuple, ring.tolist())) for ring in rings) == [
        [(0, 0), (0, 4), (5, 0), (5, 4)],
        [(1, 1), (1, 3), (3, 1), (3, 3)],
    ]


def test_parts_stay_corners_and_overlaps_do_not_cancel() -> None:
    apart = [[0.5, 0, 3, 0, 3, 3.25], [6, 6, 9, 6, 9, 9, 6, 9]]
    polygon = one_polygon(apart, (10, 10))
    assert set(zip(polygon[::2], polygon[1::2])) == {(0.5, 0), (3, 0), (3, 3.25), (6, 6), (9, 6), (9, 9), (6, 9)}
    overlap = [[0, 0, 4, 0, 4, 4, 0, 4], [2, 0, 6, 0, 6, 4, 2, 4]]
    assert pixels_of(one_polygon(overlap, (10, 10)), (10, 10)).sum() == 24
    assert one_polygon([apart[0]], (10, 10)) == apart[0]


def test_parts_are_joined_where_they_are_nearest() -> None:
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]])
    joined = join_rings([square, square + np.array((5, 0))])
    assert joined == [0, 0, 2, 0, 5, 0, 7, 0, 7, 2, 5, 2, 5, 0, 2, 0, 2, 2, 0, 2]
