"""Mask targets are what the box sees of the drawn mask; outlines are joined, chosen and drawn as bitmaps would be."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from maskray.model.outlines import Outlines
from maskray.ops.roi_align import roi_align


def random_masks(seed: int, number: int, height: int, width: int) -> Tensor:
    return (torch.rand(number, height, width, generator=torch.Generator().manual_seed(seed)) > 0.5).to(torch.uint8)


def random_boxes(seed: int, number: int) -> Tensor:
    boxes = 25 * torch.rand(number, 4, generator=torch.Generator().manual_seed(seed))
    boxes[:, 2:] += boxes[:, :2] + 3
    return boxes


def test_a_box_sees_its_part_of_the_mask() -> None:
    masks = torch.zeros(2, 40, 60, dtype=torch.uint8)
    masks[0, 10:30, 20:40] = 1
    masks[1, :, 30:] = 1
    boxes = torch.tensor([[20.0, 10, 40, 30], [10, 10, 30, 30], [10, 10, 50, 30], [0, 0, 20, 40]])
    crops = Outlines.from_bitmaps(masks).crop(torch.tensor([0, 0, 1, 1]), boxes, 28)
    assert crops.dtype == torch.bool
    assert crops[0].all()  # the object fills its own box
    assert crops[1, :, 14:].all()  # its right half
    assert not crops[1, :, :14].any()
    assert crops[2, :, 14:].all()
    assert not crops[2, :, :14].any()
    assert not crops[3].any()


def test_targets_are_cut_from_bitmaps_to_the_same_bits() -> None:
    masks, boxes = random_masks(0, 6, 37, 51), random_boxes(1, 200)
    index = torch.arange(200) % 6
    rows = torch.cat([index[:, None].float(), boxes], dim=1)
    outlines = Outlines.from_bitmaps(masks)
    expected = roi_align(masks[:, None].float(), rows, 28, aligned=True)[:, 0] >= 0.5
    assert torch.equal(outlines.crop(index, boxes, 28), expected)
    soft = roi_align(masks[:, None].float(), rows, 28, aligned=False)[:, 0]
    assert torch.equal(outlines.crop(index, boxes, 28, "soft"), soft)
    assert outlines.crop(index, boxes.bfloat16(), 28, "soft").dtype == torch.float32


def test_soft_targets_are_those_of_torchvision() -> None:
    masks = random_masks(0, 3, 40, 50)
    boxes = torch.tensor([[3.2, 4.1, 30.0, 20.0], [0.0, 0.0, 49.0, 39.0], [10.0, 10.0, 11.0, 12.5]])
    index = torch.tensor([2, 0, 1])
    theirs = project_masks_on_boxes(masks, boxes, index, 28)
    torch.testing.assert_close(Outlines.from_bitmaps(masks).crop(index, boxes, 28, "soft"), theirs, atol=1e-5, rtol=0)


def test_nothing() -> None:
    none = Outlines.none((8, 9))
    assert len(none) == 0
    assert none.bitmaps().shape == (0, 8, 9)
    assert none.crop(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), 28).shape == (0, 28, 28)
    assert len(Outlines.join([], (8, 9))) == len(Outlines.join([none, none.select([])], (8, 9))) == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), max_size=8))
def test_chosen_objects_are_the_objects(index: list[int]) -> None:
    triangle, square = torch.tensor([[1.0, 1], [9, 2], [4, 8]]), torch.tensor([[0.0, 0], [3, 0], [3, 3], [0, 3]])
    polygons = Outlines.from_polygons([[triangle.double()], [], [square.double(), triangle.double() + 1]], (10, 12))
    runs = Outlines.from_windows([torch.ones(2, 3), torch.eye(5)], [(4, 4), (-2, 9)], (10, 12))
    joined = Outlines.join([polygons, runs], (11, 16))
    whole = joined.bitmaps()
    assert torch.equal(whole[:3, :10, :12], polygons.bitmaps())
    assert torch.equal(whole[3:, :10, :12], runs.bitmaps())
    assert whole[3].sum() == 6
    assert whole[4].sum() == 1  # the rest of the diagonal is beyond the image
    assert torch.equal(joined.select(index).bitmaps(), whole[index])
    assert torch.equal(joined.select(index).select(range(len(index))).bitmaps(), whole[index])
