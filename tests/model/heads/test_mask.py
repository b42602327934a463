"""Mask targets are what the box sees of the bitmask; the loss is that of the true class alone."""

import math

import pytest
import torch

from maskray.model.config import MaskHeadConfig
from maskray.model.heads.mask import build_mask_head, crop_masks, mask_loss


def test_a_box_sees_its_part_of_the_mask() -> None:
    masks = torch.zeros(2, 40, 60, dtype=torch.uint8)
    masks[0, 10:30, 20:40] = 1
    masks[1, :, 30:] = 1
    boxes = torch.tensor([[20.0, 10, 40, 30], [10, 10, 30, 30], [10, 10, 50, 30], [0, 0, 20, 40]])
    crops = crop_masks(masks, torch.tensor([0, 0, 1, 1]), boxes, 28)
    assert crops.dtype == torch.bool
    assert crops[0].all()  # the object fills its own box
    assert crops[1, :, 14:].all()  # its right half
    assert not crops[1, :, :14].any()
    assert crops[2, :, 14:].all()
    assert not crops[2, :, :14].any()
    assert not crops[3].any()


@pytest.mark.parametrize("max_float_pixels", [1, 2 * 32 * 32, 10**9])
def test_chunks_do_not_matter(max_float_pixels: int) -> None:
    torch.manual_seed(0)
    masks = (torch.rand(5, 32, 32) > 0.5).to(torch.uint8)
    boxes = torch.rand(11, 4) * 12
    boxes[:, 2:] += boxes[:, :2] + 4
    gt_index = torch.randint(0, 5, (11,))
    first = torch.zeros(1, dtype=torch.int64)
    one_by_one = [crop_masks(masks[gt][None], first, box[None], 14) for gt, box in zip(gt_index, boxes)]
    assert torch.equal(crop_masks(masks, gt_index, boxes, 14, max_float_pixels=max_float_pixels), torch.cat(one_by_one))


def test_no_boxes_and_no_masks() -> None:
    crops = crop_masks(
        torch.zeros(0, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), 28
    )
    assert crops.shape == (0, 28, 28)


def test_loss_counts_the_true_class_alone() -> None:
    logits = torch.zeros(2, 3, 4, 4)
    logits[0, 1] = 50.0
    logits[:, 2] = 1000.0  # nobody's class
    target = torch.ones(2, 4, 4, dtype=torch.bool)
    assert mask_loss(logits, torch.tensor([1, 0]), target).item() == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize("norm", ["none", "group_norm"])
def test_without_boxes_the_loss_is_zero_with_a_gradient(norm: str) -> None:
    head = build_mask_head(MaskHeadConfig(channels=8, norm=norm), 8, 14, 3)  # type: ignore[arg-type]
    loss = mask_loss(head(torch.zeros(0, 8, 14, 14)), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 28, 28) > 0)
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in head.parameters())


def test_output_is_twice_the_grid() -> None:
    head = build_mask_head(MaskHeadConfig(channels=8, num_convs=1), 4, 14, 3)
    assert head(torch.zeros(2, 4, 14, 14)).shape == (2, 3, 28, 28)
