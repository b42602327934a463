"""Segmentations as outlines draw the masks of pycocotools; moves of outlines are moves of their pixels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from maskray.model.outlines import Outlines
from maskray.platform.data.outlines import (
    cut,
    decode_rle,
    mirror,
    rasterize,
    read_outlines,
    transpose,
    turn_upside_down,
)
from maskray.platform.data.synthetic.outline import encode_rle

RECTANGLE = [[2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]]
Move = tuple[Callable[[Outlines], Outlines], Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]
MOVES: dict[str, Move] = {
    "mirror": (mirror, lambda masks: masks[:, :, ::-1]),
    "upside down": (turn_upside_down, lambda masks: masks[:, ::-1]),
    "transpose": (transpose, lambda masks: masks.transpose(0, 2, 1)),
    "quarter turn": (
        lambda outlines: turn_upside_down(transpose(outlines)),
        lambda masks: np.rot90(masks, axes=(1, 2)),
    ),
}


def draw_with_pycocotools(segmentation: Any, original: tuple[int, int], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Polygons scaled and filled; an RLE decoded and resampled."""
    if isinstance(segmentation, dict):
        pixels = torch.from_numpy(decode_rle(segmentation) * np.uint8(255))[None, None]
        if pixels.shape[2:] != size:
            pixels = torch.nn.functional.interpolate(pixels, size=size, mode="bilinear", antialias=True)
        return (pixels[0, 0].numpy() >= 128).astype(np.uint8)
    scale = np.array([size[1] / original[1], size[0] / original[0]])
    polygons = [(np.asarray(polygon, dtype=np.float64).reshape(-1, 2) * scale).ravel() for polygon in segmentation]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *size)))


def random_segmentation(random: np.random.Generator, height: int, width: int) -> Any:
    if random.random() < 0.3:
        return encode_rle(random.random((height, width)) < random.random())
    return [
        (random.random((random.integers(3, 20), 2)) * 1.2 * np.array([width, height])).ravel().tolist()
        for _ in range(random.integers(1, 4))
    ]


def random_annotations(seed: int) -> tuple[list[dict[str, Any]], tuple[int, int], tuple[int, int]]:
    random = np.random.default_rng(seed)
    original = (int(random.integers(1, 60)), int(random.integers(1, 60)))
    size = original if random.random() < 0.3 else (int(random.integers(1, 90)), int(random.integers(1, 90)))
    number = int(random.integers(0, 5))
    return [{"id": i, "segmentation": random_segmentation(random, *original)} for i in range(number)], original, size


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_outlines_draw_the_masks_of_pycocotools(seed: int) -> None:
    annotations, original, size = random_annotations(seed)
    outlines = read_outlines(annotations, original, size)
    expected = [draw_with_pycocotools(entry["segmentation"], original, size) for entry in annotations]
    np.testing.assert_array_equal(outlines.bitmaps().numpy(), np.array(expected).reshape(-1, *size))


def test_official_masks_equal_pycocotools(coco_sample: Path) -> None:
    coco = COCO(str(coco_sample / "annotations/instances_val2017.json"))
    annotations = [a for a in coco.anns.values() if not a["iscrowd"]][:120]
    for entry in annotations:
        image = coco.imgs[entry["image_id"]]
        size = (image["height"], image["width"])
        np.testing.assert_array_equal(rasterize(entry, size, size), coco.annToMask(entry))


@pytest.mark.parametrize("compressed", [True, False])
def test_rle_and_polygon_agree(compressed: bool) -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[1:4, 2:6] = True
    rle = encode_rle(mask)
    if not compressed:
        rle["counts"] = [21, 3, 7, 3, 7, 3, 7, 3, 46]
    from_rle = rasterize({"id": 1, "segmentation": rle}, (10, 10), (40, 30))
    different = np.argwhere(from_rle != rasterize({"id": 1, "segmentation": RECTANGLE}, (10, 10), (40, 30)))
    # resampling takes the sharp corners off, and nothing else
    assert different.tolist() == [[4, 6], [4, 17], [15, 6], [15, 17]]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "annotation 3: no segmentation to train a mask on"),
        ([], "annotation 3: no segmentation to train a mask on"),
        ([[1.0, 2, 3, 4, 5]], "annotation 3: a polygon has an odd number"),
        ([[1.0, 2, 3, float("nan"), 5, 6]], "annotation 3: a polygon has a corner that is not finite"),
        ({"size": [10, 10], "counts": "0"}, "annotation 3: rles: the counts of mask 0 are not those of 10 x 10"),
    ],
)
def test_a_broken_segmentation_is_named(segmentation: Any, message: str) -> None:
    good = {"id": 2, "segmentation": RECTANGLE}
    with pytest.raises(ValueError, match=message):
        read_outlines([good, {"id": 3, "segmentation": segmentation}], (10, 10), (10, 10))


def test_a_missing_segmentation_may_be_optional() -> None:
    annotations: list[dict[str, Any]] = [{"id": 1}, {"id": 2, "segmentation": RECTANGLE}]
    masks = read_outlines(annotations, (10, 10), (10, 10), optional=True).bitmaps()
    assert masks.sum(dim=(1, 2)).tolist() == [0, 12]


def test_a_polygon_of_two_corners_has_no_pixels() -> None:
    segmentation = [*RECTANGLE, [0.0, 0, 9, 9]]
    np.testing.assert_array_equal(
        rasterize({"id": 1, "segmentation": segmentation}, (10, 10), (10, 10)),
        rasterize({"id": 1, "segmentation": RECTANGLE}, (10, 10), (10, 10)),
    )


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.sampled_from([*MOVES, "cut"]), max_size=7))
def test_moves_move_the_pixels(seed: int, names: list[str]) -> None:
    outlines = read_outlines(*random_annotations(seed))
    masks = outlines.bitmaps().numpy()
    random = np.random.default_rng(seed)
    for name in names:
        if name == "cut":
            top, left = (int(random.integers(0, side)) for side in masks.shape[1:])
            height, width = masks.shape[1] - top, masks.shape[2] - left
            size = (int(random.integers(1, height + 1)), int(random.integers(1, width + 1)))
            outlines, masks = cut(outlines, top, left, size), masks[:, top : top + size[0], left : left + size[1]]
        else:
            of_outlines, of_pixels = MOVES[name]
            outlines, masks = of_outlines(outlines), of_pixels(masks)
        assert outlines.size == masks.shape[1:]
    np.testing.assert_array_equal(outlines.bitmaps().numpy(), masks)


@pytest.mark.parametrize(("name", "times"), [("mirror", 2), ("upside down", 2), ("transpose", 2), ("quarter turn", 4)])
def test_moves_that_come_back(name: str, times: int) -> None:
    outlines = read_outlines([{"id": 1, "segmentation": RECTANGLE}], (10, 13), (21, 31))
    moved = outlines
    for _ in range(times):
        moved = MOVES[name][0](moved)
    assert moved.size == outlines.size
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(moved.tensors, outlines.tensors))


def test_annotations_of_shards_are_lists_of_numbers() -> None:
    """What json gives of whole numbers draws the same as what it gives of fractions."""
    whole = json.loads('{"id": 1, "segmentation": [[2, 1, 6, 1, 6, 4, 2, 4]]}')
    np.testing.assert_array_equal(
        rasterize(whole, (10, 10), (20, 20)), rasterize({"id": 1, "segmentation": RECTANGLE}, (10, 10), (20, 20))
    )
