"""Box offsets by hand, there and back, and equal to torchvision's."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou as torchvision_iou

from maskray.model.boxes.coding import MAX_LOG_SCALE, box_areas, box_iou, clip_boxes, decode_deltas, encode_boxes

# Of coordinates up to 1400 in float32, 1e-4 apart, over sides from 1 pixel on, times the weight 10, there and back.
ROUNDING_PIXELS, ROUNDING_OFFSETS = 0.02, 1e-3
ONES = (1.0, 1.0, 1.0, 1.0)
RCNN = (10.0, 10.0, 5.0, 5.0)


def boxes_strategy() -> st.SearchStrategy[list[float]]:
    corner, side = st.floats(-100, 900, width=32), st.floats(1, 500, width=32)
    return st.tuples(corner, corner, side, side).map(lambda t: [t[0], t[1], t[0] + t[2], t[1] + t[3]])


def test_offsets_by_hand() -> None:
    reference = torch.tensor([[10.0, 10, 20, 30]])  # centre 15, 20, sides 10, 20
    box = torch.tensor([[10.0, 20, 30, 30]])  # centre 20, 25, sides 20, 10
    expected = torch.tensor([[0.5, 0.25, math.log(2), -math.log(2)]])
    torch.testing.assert_close(encode_boxes(box, reference, ONES), expected)
    torch.testing.assert_close(encode_boxes(box, reference, RCNN), expected * torch.tensor(RCNN))
    torch.testing.assert_close(decode_deltas(expected, reference, ONES), box)


@given(st.lists(st.tuples(boxes_strategy(), boxes_strategy()), min_size=1, max_size=8))
@settings(deadline=None, max_examples=50)
def test_round_trip_and_torchvision(pairs: list[tuple[list[float], list[float]]]) -> None:
    boxes = torch.tensor([pair[0] for pair in pairs])
    references = torch.tensor([pair[1] for pair in pairs])
    deltas = encode_boxes(boxes, references, RCNN)
    scale = (boxes[:, 2:] - boxes[:, :2]) / (references[:, 2:] - references[:, :2])
    within = (scale < math.exp(MAX_LOG_SCALE)).all(dim=1)
    # Float32 on either side.
    torch.testing.assert_close(
        decode_deltas(deltas, references, RCNN)[within], boxes[within], atol=ROUNDING_PIXELS, rtol=1e-4
    )
    coder = BoxCoder(RCNN)
    torch.testing.assert_close(deltas, coder.encode_single(boxes, references), atol=ROUNDING_OFFSETS, rtol=1e-4)
    torch.testing.assert_close(
        decode_deltas(deltas, references, RCNN),
        coder.decode_single(deltas, references),
        atol=ROUNDING_PIXELS,
        rtol=1e-4,
    )


def test_growth_is_capped() -> None:
    decoded = decode_deltas(torch.tensor([[0.0, 0, 100, 100]]), torch.tensor([[0.0, 0, 16, 16]]), ONES)
    torch.testing.assert_close(decoded, torch.tensor([[-492.0, -492, 508, 508]]))


@pytest.mark.parametrize("box", [[5.0, 5, 5, 5], [5.0, 5, 5, 9], [0.0, 0, 0, 0]])
def test_boxes_without_area_give_finite_offsets(box: list[float]) -> None:
    other = torch.tensor([[0.0, 0, 10, 10]])
    empty = torch.tensor([box])
    assert torch.isfinite(encode_boxes(empty, other, ONES)).all()
    assert torch.isfinite(encode_boxes(other, empty, ONES)).all()


def test_clip_takes_height_and_width() -> None:
    boxes = torch.tensor([[[-5.0, -5, 50, 50]], [[10.0, 90, 300, 120]]])
    sizes = torch.tensor([[20, 30], [100, 200]])
    expected = torch.tensor([[[0.0, 0, 30, 20]], [[10.0, 90, 200, 100]]])
    torch.testing.assert_close(clip_boxes(boxes, sizes[:, None, :]), expected)


def test_iou_by_hand_and_as_torchvision() -> None:
    one = torch.tensor([[0.0, 0, 10, 10]])
    others = torch.tensor([[0.0, 0, 10, 10], [5.0, 0, 15, 10], [10.0, 10, 20, 20], [2.0, 2, 2, 8]])
    torch.testing.assert_close(box_iou(one, others), torch.tensor([[1.0, 50 / 150, 0, 0]]))
    torch.manual_seed(0)
    a, b = torch.rand(20, 4) * 50, torch.rand(30, 4) * 50
    a[:, 2:] += a[:, :2]
    b[:, 2:] += b[:, :2]
    torch.testing.assert_close(box_iou(a, b), torchvision_iou(a, b))


def test_iou_of_two_boxes_without_area_is_zero() -> None:
    empty = torch.zeros(1, 4)
    assert box_iou(empty, empty).item() == 0
    assert box_areas(torch.tensor([[5.0, 5, 3, 9]])).item() == 0
