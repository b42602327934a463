"""Masks inside boxes: the loss is that of the true class alone."""

import math

import pytest
import torch

from maskray.model.config import MaskHeadConfig
from maskray.model.heads.mask import build_mask_head, mask_loss, mask_probabilities


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


def test_softmax_loss_by_hand() -> None:
    logits = torch.zeros(1, 3, 1, 2)  # two classes and the background, two pixels
    logits[0, 1, 0, 0], logits[0, 2, 0, 1] = 2.0, 1.0
    target = torch.tensor([[[True, False]]])
    first = math.log(math.exp(2) + 2) - 2  # a pixel of the object: class 1
    second = math.log(math.exp(1) + 2) - 1  # a pixel beside it: background
    loss = mask_loss(logits, torch.tensor([1]), target, "softmax")
    # Float32 logarithms.
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)
    chances = mask_probabilities(logits, torch.tensor([1]), "softmax")
    # Float32 exponentials.
    assert chances.flatten().tolist() == pytest.approx([math.exp(-first), 1 / (math.exp(1) + 2)], rel=1e-5)


def test_class_agnostic_loss_has_one_mask_for_all_classes() -> None:
    logits = torch.tensor([[[[3.0, -1.0]]], [[[0.5, 2.0]]]])
    target = torch.tensor([[[True, False]], [[False, False]]])
    loss = mask_loss(logits, torch.tensor([7, 2]), target, "class_agnostic")
    expected = torch.nn.functional.binary_cross_entropy(logits.squeeze(1).sigmoid(), target.float())
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        mask_probabilities(logits, torch.tensor([7, 2]), "class_agnostic"), logits.squeeze(1).sigmoid()
    )


@pytest.mark.parametrize("output", ["per_class_sigmoid", "class_agnostic", "softmax"])
def test_no_boxes_is_no_loss_with_a_gradient(output: str) -> None:
    logits = torch.zeros(0, 3 if output != "class_agnostic" else 1, 4, 4, requires_grad=True)
    loss = mask_loss(logits, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4, 4, dtype=torch.bool), output)
    assert loss.item() == 0
    assert loss.requires_grad


def test_mlp_gives_each_pixel_weights_of_its_own() -> None:
    config = MaskHeadConfig(name="mlp", mlp_channels=(6, 5))
    head = build_mask_head(config, 4, 7, 3)
    assert head(torch.randn(2, 4, 7, 7)).shape == (2, 3, 14, 14)
    assert [tuple(p.shape) for p in head.parameters() if p.ndim == 2] == [(6, 196), (5, 6), (3 * 14 * 14, 5)]


@pytest.mark.parametrize("norm", ["batch_norm", "sync_batch_norm"])
def test_no_boxes_leave_the_statistics_of_batch_norm_alone(norm: str) -> None:
    head = build_mask_head(MaskHeadConfig(channels=8, num_convs=1, norm=norm), 4, 14, 3)  # type: ignore[arg-type]
    head(torch.zeros(0, 4, 14, 14)).sum().backward()
    assert all(torch.isfinite(value).all() for value in head.state_dict().values())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
