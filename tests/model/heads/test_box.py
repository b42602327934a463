"""Losses of the box head by hand."""

import math

import pytest
import torch

from maskray.model.config import BoxHeadConfig
from maskray.model.heads.box import BoxHead


def test_losses_by_hand() -> None:
    head = BoxHead(BoxHeadConfig(), 2, num_classes=2)
    logits = torch.zeros(4, 3)
    deltas = torch.zeros(4, 2, 4)
    deltas[0, 1] = torch.tensor([1.0, 0, 0, -2])  # of the true class
    deltas[0, 0] = 100.0  # of another class: does not count
    classes = torch.tensor([1, 2, 2, 0])  # 2 is background
    valid = torch.tensor([True, True, True, False])
    losses = head.losses(logits, deltas, classes, torch.zeros(4, 4), valid)
    assert losses["loss_classifier"].item() == pytest.approx(math.log(3))
    assert losses["loss_box"].item() == pytest.approx((1 + 2) / 3)  # over all valid boxes


def test_without_boxes_the_losses_are_zero_with_a_gradient() -> None:
    head = BoxHead(BoxHeadConfig(pool_size=2, hidden_channels=4), 2, num_classes=2)
    logits, deltas = head(torch.randn(3, 2, 2, 2))
    losses = head.losses(logits, deltas, torch.full((3,), 2), torch.zeros(3, 4), torch.zeros(3, dtype=torch.bool))
    total = losses["loss_classifier"] + losses["loss_box"]
    total.backward()
    assert total.item() == 0
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_class_agnostic_has_one_box_per_proposal() -> None:
    head = BoxHead(BoxHeadConfig(class_agnostic=True, pool_size=2, hidden_channels=4), 2, num_classes=5)
    logits, deltas = head(torch.randn(3, 2, 2, 2))
    assert (logits.shape, deltas.shape) == ((3, 6), (3, 1, 4))
    losses = head.losses(logits, torch.ones(3, 1, 4), torch.tensor([4, 0, 5]), torch.zeros(3, 4), torch.ones(3) > 0)
    assert losses["loss_box"].item() == pytest.approx(8 / 3)


def test_initial_weights_have_the_spread_of_detectron2() -> None:
    torch.manual_seed(0)
    head = BoxHead(BoxHeadConfig(), 4, num_classes=80)
    # The deviation of 4,000 draws and more is known to 2 %.
    assert head.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert head.deltas.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not any(layer.bias.any() for layer in (head.fc1, head.fc2, head.classifier, head.deltas))
