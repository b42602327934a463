"""Soft-NMS: new scores by hand, the plain definition, NaN, empty input, torch's checks and errors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskray.ops import reference
from maskray.ops.soft_nms import soft_nms

# IoU of the first two: 0.5; the third is alone.
BOXES = torch.tensor([[0.0, 0, 4, 1], [0, 0, 2, 1], [20, 0, 30, 1]])
SCORES = torch.tensor([0.9, 0.8, 0.7])


def test_linear_by_hand():
    kept, scores = soft_nms(BOXES, SCORES, 0.4)
    assert kept.tolist() == [0, 2, 1]
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.7, 0.4]))
    assert soft_nms(BOXES, SCORES, 0.5)[0].tolist() == [0, 1, 2]  # an IoU of exactly the threshold costs nothing
    assert soft_nms(BOXES, SCORES, 0.4, score_threshold=0.5)[0].tolist() == [0, 2]


def test_gaussian_by_hand():
    kept, scores = soft_nms(BOXES, SCORES, sigma=0.5, method="gaussian")
    assert kept.tolist() == [0, 2, 1]
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.7, 0.8 * math.exp(-0.5)]))


@pytest.mark.parametrize("method", ["linear", "gaussian"])
@given(seed=st.integers(0, 2**31), count=st.integers(0, 30), threshold=st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=30, deadline=None)
def test_equals_the_definition(method, seed, count, threshold):
    generator = torch.Generator().manual_seed(seed)
    corner = 10 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    size = 0.1 + 6 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    boxes = torch.cat([corner, corner + size], 1)
    scores = torch.rand(count, generator=generator, dtype=torch.float64)
    kept, new_scores = soft_nms(boxes, scores, threshold, 0.5, method, 0.1)
    expected = reference.soft_nms(boxes, scores, threshold, 0.5, method, 0.1)
    assert torch.equal(kept, expected[0])
    torch.testing.assert_close(new_scores, expected[1])


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_classes_and_images_are_kept_apart_in_one_call(method):
    generator = torch.Generator().manual_seed(4)
    corner = 10 * torch.rand(90, 2, generator=generator)
    boxes, scores = torch.cat([corner, corner + 6], 1), torch.rand(90, generator=generator)
    classes, images = (torch.randint(0, 3, (90,), generator=generator) for _ in range(2))
    kept, new_scores = soft_nms(boxes, scores, 0.3, 0.5, method, 0.1, classes, images)
    assert len(kept) < 90
    assert new_scores.tolist() == sorted(new_scores.tolist(), reverse=True)
    for group in range(9):
        chosen = (3 * images + classes == group).nonzero()[:, 0]
        alone, alone_scores = soft_nms(boxes[chosen], scores[chosen], 0.3, 0.5, method, 0.1)
        mine = (3 * images + classes)[kept] == group
        assert torch.equal(kept[mine], chosen[alone])
        assert torch.equal(new_scores[mine], alone_scores)


def test_ties_nan_and_boxes_without_area():
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [0, math.nan, 4, 4], [1, 1, 1, 1], [0, 0, 4, 4]])
    kept, scores = soft_nms(boxes, torch.tensor([0.5, 0.5, 0.5, 0.5, math.nan]))
    assert kept.tolist() == [0, 2, 3]  # the second is an equal of the first: 0.5 * (1 - 1) = 0
    assert scores.tolist() == [0.5] * 3
    assert soft_nms(boxes[:0], scores[:0])[0].shape == (0,)


def test_half_types_and_the_checks_of_torch():
    kept, scores = soft_nms(BOXES.half(), SCORES.bfloat16(), 0.4)
    assert kept.tolist() == [0, 2, 1]
    assert scores.dtype == torch.float32
    for count, gaussian in ((3, True), (3, False), (0, True)):
        arguments = (BOXES[:count], SCORES[:count], torch.zeros(count).long(), 0.3, 0.5, gaussian, 0.01)
        torch.library.opcheck(torch.ops.maskray.soft_nms.default, arguments)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, r"boxes: expected \(N, 4\), got \(3, 3\)", (BOXES[:, :3], SCORES)),
        (ValueError, r"scores: expected \(3,\), got \(2,\)", (BOXES, SCORES[:2])),
        (TypeError, "boxes: expected a floating dtype", (BOXES.long(), SCORES)),
        (ValueError, "scores: on meta, boxes on cpu", (BOXES, SCORES.to("meta"))),
        (ValueError, r"iou_threshold: expected 0\.\.1, got 2", (BOXES, SCORES, 2)),
        (ValueError, "sigma: expected a positive number, got 0", (BOXES, SCORES, 0.3, 0)),
        (ValueError, "method: expected one of .*, got 'hard'", (BOXES, SCORES, 0.3, 0.5, "hard")),
    ],
)
def test_a_wrong_argument_is_named(error, message, arguments):
    with pytest.raises(error, match=message):
        soft_nms(*arguments)
