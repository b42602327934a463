"""Outlines of masks fill to exactly the mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from maskray.platform.data.formats.segmentation import rle_text_problem
from maskray.platform.data.outlines import decode_rle, rasterize
from maskray.platform.data.synthetic.outline import encode_rle, encode_segmentation, trace_outlines

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14))


def test_outlines_by_hand() -> None:
    mask = np.zeros((4, 5), dtype=bool)
    mask[1:3, 1:4] = True
    assert encode_segmentation(mask) == [[1, 1, 4, 1, 4, 3, 1, 3]]
    mask[3, 4] = True  # touches at a corner: another part
    assert len(trace_outlines(mask)) == 2
    mask = np.ones((3, 3), dtype=bool)
    mask[1, 1] = False
    assert isinstance(encode_segmentation(mask), dict)  # a hole needs RLE


@given(MASKS)
def test_a_segmentation_gives_back_its_mask(mask: np.ndarray) -> None:
    segmentation = encode_segmentation(mask)
    if not mask.any():
        assert segmentation == []
        return
    got = rasterize({"id": 1, "segmentation": segmentation}, mask.shape, mask.shape)
    np.testing.assert_array_equal(got, mask)


@given(MASKS, st.integers(1, 3))
def test_rle_text_is_checked_in_full(mask: np.ndarray, extra: int) -> None:
    encoded = encode_rle(mask)
    np.testing.assert_array_equal(decode_rle(encoded), mask)
    assert rle_text_problem(encoded["counts"], mask.size) is None
    assert "do not add up" in str(rle_text_problem(encoded["counts"], mask.size + extra))


@pytest.mark.parametrize("counts", ["", "0000zzzz", "0000000000", "P"])
def test_short_counts_are_found_that_pycocotools_decodes_to_anything(counts: str) -> None:
    assert rle_text_problem(counts, 100) is not None


def test_uncompressed_rle() -> None:
    segmentation = {"size": [2, 3], "counts": [1, 2, 3]}
    np.testing.assert_array_equal(decode_rle(segmentation), [[0, 1, 0], [1, 0, 0]])
    assert coco_mask.area(coco_mask.frPyObjects(segmentation, 2, 3)) == 2
