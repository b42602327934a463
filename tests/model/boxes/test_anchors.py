"""Anchors by hand: sides, centres, order."""

import math

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from maskray.model.boxes.anchors import cell_anchors, level_anchors, map_anchors
from maskray.model.config import AnchorConfig


def test_cell_anchors_by_hand() -> None:
    root = math.sqrt(2)
    expected = [
        [-16 * root, -8 * root, 16 * root, 8 * root],  # twice as wide as high
        [-16, -16, 16, 16],
        [-8 * root, -16 * root, 8 * root, 16 * root],
    ]
    torch.testing.assert_close(cell_anchors(32, (0.5, 1.0, 2.0)), torch.tensor(expected))


def test_level_anchors_run_by_row_column_and_anchor_with_centres_at_half_a_cell() -> None:
    cell = torch.tensor([[-1.0, -1, 1, 1], [-2, -2, 2, 2]])
    anchors = level_anchors(cell, height=2, width=3, stride=(4, 4), offset=0.5)
    assert anchors.shape == (12, 4)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    expected = [(x, y) for y in (2, 6) for x in (2, 6, 10) for _ in range(2)]
    torch.testing.assert_close(centres, torch.tensor(expected, dtype=torch.float32))
    torch.testing.assert_close(anchors[0::2, 2] - anchors[0::2, 0], torch.full((6,), 2.0))
    torch.testing.assert_close(anchors[1::2, 2] - anchors[1::2, 0], torch.full((6,), 4.0))


def test_offset_zero_puts_the_first_centre_in_the_corner() -> None:
    anchors = level_anchors(torch.tensor([[-1.0, -1, 1, 1]]), 1, 2, (8, 8), 0.0)
    torch.testing.assert_close(anchors, torch.tensor([[-1.0, -1, 1, 1], [7, -1, 9, 1]]))


def test_order_is_that_of_torchvision() -> None:
    config = AnchorConfig(sizes=(32.0, 64.0, 128.0, 256.0, 512.0), aspect_ratios=(0.25, 1.0, 4.0), offset=0.0)
    sizes = [(4, 6), (2, 3), (1, 2), (1, 1), (1, 1)]
    ours = map_anchors(config, sizes, (4, 8, 16, 32, 64), torch.device("cpu"))
    generator = AnchorGenerator(tuple((int(s),) for s in config.sizes), (config.aspect_ratios,) * 5)
    theirs = generator.grid_anchors(  # sizes and ratios chosen so that its rounding changes nothing
        [list(size) for size in sizes], [[torch.tensor(s), torch.tensor(s)] for s in (4, 8, 16, 32, 64)]
    )
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other)


def test_rounded_anchors_on_map_strides_are_those_of_torchvision() -> None:
    config = AnchorConfig(rounded=True, strides="from_map_size", offset=0.0)
    sizes = [(200, 272), (100, 136), (50, 68), (25, 34), (13, 17)]  # P6 of 800 x 1088: 800 // 13 = 61
    ours = map_anchors(config, sizes, (4, 8, 16, 32, 64), torch.device("cpu"))
    generator = AnchorGenerator(tuple((int(s),) for s in config.sizes), (config.aspect_ratios,) * 5)
    images = ImageList(torch.zeros(1, 3, 800, 1088), [(800, 1088)])
    (theirs,) = generator(images, [torch.zeros(1, 1, *size) for size in sizes])
    assert torch.equal(torch.cat(ours), theirs)


def test_one_map_has_every_size_at_each_cell() -> None:
    config = AnchorConfig(sizes=(16.0, 64.0), aspect_ratios=(1.0, 4.0), offset=0.0)
    (anchors,) = map_anchors(config, [(2, 3)], (16,), torch.device("cpu"))
    assert anchors.shape == (2 * 3 * 4, 4)
    sides = (anchors[:4, 2:] - anchors[:4, :2]).tolist()
    assert sides == [[16, 16], [8, 32], [64, 64], [32, 128]]
