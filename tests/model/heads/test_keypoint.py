"""Keypoint loss by hand; the peaks are those of each heat map resized by itself, as the libraries do it."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints, keypointrcnn_loss

from maskray.model.config import KeypointHeadConfig
from maskray.model.heads.keypoint import KeypointHead, decode_keypoints, keypoint_loss


def random_case(num_boxes: int = 9, num_keypoints: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth heat maps (R, K, 56, 56), and boxes of very different sizes."""
    torch.manual_seed(3)
    logits = F.interpolate(torch.randn(num_boxes, num_keypoints, 9, 9), size=(56, 56), mode="bicubic") * 4
    corner = torch.rand(num_boxes, 2) * 50
    sides = torch.exp(torch.rand(num_boxes, 2) * 5.5)
    return logits, torch.cat([corner, corner + sides], dim=1)


def test_head_gives_maps_four_times_the_grid() -> None:
    head = KeypointHead(KeypointHeadConfig(channels=8, num_convs=8, num_keypoints=5), in_channels=4)
    assert head(torch.randn(2, 4, 14, 14)).shape == (2, 5, 56, 56)
    assert head(torch.randn(0, 4, 14, 14)).shape == (0, 5, 56, 56)


def test_loss_is_the_entropy_of_labelled_keypoints_inside_the_box() -> None:
    logits = torch.zeros(1, 5, 4, 4)
    logits[0, 0, 1, 2] = 5.0  # where the first keypoint lies
    box = torch.tensor([[10.0, 20.0, 50.0, 60.0]])  # 40 pixels, cells of 10
    keypoints = torch.tensor(
        [[[35.0, 31.0, 2.0], [50.0, 60.0, 1.0], [35.0, 31.0, 0.0], [9.9, 30.0, 2.0], [30.0, 60.5, 2.0]]]
    )
    first = math.log(math.exp(5) + 15) - 5
    corner = math.log(16)  # on the far border: the last cell; the others are not labelled or outside
    # Float32 logarithms of a sum.
    assert keypoint_loss(logits, keypoints, box).item() == pytest.approx((first + corner) / 2, rel=1e-6)


def test_loss_without_any_keypoint_is_zero_with_a_gradient() -> None:
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    loss = keypoint_loss(logits, torch.zeros(2, 3, 3), torch.tensor([[0.0, 0, 9, 9], [3, 3, 3, 3]]))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
    assert keypoint_loss(torch.zeros(0, 3, 8, 8), torch.zeros(0, 3, 3), torch.zeros(0, 4)).item() == 0


def test_loss_equals_torchvision() -> None:
    logits, boxes = random_case()
    keypoints = torch.cat([boxes[:, None, :2] + torch.rand(9, 3, 2) * 60, torch.randint(0, 3, (9, 3, 1))], dim=2)
    theirs = keypointrcnn_loss(logits, [boxes], [keypoints], [torch.arange(9)])
    torch.testing.assert_close(keypoint_loss(logits, keypoints, boxes), theirs)


@pytest.mark.parametrize("max_values", [1, 200_000, 10**9], ids=["one by one", "some", "all at once"])
def test_peaks_equal_torchvision(max_values: int) -> None:
    logits, boxes = random_case()
    expected, scores = heatmaps_to_keypoints(logits, boxes)
    found = decode_keypoints(logits, boxes, score="logit", max_values=max_values)
    # Boxes reach to 300 pixels, where float32 is 3e-5 apart; logits to 20, of 16 products each.
    torch.testing.assert_close(found[..., :2], expected[..., :2], atol=1e-3, rtol=0)
    torch.testing.assert_close(found[..., 2], scores, atol=1e-4, rtol=0)


def test_probability_is_the_peak_in_the_softmax_over_positions() -> None:
    logits, _ = random_case(2)
    whole = torch.tensor([[0.0, 0, 56, 56], [7, 9, 63, 65]])  # of the size of the map: nothing is resized
    found = decode_keypoints(logits, whole)
    best, index = logits.flatten(2).softmax(dim=2).max(dim=2)
    torch.testing.assert_close(found[..., 2], best)
    cell = torch.stack([index % 56, index // 56], dim=2) + 0.5
    torch.testing.assert_close(found[..., :2], cell + whole[:, None, :2])


def test_no_boxes_no_peaks() -> None:
    assert decode_keypoints(torch.zeros(0, 17, 56, 56), torch.zeros(0, 4)).shape == (0, 17, 3)
