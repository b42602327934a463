"""Masks as paths: their area is kept, their corners are few."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from maskray.model.config import Category
from maskray.platform.evaluation.outline_paths import mask_path, simplify_ring, skeleton_path


def drawn(path: str, height: int, width: int) -> np.ndarray:
    """The pixels inside a path by the rule of odd crossings."""
    inside = np.zeros((height, width), bool)
    for ring in filter(None, path.replace("Z", "").split("M")):
        image = Image.new("1", (width, height))
        points = [tuple(map(float, point.split())) for point in ring.split("L")]
        ImageDraw.Draw(image).polygon([(x - 0.5, y - 0.5) for x, y in points], fill=1)
        inside ^= np.asarray(image)
    return inside


@pytest.mark.parametrize("size", [(120, 160), (900, 700)])
def test_a_path_covers_the_mask(size):
    rows, columns = np.mgrid[: size[0], : size[1]]
    mask = (((rows - size[0] / 2) / (0.4 * size[0])) ** 2 + ((columns - size[1] / 2) / (0.3 * size[1])) ** 2) < 1
    mask[int(0.45 * size[0]) : int(0.55 * size[0]), int(0.45 * size[1]) : int(0.6 * size[1])] = False  # a hole
    path = mask_path(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))), *size)
    found = drawn(path, *size)
    assert (found & mask).sum() / (found | mask).sum() > 0.96
    assert path.count("M") == 2
    assert len(re.findall("[ML]", path)) < 100


def test_of_a_square_the_corners_are_left():
    ring = np.array([[0, 0], [5, 0], [10, 0], [10, 5], [10, 10], [0, 10]])
    assert simplify_ring(ring, 0.5).tolist() == [[0, 0], [10, 0], [10, 10], [0, 10]]


def test_nothing_has_no_path():
    empty = coco_mask.encode(np.zeros((9, 9), np.uint8, order="F"))
    assert mask_path(empty, 9, 9) == ""


def test_a_skeleton_joins_what_is_labelled():
    category = Category(id=1, name="one", keypoints=("a", "b", "c"), skeleton=((1, 2), (2, 3)))
    assert skeleton_path({"keypoints": [1, 2, 2, 3, 4, 1, 9, 9, 0]}, category) == "M1 2L3 4M1 2h0M3 4h0"
    assert skeleton_path({}, category) == ""
