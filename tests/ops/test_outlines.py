"""Masks from outlines: to the bits what RoIAlign gives of masks that pycocotools draws, turned and cut or not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from maskray.ops.outlines import (
    MIRRORED,
    TRANSPOSED,
    UPSIDE_DOWN,
    OutlineTensors,
    crop_outlines,
    draw_outlines,
    encode_masks,
    split_text,
)
from maskray.ops.roi_align import roi_align


def pack(objects, placements):
    """Objects, each a list of polygons (n, 2) or run lengths as bytes."""
    polygons = [
        torch.as_tensor(p, dtype=torch.float64) for item in objects if not isinstance(item, bytes) for p in item
    ]
    texts = [item if isinstance(item, bytes) else b"" for item in objects]
    counts = [0 if isinstance(item, bytes) else len(item) for item in objects]
    return OutlineTensors(
        torch.cat([torch.zeros(0, 2, dtype=torch.float64), *polygons]),
        torch.tensor([0, *map(len, polygons)]).cumsum(0),
        torch.tensor([0, *counts]).cumsum(0),
        torch.tensor(list(b"".join(texts)), dtype=torch.uint8),
        torch.tensor([0, *map(len, texts)]).cumsum(0),
        torch.tensor(placements, dtype=torch.int64).reshape(-1, 7),
    )


def draw(item, placement):
    """The mask in its image by pycocotools and numpy."""
    height, width, turn, top, left, image_height, image_width = placement
    if isinstance(item, bytes):
        canvas = coco_mask.decode({"size": [height, width], "counts": item})
    elif item:
        polygons = [np.asarray(polygon, dtype=np.float64).ravel().tolist() for polygon in item]
        canvas = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)))
    else:
        canvas = np.zeros((height, width), dtype=np.uint8)
    if turn & TRANSPOSED:
        canvas = canvas.T
    if turn & UPSIDE_DOWN:
        canvas = canvas[::-1]
    if turn & MIRRORED:
        canvas = canvas[:, ::-1]
    far = 200
    padded = np.pad(canvas, far)
    return padded[far + top : far + top + image_height, far + left : far + left + image_width]


def random_case(seed):
    """Objects of both kinds, rough and smooth, with places of every kind; boxes on and beside them."""
    random = np.random.default_rng(seed)
    size = [int(side) for side in random.integers(1, 70, 2)]
    objects, placements = [], []
    for _ in range(random.integers(1, 5)):
        canvas = [int(side) for side in random.integers(1, 80, 2)]
        polygons = []
        for _ in range(random.integers(0, 4)):
            polygon = random.random((random.integers(3, 30), 2)) * 1.4 * max(canvas) - 0.2 * max(canvas)
            polygons.append(polygon.round() if random.random() < 0.3 else polygon)
        if random.random() < 0.4:
            pixels = np.asfortranarray((random.random(canvas) < random.random()).astype(np.uint8))
            objects.append(coco_mask.encode(pixels)["counts"])
        else:
            objects.append(polygons)
        image = [int(random.integers(1, side + 1)) for side in size]
        moved = [int(side) for side in random.integers(-20, 20, 2)] if random.random() < 0.5 else [0, 0]
        placements.append([*canvas, int(random.integers(0, 8)) if random.random() < 0.6 else 0, *moved, *image])
    boxes = random.random((6, 4)) * np.array([size[1], size[0], size[1], size[0]]) * 1.3 - 3
    boxes[:, 2:] = np.where(random.random((6, 1)) < 0.7, np.maximum(boxes[:, :2], boxes[:, 2:]) + 0.5, boxes[:, 2:])
    boxes = boxes.round() if random.random() < 0.3 else boxes
    return size, objects, placements, boxes, random.integers(0, len(objects), 6)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32), st.sampled_from([1, 7, 28]), st.booleans(), st.sampled_from([torch.float32, torch.float64])
)
def test_crops_are_roi_align_of_the_drawn_mask(seed, side, aligned, dtype):
    size, objects, placements, boxes, index = random_case(seed)
    outlines = pack(objects, placements)
    masks = torch.zeros(len(objects), 1, *size, dtype=dtype)
    for mask, item, placement in zip(masks, objects, placements):
        drawn = torch.from_numpy(draw(item, placement).copy())
        mask[0, : drawn.shape[0], : drawn.shape[1]] = drawn
    boxes, index = torch.from_numpy(boxes).to(dtype), torch.from_numpy(index)
    expected = roi_align(masks, torch.cat([index[:, None].to(dtype), boxes], 1), side, 1.0, 0, aligned)[:, 0]
    values = crop_outlines(outlines, index, boxes, tuple(size), side, aligned=aligned, binary=False)
    assert values.dtype == dtype
    assert torch.equal(values, expected)
    assert torch.equal(crop_outlines(outlines, index, boxes, tuple(size), side, aligned=aligned), expected >= 0.5)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_windows_are_parts_of_the_drawn_mask(seed):
    _, objects, placements, _, index = random_case(seed)
    random = np.random.default_rng(seed)
    windows = np.concatenate([random.integers(-30, 60, (6, 2)), random.integers(0, 60, (6, 2))], axis=1)
    found = draw_outlines(pack(objects, placements), torch.from_numpy(index), torch.from_numpy(windows))
    for mask, g, (top, left, height, width) in zip(found, index, windows):
        padded, far = np.pad(draw(objects[g], placements[g]), 200), 200
        assert np.array_equal(mask.numpy(), padded[far + top : far + top + height, far + left : far + left + width])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_run_lengths_are_those_of_pycocotools(seed):
    random = np.random.default_rng(seed)
    masks = [random.random(random.integers(1, 40, 2)) < random.random() for _ in range(random.integers(0, 4))]
    texts = split_text(*encode_masks([torch.from_numpy(mask) for mask in masks]))
    assert texts == [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"] for mask in masks]


def test_hard_boxes_are_those_of_roi_align():
    mask = torch.ones(1, 1, 20, 30)
    outlines = pack([[[[0.0, 0], [30, 0], [30, 20], [0, 20]]]], [[20, 30, 0, 0, 0, 20, 30]])
    boxes = [[-5.0, -5, 5, 5], [0, 0, 0, 0], [9, 9, 3, 3], [float("nan"), 0, 1, 1], [0, 0, float("inf"), 9]]
    boxes += [[-1e6, -1e6, 1e6, 1e6], [0, 0, 1e30, 1e30], [25, 15, 45, 40], [29.5, 19.5, 31, 21]]
    boxes = torch.tensor(boxes)
    index = torch.zeros(len(boxes), dtype=torch.int64)
    rows = torch.cat([index[:, None].float(), boxes], 1)
    for aligned in (True, False):
        expected = roi_align(mask, rows, 7, 1.0, 0, aligned)[:, 0]
        found = crop_outlines(outlines, index, boxes, (20, 30), 7, aligned=aligned, binary=False)
        assert torch.equal(found, expected)
        assert torch.equal(crop_outlines(outlines, index, boxes, (20, 30), 7, aligned=aligned), expected >= 0.5)


def test_nothing_gives_nothing():
    none = torch.zeros(0, dtype=torch.int64)
    assert crop_outlines(pack([], []), none, torch.zeros(0, 4), (8, 8), 28).shape == (0, 28, 28)
    assert draw_outlines(pack([], []), none, torch.zeros(0, 4, dtype=torch.int64)) == []
    assert split_text(*encode_masks([])) == []
    assert encode_masks([torch.zeros(0, 5), torch.zeros(3, 0)])[1].tolist() == [0, 1, 2]


PLACE = [4, 4, 0, 0, 0, 4, 4]
TRIANGLE = [[[0.0, 0], [5, 0], [0, 5]]]
BOX, FIRST, WINDOW = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([0]), torch.tensor([[0, 0, 2, 2]])


def test_passes_the_checks_of_torch():
    outlines = pack([TRIANGLE, b"04"], [PLACE, [2, 2, 5, 1, -1, 4, 4]])
    index = torch.tensor([0, 1])
    arguments = (*outlines, index, BOX.repeat(2, 1), 4, 4, 7, True)
    for binary in (True, False):
        torch.library.opcheck(torch.ops.maskray.crop_outlines.default, (*arguments, binary))
    torch.library.opcheck(torch.ops.maskray.draw_outlines.default, (*outlines, index, WINDOW.repeat(2, 1)))
    pixels, sizes = torch.ones(6, dtype=torch.uint8), torch.tensor([[2, 3]])
    torch.library.opcheck(torch.ops.maskray.rle_encode.default, (pixels, sizes))


@pytest.mark.parametrize(
    ("message", "objects", "placement", "changes"),
    [
        ("text: the counts of object 0", [b"0"], PLACE, {}),
        ("text: the counts of object 0", [b"zzzz"], PLACE, {}),
        ("placements: row 0", [TRIANGLE], [4, 4, 8, 0, 0, 4, 4], {}),
        ("placements: row 0", [TRIANGLE], [4, -4, 0, 0, 0, 4, 4], {}),
        ("placements: row 0", [TRIANGLE], [4, 4, 0, 2**62, 0, 4, 4], {}),
        ("coordinates: expected finite", [[[[0.0, 0], [float("nan"), 0], [0, 5]]]], PLACE, {}),
        ("polygon_offsets: a group has fewer", [[[[0.0, 0], [1, 0]]]], PLACE, {}),
        ("text_offsets: expected 0 first", [TRIANGLE], PLACE, {"text_offsets": torch.tensor([0, 1])}),
        ("placements: expected int64", [TRIANGLE], PLACE, {"placements": torch.zeros(1, 6, dtype=torch.int64)}),
    ],
)
def test_a_wrong_outline_is_named(message, objects, placement, changes):
    outlines = pack(objects, [placement])._replace(**changes)
    with pytest.raises(ValueError, match=message):
        crop_outlines(outlines, FIRST, BOX, (4, 4), 7)
    with pytest.raises(ValueError, match=message):
        draw_outlines(outlines, FIRST, WINDOW)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "boxes: expected a floating", (FIRST, BOX.int(), (4, 4), 7)),
        (ValueError, "boxes: expected float32 or float64", (FIRST, BOX[:, :3], (4, 4), 7)),
        (ValueError, "index: row 0 names object 1 of 1", (FIRST + 1, BOX, (4, 4), 7)),
        (ValueError, "index: expected int64", (FIRST.repeat(2), BOX, (4, 4), 7)),
        (ValueError, "mask_size: expected", (FIRST, BOX, (4, 4), 0)),
        (ValueError, "size: expected", (FIRST, BOX, (0, 4), 7)),
        (ValueError, "windows: row 0", (FIRST, torch.tensor([[0, 0, -1, 2]]))),
        (ValueError, "windows: row 0", (FIRST, torch.tensor([[0, -(2**63), 2**62, 2]]))),
        (ValueError, "windows: row 1", (FIRST.repeat(2), torch.tensor([[0, 0, 1 << 15, 1 << 15]]).repeat(2, 1))),
    ],
)
def test_a_wrong_argument_is_named(error, message, arguments):
    call = draw_outlines if len(arguments) == 2 else crop_outlines
    with pytest.raises(error, match=message):
        call(pack([TRIANGLE], [PLACE]), *arguments)
