"""Pasted objects hide what is below them: pixels, masks, boxes and keypoints, by hand and as properties."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskray.model.outlines import Outlines
from maskray.platform.data.copy_paste import paste_objects
from maskray.platform.data.targets import ImageTargets
from maskray.platform.data.transforms import Resized

Half = tuple[Resized, ImageTargets]


def make_half(seed: int, grey: int, number: int | None = None) -> Half:
    """An image of one grey value, and objects of rough blobs with tight boxes; the last one has no mask."""
    random = np.random.default_rng(seed)
    height, width = int(random.integers(4, 40)), int(random.integers(4, 40))
    masks = np.zeros((random.integers(0, 5) if number is None else number, height, width), dtype=np.uint8)
    boxes = []
    for mask in masks:
        sides = random.integers(1, [height + 1, width + 1])
        top, left = (int(random.integers(0, limit - side + 1)) for limit, side in zip((height, width), sides))
        mask[top : top + sides[0], left : left + sides[1]] = random.random(sides) < 0.7
        mask[top, left] = mask[top + sides[0] - 1, left + sides[1] - 1] = 1
        boxes.append([left, top, left + sides[1], top + sides[0]])
    has_mask = np.ones(len(masks), dtype=bool)
    has_mask[-1:] = False
    outlines = Outlines.from_bitmaps(torch.from_numpy(masks * has_mask[:, None, None]))
    corners = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    targets = ImageTargets(corners, grey + np.arange(len(masks)), outlines, has_mask=has_mask)
    return np.full((height, width, 3), grey, dtype=np.uint8), targets


def pixels(targets: ImageTargets) -> NDArray[np.bool_]:
    assert targets.masks is not None
    return targets.masks.bitmaps().numpy().astype(bool)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.3, 1.0]))
def test_what_is_above_hides_what_is_below(seed: int, min_visible: float) -> None:
    below, above = make_half(seed, 10), make_half(seed + 1, 200)
    image, targets = paste_objects(below, above, np.random.default_rng(seed), min_visible, 1.0)
    assert image.shape == below[0].shape
    assert (below[0] == 10).all()  # the input stays as it was
    pasted = targets.classes >= 200
    masks, before = pixels(targets), pixels(below[1])
    cover = masks[pasted].any(axis=0)
    np.testing.assert_array_equal(image, np.where(cover[..., None], np.uint8(200), below[0]))
    common = [min(a, b) for a, b in zip(below[0].shape, above[0].shape[:2])]
    for label, mask in zip(targets.classes[pasted], masks[pasted]):
        whole = pixels(above[1])[label - 200]
        np.testing.assert_array_equal(mask[: common[0], : common[1]], whole[: common[0], : common[1]])
        assert not mask[common[0] :].any()
        assert not mask[:, common[1] :].any()
        assert above[1].masked[label - 200]
    assert targets.has_mask is not None
    left = before & ~cover
    for g, label in enumerate(below[1].classes):
        found = np.flatnonzero(targets.classes == label)
        if not below[1].masked[g]:
            continue
        share = left[g].sum() / before[g].sum()
        assert len(found) == (share >= min_visible and share > 0)
        if len(found):
            np.testing.assert_array_equal(masks[found[0]], left[g])
    for box, mask, masked in zip(targets.boxes, masks, targets.has_mask):
        if masked:
            rows, columns = np.nonzero(mask)
            np.testing.assert_array_equal(box, [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def test_an_object_without_a_mask_is_dropped_where_it_is_covered() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    boxes = np.array([[2, 2, 6, 6], [6, 6, 10, 10]], np.float32)
    none = Outlines.from_bitmaps(torch.zeros(2, 10, 10))
    below = (image, ImageTargets(boxes, np.array([0, 1]), none, has_mask=np.zeros(2, bool)))
    mask = torch.zeros(1, 10, 10)
    mask[0, :7, :7] = 1
    above = (image + 1, ImageTargets(np.array([[0, 0, 7, 7]], np.float32), np.array([2]), Outlines.from_bitmaps(mask)))
    _, targets = paste_objects(below, above, np.random.default_rng(0), 0.1, 1.0)
    assert targets.classes.tolist() == [1, 2]
    assert targets.has_mask is not None
    assert targets.has_mask.tolist() == [False, True]
    np.testing.assert_array_equal(targets.boxes, [[6, 6, 10, 10], [0, 0, 7, 7]])


def test_nothing_to_paste_changes_nothing() -> None:
    below, above = make_half(3, 10, 4), make_half(4, 200, 0)
    image, targets = paste_objects(below, above, np.random.default_rng(0), 0.1, 1.0)
    assert image is below[0]
    assert targets is below[1]


def test_a_keypoint_under_a_pasted_object_is_hidden() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    mask = torch.zeros(1, 10, 10)
    mask[0, :5] = 1
    box = np.array([[0, 0, 10, 5]], np.float32)
    points = np.array([[[2, 2, 2], [2, 7, 2], [3, 3, 1], [0, 0, 0]]], np.float32)
    below = ImageTargets(np.array([[0, 0, 10, 10]], np.float32), np.array([0]), Outlines.from_bitmaps(mask + 1), points)
    above = ImageTargets(box, np.array([1]), Outlines.from_bitmaps(mask), points * 0)
    _, targets = paste_objects((image, below), (image, above), np.random.default_rng(0), 0.1, 1.0)
    assert targets.keypoints is not None
    assert targets.keypoints[0, :, 2].tolist() == [1, 2, 1, 0]
    assert targets.keypoints.shape == (2, 4, 3)
