"""Targets at network size by hand; cutting, mirroring and turning them keeps masks, boxes and keypoints together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskray.model.outlines import Outlines
from maskray.platform.data.targets import ImageTargets, build_targets, cut, mirror, turn, turn_upside_down

RECTANGLE = [[2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]]
ORDER = np.array([0, 2, 1])  # keypoints: nose, left, right


def annotation(**changes: Any) -> dict[str, Any]:
    return {"id": 3, "category_id": 7, "bbox": [2, 1, 4, 3], "iscrowd": 0, "segmentation": RECTANGLE} | changes


def test_boxes_and_masks_are_scaled_by_axis() -> None:
    targets = build_targets([annotation()], (10, 10), (20, 30), {7: 5})
    np.testing.assert_array_equal(targets.boxes, [[6, 2, 18, 8]])
    np.testing.assert_array_equal(targets.classes, [5])
    expected = np.zeros((20, 30), dtype=np.uint8)
    expected[2:8, 6:18] = 1
    assert targets.masks is not None
    np.testing.assert_array_equal(targets.masks.bitmaps()[0], expected)


def test_what_is_dropped() -> None:
    annotations = [
        annotation(iscrowd=1),
        annotation(bbox=[2, 2, 0, 3]),
        annotation(bbox=[9.9, 0, 40, 5]),  # a tenth of a pixel is inside
        annotation(bbox=[-5, -5, 8, 9]),
    ]
    targets = build_targets(annotations, (10, 10), (10, 10), {7: 0}, min_box_pixels=1.0)
    np.testing.assert_array_equal(targets.boxes, [[0, 0, 3, 4]])
    assert len(build_targets(annotations, (10, 10), (10, 10), {7: 0}).classes) == 2
    empty = build_targets([], (10, 10), (4, 6), {7: 0})
    assert empty.boxes.shape == (0, 4)
    assert empty.masks is not None
    assert empty.masks.bitmaps().shape == (0, 4, 6)


def test_masks_need_a_segmentation_unless_they_are_optional() -> None:
    without = annotation(segmentation=None)
    with pytest.raises(ValueError, match="annotation 3: no segmentation to train a mask on"):
        build_targets([without], (10, 10), (10, 10), {7: 0})
    assert build_targets([without], (10, 10), (10, 10), {7: 0}, masks=False).masks is None
    targets = build_targets([without, annotation()], (10, 10), (10, 10), {7: 0}, masks_optional=True)
    assert targets.masks is not None
    assert targets.has_mask is not None
    assert targets.has_mask.tolist() == targets.masked.tolist() == [False, True]
    assert len(targets.boxes) == len(targets.masks) == 2


def draw_targets(seed: int) -> tuple[ImageTargets, tuple[int, int]]:
    """Blobs with tight boxes in whole pixels and keypoints in eighths, of which every step below is exact."""
    random = np.random.default_rng(seed)
    height, width = int(random.integers(4, 40)), int(random.integers(4, 40))
    masks, boxes, keypoints = [], [], []
    for _ in range(random.integers(0, 5)):
        sides = random.integers(1, [height + 1, width + 1])
        top, left = (int(random.integers(0, limit - side + 1)) for limit, side in zip((height, width), sides))
        mask = np.zeros((height, width), dtype=np.uint8)
        mask[top : top + sides[0], left : left + sides[1]] = random.random(sides) < 0.6
        mask[top, left] = mask[top + sides[0] - 1, left + sides[1] - 1] = 1
        masks.append(mask)
        boxes.append([left, top, left + sides[1], top + sides[0]])
        points = np.floor(random.random((3, 2)) * np.array([width, height]) * 8) / 8
        keypoints.append(np.concatenate([points, random.integers(0, 3, (3, 1))], axis=1))
    points = np.array(keypoints, dtype=np.float32).reshape(-1, 3, 3)
    points[points[..., 2] == 0] = 0
    outlines = Outlines.from_bitmaps(torch.from_numpy(np.array(masks, dtype=np.uint8).reshape(-1, height, width)))
    classes = np.arange(len(masks))
    return ImageTargets(np.array(boxes, np.float32).reshape(-1, 4), classes, outlines, points), (height, width)


def tight_boxes(masks: NDArray[np.uint8]) -> NDArray[np.float32]:
    boxes = []
    for mask in masks:
        rows, columns = np.nonzero(mask)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def pixels(targets: ImageTargets) -> NDArray[np.uint8]:
    assert targets.masks is not None
    return targets.masks.bitmaps().numpy()


def assert_same(found: ImageTargets, expected: ImageTargets) -> None:
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_array_equal(pixels(found), pixels(expected))
    np.testing.assert_array_equal(found.keypoints, expected.keypoints)  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_a_mirror_twice_and_a_turn_four_times_change_nothing(seed: int) -> None:
    targets, (height, width) = draw_targets(seed)
    orders = [ORDER] * len(targets.classes)
    mirrored = mirror(targets, width, orders)
    np.testing.assert_array_equal(mirrored.boxes, tight_boxes(pixels(mirrored)))
    np.testing.assert_array_equal(pixels(mirrored), pixels(targets)[:, :, ::-1])
    assert_same(mirror(mirrored, width, orders), targets)
    turned, size = targets, (height, width)
    for times in range(1, 5):
        turned, size = turn(turned, size), size[::-1]
        np.testing.assert_array_equal(turned.boxes, tight_boxes(pixels(turned)))
        np.testing.assert_array_equal(pixels(turned), np.rot90(pixels(targets), times, axes=(1, 2)))
    assert_same(turned, targets)


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_upside_down_is_a_mirror_turned_by_half(seed: int) -> None:
    targets, (height, width) = draw_targets(seed)
    orders = [ORDER] * len(targets.classes)
    upside = turn_upside_down(targets, height, orders)
    assert_same(upside, turn(turn(mirror(targets, width, orders), (height, width)), (width, height)))
    assert_same(turn_upside_down(upside, height, orders), targets)


def test_a_keypoint_stays_on_its_pixel() -> None:
    """The pixel that a keypoint marks is found where the keypoint went."""
    points = np.array([[[5.5, 2.5, 2], [0, 0, 0], [1.5, 3.5, 1]]], dtype=np.float32)
    image = np.zeros((6, 9))
    image[2, 5], image[3, 1] = 1, 2
    targets = ImageTargets(np.array([[0, 0, 9, 6]], np.float32), np.array([0]), keypoints=points)
    size: tuple[int, int] = (6, 9)
    for _ in range(4):
        image, targets, size = np.rot90(image), turn(targets, size), size[::-1]
        assert targets.keypoints is not None
        for index, value in ((0, 1), (2, 2)):
            x, y, _ = targets.keypoints[0, index]
            assert image[int(y), int(x)] == value
        assert targets.keypoints[0, 1].tolist() == [0, 0, 0]


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.3]))
def test_a_cut_keeps_tight_boxes_tight(seed: int, min_visible: float) -> None:
    targets, size = draw_targets(seed)
    random = np.random.default_rng(seed)
    top, left = (int(random.integers(0, side)) for side in size)
    part = (int(random.integers(1, size[0] - top + 1)), int(random.integers(1, size[1] - left + 1)))
    found = cut(targets, top, left, part, min_visible, min_box_pixels=1.0)
    masks = pixels(targets)[:, top : top + part[0], left : left + part[1]]
    shares = masks.sum(axis=(1, 2)) / np.maximum(1, pixels(targets).sum(axis=(1, 2)))
    kept = np.flatnonzero((masks.any(axis=(1, 2))) & (shares >= min_visible))
    np.testing.assert_array_equal(found.classes, kept)
    np.testing.assert_array_equal(pixels(found), masks[kept])
    np.testing.assert_array_equal(found.boxes, tight_boxes(masks[kept]))
    assert found.keypoints is not None
    assert targets.keypoints is not None
    x, y, seen = np.moveaxis(targets.keypoints[kept], 2, 0)
    inside = (seen > 0) & (x >= left) & (x <= left + part[1]) & (y >= top) & (y <= top + part[0])
    np.testing.assert_array_equal(found.keypoints[..., 2], np.where(inside, seen, 0))
    np.testing.assert_array_equal(found.keypoints[..., 0], np.where(inside, x - left, 0))
    np.testing.assert_array_equal(found.keypoints[..., 1], np.where(inside, y - top, 0))


def test_a_cut_leaves_loose_boxes_where_they_are_not_cut() -> None:
    """An annotated box that is not the mask's is moved, and where it is cut it is that of the mask."""
    mask = torch.zeros(1, 20, 20, dtype=torch.uint8)
    mask[0, 5:10, 5:15] = 1
    targets = ImageTargets(np.array([[4.5, 4.25, 16, 11]], np.float32), np.array([0]), Outlines.from_bitmaps(mask))
    np.testing.assert_array_equal(cut(targets, 2, 1, (12, 18), 0.1, 1).boxes, [[3.5, 2.25, 15, 9]])
    np.testing.assert_array_equal(cut(targets, 7, 0, (12, 18), 0.1, 1).boxes, [[5, 0, 15, 3]])
    assert len(cut(targets, 9, 0, (11, 18), 0.3, 1).boxes) == 0  # a fifth is left
    assert len(cut(targets, 9, 0, (11, 18), 0.2, 1).boxes) == 1
    assert len(cut(targets, 9, 0, (11, 18), 0.2, 1.5).boxes) == 0  # one row


def test_without_a_mask_the_box_is_cut() -> None:
    boxes = np.array([[2, 2, 12, 12], [0, 0, 4, 4]], np.float32)
    without = ImageTargets(boxes, np.array([0, 1]))
    found = cut(without, 7, 0, (10, 10), 0.3, 1)
    np.testing.assert_array_equal(found.boxes, [[2, 0, 10, 5]])
    masks = Outlines.from_bitmaps(torch.zeros(2, 20, 20))
    optional = ImageTargets(boxes, np.array([0, 1]), masks, has_mask=np.array([False, False]))
    found = cut(optional, 7, 0, (10, 10), 0.3, 1)
    np.testing.assert_array_equal(found.boxes, [[2, 0, 10, 5]])
    assert found.has_mask is not None
    assert found.has_mask.tolist() == [False]
