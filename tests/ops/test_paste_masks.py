"""Pasting masks: known values, the definition, grid_sample, round trip through RoIAlign, bounds and errors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from maskray.ops import paste_masks as module
from maskray.ops import reference
from maskray.ops.paste_masks import paste_masks
from maskray.ops.roi_align import roi_align


def random_boxes(count, extent, generator):
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * extent * 1.4 - extent * 0.3
    return torch.cat([corner, corner + torch.rand(count, 2, generator=generator, dtype=torch.float64) * extent], 1)


def grid_sample_values(masks, boxes, height, width):
    """The same by torch's sampler, as detectron2 does it."""
    rows = (torch.arange(height, dtype=masks.dtype) + 0.5 - boxes[:, 1:2]) / (boxes[:, 3:] - boxes[:, 1:2]) * 2 - 1
    columns = (torch.arange(width, dtype=masks.dtype) + 0.5 - boxes[:, :1]) / (boxes[:, 2:3] - boxes[:, :1]) * 2 - 1
    shape = (len(masks), height, width)
    grid = torch.stack([columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)], 3)
    return functional.grid_sample(masks[:, None], grid, align_corners=False)[:, 0]


def test_a_box_of_ones_is_its_pixels():
    pasted = paste_masks(torch.ones(1, 28, 28), torch.tensor([[2.0, 1.0, 5.0, 3.0]]), (5, 7))[0]
    expected = torch.zeros(5, 7, dtype=torch.bool)
    expected[1:3, 2:5] = True
    assert torch.equal(pasted, expected)


def test_cells_of_a_mask_as_large_as_its_box_are_pixels():
    mask = torch.tensor([[[0.0, 1], [1, 0]]])
    pasted = paste_masks(mask, torch.tensor([[1.0, 1, 3, 3]]), (4, 4))[0]
    assert pasted.nonzero().tolist() == [[1, 2], [2, 1]]


def test_threshold_is_inclusive():
    mask, box = torch.full((1, 4, 4), 0.5), torch.tensor([[0.0, 0, 8, 8]])
    # Beyond the centres of the outer cells the value fades towards 0.
    assert int(paste_masks(mask, box, (8, 8), 0.5).sum()) == 36
    assert int(paste_masks(mask, box, (8, 8), 0.51).sum()) == 0


@given(seed=st.integers(0, 2**31), side=st.integers(1, 9), size=st.tuples(st.integers(1, 20), st.integers(1, 20)))
@settings(max_examples=25, deadline=None)
def test_equals_the_definition(seed, side, size):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(3, side, side, generator=generator, dtype=torch.float64)
    boxes = random_boxes(3, 20, generator)
    values = reference.paste_masks(masks, boxes, size)
    clear = (values - 0.4).abs() > 1e-9  # rounding decides the rest
    assert torch.equal(paste_masks(masks, boxes, size, 0.4)[clear], (values >= 0.4)[clear])


def test_equals_grid_sample_and_the_chunked_form(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    masks, boxes = torch.rand(40, 28, 28, generator=generator, dtype=torch.float64), random_boxes(40, 90, generator)
    expected = grid_sample_values(masks, boxes, 90, 70) >= 0.5
    assert torch.equal(paste_masks(masks, boxes, (90, 70)), expected)
    # What an accelerator does: whole images, some detections at a time.
    monkeypatch.setattr(module, "CHUNK_VALUES", 50_000)
    whole = module._paste(masks, boxes, range(90), range(70)) >= 0.5
    assert torch.equal(whole, expected)


def test_objects_of_16_pixels_survive_the_round_trip():
    generator = torch.Generator().manual_seed(1)
    rows, columns = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    for _ in range(50):
        cx, cy = (20 + 24 * torch.rand(2, generator=generator)).tolist()
        a, b = (6 + 4 * torch.rand(2, generator=generator)).tolist()
        truth = ((columns - cx) / a) ** 2 + ((rows - cy) / b) ** 2 <= 1
        inside = truth.nonzero()
        low, high = inside.min(0).values, inside.max(0).values + 1
        box = torch.tensor([[low[1], low[0], high[1], high[0]]], dtype=torch.float32)
        small = roi_align(truth[None, None].float(), [box], 28)[:, 0]
        pasted = paste_masks(small, box, (64, 64))[0]
        assert (pasted & truth).sum() / (pasted | truth).sum() >= 0.99


@pytest.mark.parametrize(
    "box", [[3.0, 3, 3, 6], [5, 5, 2, 2], [math.nan, 1, 3, 3], [0, 0, math.inf, 3], [90, 90, 99, 99]]
)
def test_box_without_extent_or_off_the_image_is_empty(box):
    masks, boxes = torch.ones(1, 4, 4), torch.tensor([box], dtype=torch.float32)
    assert not paste_masks(masks, boxes, (10, 12)).any()
    assert not module._paste(masks, boxes, range(10), range(12)).any()


def test_no_detections_and_half_types():
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6)).shape == (0, 5, 6)
    boxes = torch.tensor([[1.0, 1, 4, 4]])
    masks = torch.rand(1, 8, 8).bfloat16()
    assert torch.equal(paste_masks(masks, boxes, (9, 9)), paste_masks(masks.float(), boxes, (9, 9)))


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, r"masks: expected \(D, m, m\)", (torch.zeros(28, 28), torch.zeros(1, 4), (5, 5))),
        (ValueError, r"boxes: expected \(2, 4\), got \(1, 4\)", (torch.zeros(2, 8, 8), torch.zeros(1, 4), (5, 5))),
        (TypeError, "masks: expected a floating dtype", (torch.zeros(1, 8, 8).bool(), torch.zeros(1, 4), (5, 5))),
        (ValueError, "image_size: expected a positive", (torch.zeros(1, 8, 8), torch.zeros(1, 4), (0, 5))),
        (ValueError, "threshold: expected a positive", (torch.zeros(1, 8, 8), torch.zeros(1, 4), (5, 5), 0.0)),
    ],
)
def test_a_wrong_argument_is_named(error, message, arguments):
    with pytest.raises(error, match=message):
        paste_masks(*arguments)
