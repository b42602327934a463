"""The one IoU: by hand, and NMS, soft-NMS, matching and the plain definition give one answer for any numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskray.ops import reference
from maskray.ops.match_boxes import match_boxes
from maskray.ops.nms import nms
from maskray.ops.soft_nms import soft_nms

DTYPES = [torch.float32, torch.float64]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
NAN, INF = math.nan, math.inf
SQUARE = [0.0, 0, 4, 4]
# Whole numbers often, so that boxes meet; what is not finite, too great to multiply, or too small.
NUMBERS = st.one_of(
    st.integers(-4, 9).map(float), st.sampled_from([NAN, INF, -INF, 3e38, -3e38, 1e25, 1e-30, -0.0, 0.1])
)
BOXES = st.lists(NUMBERS, min_size=4, max_size=4)


def matched_iou(first, second):
    """IoU as matching says it."""
    match = match_boxes(first[None], second[None], positive_iou=0.5, negative_iou=0.5, force_best=False)
    return float(match.iou[0])


def decayed_iou(first, second):
    """IoU as soft-NMS makes the second score smaller by; 1 where nothing is left of it."""
    scores = torch.tensor([1.0, 0.5], dtype=first.dtype, device=first.device)
    kept, new_scores = soft_nms(torch.stack([first, second]), scores, 0.0, score_threshold=0.0)
    left = dict(zip(kept.tolist(), new_scores.tolist(), strict=True)).get(1, 0.0)
    return 1 - 2 * left


def is_above(first, second, threshold):
    """Whether NMS finds the IoU above the threshold."""
    scores = torch.tensor([1.0, 0.5], dtype=first.dtype, device=first.device)
    return nms(torch.stack([first, second]), scores, threshold).tolist() == [0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("other", "iou"),
    [
        (SQUARE, 1.0),
        ([0.0, 0, 4, 1], 0.25),
        ([4.0, 0, 8, 4], 0.0),  # a side is shared
        ([2.0, 0, 2, 4], 0.0),  # no width
        ([2.0, 2, 2, 2], 0.0),  # a point
        ([4.0, 0, 0, 4], 0.0),  # a side below 0
        ([4.0, 4, 0, 0], 0.0),  # both: not the area that their product is
        ([NAN, 0, 4, 4], 0.0),
        ([0.0, NAN, 4, 4], 0.0),
        ([0.0, 0, NAN, 4], 0.0),
        ([0.0, 0, 4, NAN], 0.0),
        ([NAN, NAN, NAN, NAN], 0.0),
        ([0.0, 0, INF, 4], 0.0),  # the union is infinite, the intersection is not
        ([-INF, -INF, INF, INF], 0.0),
        ([0.0, 0, 4, -INF], 0.0),
        ([INF, 0, INF, 4], 0.0),
    ],
)
def test_by_hand(dtype, device, other, iou):
    first, second = torch.tensor(SQUARE, dtype=dtype), torch.tensor(other, dtype=dtype)
    assert float(reference.box_iou(first, second)) == iou
    first, second = first.to(device), second.to(device)
    for a, b in ((first, second), (second, first)):
        assert matched_iou(a, b) == iou
        assert decayed_iou(a, b) == iou
        assert is_above(a, b, 0.0) == (iou > 0)
        assert not is_above(a, b, iou)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [[0.0, 0, 0, 0], [0.0, 0, INF, INF], [-3e38, -3e38, 3e38, 3e38], [9.0, 9, 1, 1]])
def test_a_box_may_not_overlap_its_equal(dtype, bad):
    """The union is 0, NaN or, in float32, beyond what it holds."""
    box = torch.tensor(bad, dtype=dtype)
    iou = 1.0 if bad[2] == 3e38 and dtype == torch.float64 else 0.0
    assert float(reference.box_iou(box, box)) == matched_iou(box, box) == decayed_iou(box, box) == iou
    assert is_above(box, box, 0.0) == (iou > 0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@given(boxes=st.lists(BOXES, min_size=1, max_size=40), threshold=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
@settings(max_examples=80, deadline=None)
def test_all_agree_whatever_the_numbers(dtype, device, boxes, threshold):
    boxes = torch.tensor(boxes, dtype=dtype)
    scores = 1 - torch.arange(len(boxes), dtype=dtype) / 64
    overlaps = reference.box_iou(boxes[:, None], boxes)
    assert torch.isfinite(overlaps).all()
    assert torch.equal(overlaps, overlaps.T)
    kept = nms(boxes.to(device), scores.to(device), threshold).cpu()
    assert torch.equal(kept, reference.batched_nms(boxes, scores, torch.zeros(len(boxes)), threshold))
    match = match_boxes(
        boxes.to(device), boxes.to(device), positive_iou=threshold, negative_iou=threshold, force_best=True
    )
    expected = reference.match_boxes(boxes, boxes, threshold, threshold, True)
    assert all(torch.equal(ours.cpu(), other) for ours, other in zip(match, expected, strict=True))
    soft, new_scores = soft_nms(boxes.to(device), scores.to(device), threshold, score_threshold=0.25)
    soft_expected, expected_scores = reference.soft_nms(boxes, scores, threshold, 0.5, "linear", 0.25)
    assert torch.equal(soft.cpu(), soft_expected)
    assert torch.equal(new_scores.cpu(), expected_scores)
