"""Pasted masks as run lengths: known bytes, equality with pasting and pycocotools over random cases, bounds, errors."""

import math

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from maskray.ops.paste_masks import paste_masks
from maskray.ops.paste_masks_to_rle import paste_masks_to_rle


def encode_pasted(masks, boxes, size, threshold):
    """The same by way of the pixels."""
    pixels = paste_masks(masks, boxes, size, threshold).numpy()
    return [coco_mask.encode(np.asfortranarray(mask).view(np.uint8)) for mask in pixels]


def random_case(generator):
    """Masks that are smooth, noisy or have NaN and infinity; boxes from nothing to far beyond the image."""
    count, (rows, columns) = 8, torch.randint(1, 30, (2,), generator=generator).tolist()
    size = tuple(torch.randint(1, 70, (2,), generator=generator).tolist())
    dtype = torch.float64 if torch.rand((), generator=generator) < 0.3 else torch.float32
    masks = torch.rand(count, rows, columns, generator=generator).to(dtype)
    masks[::2] = (masks[::2] * 4).round() / 4  # many values at exactly the threshold
    scale = 10 ** (torch.rand(count, 1, generator=generator) * 6 - 3)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor(size).flip(0) * 1.4 - 10
    boxes = torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * scale], 1)
    if torch.rand((), generator=generator) < 0.3:
        boxes = boxes.round()
    odd = torch.tensor([math.nan, math.inf, -math.inf, 0.0, 1e30, -1e30, 3e38, -3e38, 1e-40])
    if torch.rand((), generator=generator) < 0.4:
        boxes[0, int(torch.randint(0, 4, (), generator=generator))] = odd[
            int(torch.randint(0, len(odd), (), generator=generator))
        ]
        places = torch.rand(masks.shape, generator=generator) < 0.05
        chosen = torch.randint(0, len(odd), masks.shape, generator=generator)
        masks = torch.where(places, odd[chosen].to(dtype), masks)
    return masks, boxes.to(dtype), size


def test_known_bytes():
    # Columns 2, 3 and 4 of 7 have rows 1 and 2 of 5 set: runs 11 2 3 2 3 2 12.
    (rle,) = paste_masks_to_rle(torch.ones(1, 28, 28), torch.tensor([[2.0, 1.0, 5.0, 3.0]]), (5, 7))
    assert rle == {"size": [5, 7], "counts": b";230009"}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("seed", range(8))
def test_equals_pasting_and_encoding(seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(100):
        masks, boxes, size = random_case(generator)
        for threshold in (0.5, 0.3):
            assert paste_masks_to_rle(masks, boxes, size, threshold) == encode_pasted(masks, boxes, size, threshold)


def test_large_boxes_and_full_masks():
    generator = torch.Generator().manual_seed(9)
    masks = torch.rand(6, 28, 28, generator=generator)
    masks[0] = 1
    boxes = torch.tensor([[-500.0, -500, 1500, 1500], [-3, 5.3, 433, 291.7]]).repeat(3, 1)
    for size in ((300, 400), (1, 900), (900, 1)):
        assert paste_masks_to_rle(masks, boxes, size) == encode_pasted(masks, boxes, size, 0.5)


def test_runs_that_touch_across_columns_are_one():
    (full,) = paste_masks_to_rle(torch.ones(1, 2, 2), torch.tensor([[-50.0, -50, 50, 50]]), (4, 6))
    assert full["counts"] == coco_mask.encode(np.ones((4, 6), np.uint8, order="F"))["counts"]


def test_an_image_of_almost_2_to_the_32_pixels_costs_nothing():
    boxes = torch.tensor([[40000.0, 40000, 40100, 40200]])
    (rle,) = paste_masks_to_rle(torch.ones(1, 28, 28), boxes, (65535, 65535))
    (near,) = paste_masks_to_rle(torch.ones(1, 28, 28), boxes - 40000, (200, 100))
    assert coco_mask.area(rle) == coco_mask.area(near) == 100 * 200 - 4 * 2  # two pixels of a corner are below 0.5
    assert coco_mask.toBbox(rle).tolist() == [40000, 40000, 100, 200]
    with pytest.raises(ValueError, match=r"image_size: .* less than"):
        paste_masks_to_rle(torch.ones(1, 28, 28), boxes, (65536, 65536))


def test_no_detections_no_cells_and_half_types():
    assert paste_masks_to_rle(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6)) == []
    boxes = torch.tensor([[1.0, 1, 4, 4]])
    (empty,) = paste_masks_to_rle(torch.zeros(1, 0, 0), boxes, (5, 6))
    assert coco_mask.area(empty) == 0
    masks = torch.rand(1, 8, 8).bfloat16()
    assert paste_masks_to_rle(masks, boxes, (9, 9)) == paste_masks_to_rle(masks.float(), boxes, (9, 9))


def test_input_need_not_be_contiguous():
    generator = torch.Generator().manual_seed(2)
    masks, boxes = torch.rand(9, 14, 14, generator=generator), torch.rand(4, 9, generator=generator).T * 40
    boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1).T.contiguous().T
    expected = encode_pasted(masks.transpose(1, 2).contiguous(), boxes.contiguous(), (50, 60), 0.5)
    assert paste_masks_to_rle(masks.transpose(1, 2), boxes, (50, 60)) == expected


def test_passes_the_checks_of_torch():
    for count in (3, 0):
        masks, boxes = torch.rand(count, 7, 7), torch.tensor([[1.0, 2, 9, 8]]).repeat(count, 1)
        for operator in (torch.ops.maskray.paste_masks, torch.ops.maskray.paste_masks_to_rle):
            torch.library.opcheck(operator.default, (masks, boxes, 12, 10, 0.5))


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, r"masks: expected \(D, m, m\)", (torch.zeros(28, 28), torch.zeros(1, 4), (5, 5))),
        (ValueError, r"boxes: expected \(2, 4\), got \(1, 4\)", (torch.zeros(2, 8, 8), torch.zeros(1, 4), (5, 5))),
        (TypeError, "boxes: expected a floating dtype", (torch.zeros(1, 8, 8), torch.zeros(1, 4).int(), (5, 5))),
        (ValueError, "image_size: expected a positive", (torch.zeros(1, 8, 8), torch.zeros(1, 4), (0, 5))),
        (ValueError, "threshold: expected a positive", (torch.zeros(1, 8, 8), torch.zeros(1, 4), (5, 5), math.nan)),
    ],
)
def test_a_wrong_argument_is_named(error, message, arguments):
    with pytest.raises(error, match=message):
        paste_masks_to_rle(*arguments)
