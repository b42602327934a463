"""Proposals are chosen per image; losses are divided as the paper says."""

from __future__ import annotations

import math

import pytest
import torch

from maskray.model.backbone.fpn import STRIDES
from maskray.model.config import AnchorConfig, RPNConfig
from maskray.model.rpn import RPN, RPNOutput
from maskray.model.structures import Targets

# Of sums of tens of float32 in another order, as of one anchor's patch and of a whole map.
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}
ROUNDING_OF_GRADIENTS = {"rtol": 1e-4, "atol": 1e-4}  # sums of hundreds, of the size of 100
SIZES = torch.tensor([[64, 64], [64, 64]])


def build_rpn(**fields: float) -> RPN:
    return RPN(RPNConfig(**fields), AnchorConfig(), channels=8, strides=STRIDES)  # type: ignore[arg-type]


def constant_output(scores: list[list[float]], anchors: list[list[float]]) -> RPNOutput:
    """One level, whose anchors are not shifted."""
    logits = torch.tensor(scores, dtype=torch.float32)
    return RPNOutput([logits], [torch.zeros(*logits.shape, 4)], [torch.tensor(anchors)])


def test_an_image_of_low_scores_keeps_its_proposals() -> None:
    rpn = build_rpn(pre_nms_top_n_test=2, post_nms_top_n_test=2).eval()
    anchors = [[0.0, 0, 10, 10], [20, 20, 40, 40], [40, 0, 60, 10]]
    proposals = rpn.propose(constant_output([[9, 8, 7], [-7, -9, -8]], anchors), SIZES)
    assert proposals.valid.all()
    assert proposals.boxes[0].tolist() == [anchors[0], anchors[1]]
    assert proposals.boxes[1].tolist() == [anchors[0], anchors[2]]


def test_nms_is_per_image_and_level() -> None:
    rpn = build_rpn(post_nms_top_n_test=10).eval()
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9.5]])
    one = constant_output([[1.0, 2.0], [2.0, 1.0]], anchors.tolist())
    proposals = rpn.propose(one, SIZES)
    assert proposals.valid.tolist() == [[True, False], [True, False]]
    assert proposals.boxes[0, 0].tolist() == anchors[1].tolist()
    assert proposals.boxes[1, 0].tolist() == anchors[0].tolist()
    assert proposals.boxes[~proposals.valid].abs().sum() == 0
    two_levels = RPNOutput(one.logits * 2, one.deltas * 2, one.anchors * 2)
    assert rpn.propose(two_levels, SIZES).valid.sum(dim=1).tolist() == [2, 2]


def test_boxes_are_clipped_and_those_without_area_or_not_finite_are_dropped() -> None:
    rpn = build_rpn().eval()
    output = constant_output(
        [[4.0, 3.0, 2.0, 1.0]] * 2,
        [[-10.0, -10, 30, 70], [70, 0, 90, 10], [0, 0, math.nan, 5], [5, 5, 6, 6]],
    )
    proposals = rpn.propose(output, torch.tensor([[64, 64], [32, 20]]))
    assert proposals.boxes[0][proposals.valid[0]].tolist() == [[0, 0, 30, 64], [5, 5, 6, 6]]
    assert proposals.boxes[1][proposals.valid[1]].tolist() == [[0, 0, 20, 32], [5, 5, 6, 6]]


def test_equal_scores_keep_the_order_of_the_anchors() -> None:
    rpn = build_rpn().eval()
    anchors = [[4.0 * i, 0, 4.0 * i + 4, 4] for i in range(12)]
    proposals = rpn.propose(constant_output([[1.0] * 12] * 2, anchors), SIZES)
    assert proposals.boxes[0].tolist() == anchors


def test_losses_by_hand() -> None:
    rpn = build_rpn(samples_per_image=4)
    anchors = [[0.0, 0, 10, 10], [30, 30, 40, 40], [50, 50, 60, 60]]
    output = constant_output([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], anchors)
    gt = torch.tensor([[[0.0, 1, 10, 10]], [[0.0, 0, 0, 0]]])  # IoU 0.9 with the first anchor; no object
    losses = rpn.losses(output, Targets(gt, torch.tensor([[0], [-1]])), torch.Generator().manual_seed(0))
    # 3 anchors of each image are drawn, each costs log 2; divided by 4 samples x 2 images although 6 were there.
    assert losses["loss_rpn_objectness"].item() == pytest.approx(6 * math.log(2) / 8)
    # The one positive: dy = 0.5 / 10, dh = log 0.9, of coordinates in float32 that cancel.
    assert losses["loss_rpn_box"].item() == pytest.approx((0.05 - math.log(0.9)) / 8, rel=1e-4)


def test_smooth_l1_is_an_option() -> None:
    output = constant_output([[0.0]], [[0.0, 0, 10, 10]])
    targets = Targets(torch.tensor([[[0.0, 1, 10, 10]]]), torch.tensor([[0]]))
    rpn = build_rpn(samples_per_image=2, box_loss="smooth_l1", smooth_l1_beta=1.0)  # type: ignore[arg-type]
    loss = rpn.losses(output, targets, None)["loss_rpn_box"].item()
    # Float32 logarithms of float32 anchors.
    assert loss == pytest.approx((0.05**2 + math.log(0.9) ** 2) / 2 / 2, rel=1e-4)


def test_head_puts_anchors_in_the_order_of_the_grid() -> None:
    rpn = build_rpn()
    with torch.no_grad():
        rpn.head.convs[0].weight.zero_()
        rpn.head.convs[0].weight[:, :, 1, 1] = torch.eye(8)
        rpn.head.objectness.weight.zero_()
        rpn.head.objectness.weight[1, 0] = 1.0  # the second anchor of a cell sees channel 0
    feature = torch.zeros(1, 8, 2, 3)
    feature[0, 0, 1, 2] = 5.0
    output = rpn([feature] * 5)
    assert output.logits[0].flatten().nonzero().flatten().tolist() == [(1 * 3 + 2) * 3 + 1]
    centre = output.anchors[0][16].view(2, 2).mean(dim=0)
    assert centre.tolist() == [2.5 * 4, 1.5 * 4]


@pytest.mark.parametrize("num_convs", [1, 2])
def test_single_anchors_are_computed_as_whole_maps_are(num_convs: int) -> None:
    torch.manual_seed(0)
    rpn = build_rpn(num_convs=num_convs)
    for parameter in rpn.head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    sizes = [(6, 9), (3, 5), (2, 3), (1, 2), (1, 1)]  # cells in corners and on maps of one cell are among them
    features = [torch.randn(2, 8, *size, requires_grad=True) for size in sizes]
    num_anchors = sum(3 * height * width for height, width in sizes)
    index = torch.stack([torch.randperm(num_anchors) for _ in range(2)])[:, :150]
    logits, deltas = rpn.head(features)
    whole = (
        torch.cat(logits, dim=1).gather(1, index),
        torch.cat(deltas, dim=1).gather(1, index[..., None].expand(-1, -1, 4)),
    )
    single = rpn.head.at_anchors(features, index)
    inputs = (*features, *rpn.head.parameters())
    gradients = []
    for answer in (whole, single):
        torch.manual_seed(1)
        total = sum((value * torch.randn_like(value)).sum() for value in answer)
        gradients.append(torch.autograd.grad(total, inputs))  # type: ignore[arg-type]
    torch.testing.assert_close(single, whole, **ROUNDING)
    torch.testing.assert_close(gradients[1], gradients[0], **ROUNDING_OF_GRADIENTS)


def test_losses_in_training_are_those_of_whole_maps() -> None:
    torch.manual_seed(0)
    rpn = build_rpn(samples_per_image=20)
    features = [torch.randn(2, 8, 64 // s, 64 // s) for s in STRIDES]
    targets = Targets(torch.tensor([[[0.0, 0, 40, 40]], [[8.0, 20, 60, 50]]]), torch.tensor([[0], [1]]))
    output = rpn(features)
    assert not any(logits.requires_grad for logits in output.logits)
    for name, loss in rpn.losses(output, targets, torch.Generator().manual_seed(0)).items():
        assert loss.requires_grad
        whole = rpn.losses(output._replace(features=()), targets, torch.Generator().manual_seed(0))[name]
        torch.testing.assert_close(loss, whole)
