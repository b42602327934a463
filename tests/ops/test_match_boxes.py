"""Matching: labels by hand, the definition, torchvision, ties, padding, NaN, the checks of torch, errors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from maskray.ops import reference
from maskray.ops.match_boxes import match_boxes

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
THRESHOLDS = {"positive_iou": 0.7, "negative_iou": 0.3, "force_best": True}
GT = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])


def random_boxes(count, generator, extent=100.0, dtype=torch.float32):
    corner = torch.rand(count, 2, generator=generator, dtype=dtype) * extent
    return torch.cat([corner, corner + torch.rand(count, 2, generator=generator, dtype=dtype) * extent * 0.4], 1)


def matched_by_torchvision(references, gt_boxes, thresholds):
    """Labels and indices in our terms; a box that nothing overlaps is left out, for torchvision forces all on it."""
    overlaps = box_iou(gt_boxes, references)
    met = overlaps.amax(1) > 0
    matcher = Matcher(thresholds["positive_iou"], thresholds["negative_iou"], thresholds["force_best"])
    found = matcher(overlaps[met])
    labels = torch.where(found >= 0, 1, torch.where(found == Matcher.BELOW_LOW_THRESHOLD, 0, -1))
    return labels.to(torch.int8), met.nonzero().squeeze(1)[overlaps[met].max(0).indices], overlaps.amax(0)


def test_labels_by_hand():
    references = torch.tensor(
        [
            [0.0, 0, 10, 8],  # IoU 0.8 with the first: positive
            [0, 0, 10, 5],  # 0.5: between the thresholds
            [0, 0, 10, 2],  # 0.2: negative
            [20, 0, 30, 4],  # 0.4 with the second, its best: forced
            [50, 50, 60, 60],  # 0
        ]
    )
    match = match_boxes(references, GT, positive_iou=0.7, negative_iou=0.3, force_best=False)
    assert match.labels.tolist() == [1, -1, 0, -1, 0]
    assert match.gt_index.tolist() == [0, 0, 0, 1, 0]
    torch.testing.assert_close(match.iou, torch.tensor([0.8, 0.5, 0.2, 0.4, 0.0]))
    assert match_boxes(references, GT, **THRESHOLDS).labels.tolist() == [1, -1, 0, 1, 0]


def test_thresholds_count_as_reached_by_equal_overlaps():
    half = match_boxes(torch.tensor([[0.0, 0, 10, 5]]), GT, positive_iou=0.5, negative_iou=0.5, force_best=False)
    assert half.labels.tolist() == [1]
    exact = match_boxes(torch.tensor([[0.0, 0, 10, 7]]), GT, positive_iou=0.7, negative_iou=0.3, force_best=False)
    assert exact.labels.tolist() == [1]  # 0.7 as float32 is below 0.7 as double


def test_ties_take_the_first_box_and_force_every_reference():
    references = torch.tensor([[0.0, 0, 10, 2], [0, 8, 10, 10], [0, 0, 10, 1]])
    match = match_boxes(references, GT[[0, 0, 1]], **THRESHOLDS)
    assert match.labels.tolist() == [1, 1, 0]
    assert match.gt_index.tolist() == [0, 0, 0]


def test_ties_are_forced_in_distant_blocks():
    references = torch.tensor([[100.0, 100, 110, 110]]).repeat(3000, 1)
    references[[1, 700, 2999]] = torch.tensor([0.0, 0, 10, 2])
    match = match_boxes(references, GT[:1], **THRESHOLDS)
    assert match.labels.nonzero().squeeze(1).tolist() == [1, 700, 2999]


def test_a_forced_reference_answers_for_its_own_best_box():
    gt = torch.tensor([[0.0, 0, 10, 10], [0, 8, 10, 30]])
    match = match_boxes(torch.tensor([[0.0, 4, 10, 12]]), gt, **THRESHOLDS)
    assert (match.labels.tolist(), match.gt_index.tolist()) == ([1], [0])


def test_a_box_that_nothing_overlaps_forces_nothing():
    match = match_boxes(torch.tensor([[100.0, 100, 110, 110]]), GT, **THRESHOLDS)
    assert (match.labels.tolist(), match.gt_index.tolist(), match.iou.tolist()) == ([0], [0], [0])


@pytest.mark.parametrize("device", DEVICES)
def test_without_boxes_everything_is_negative(device):
    references = torch.tensor([[0.0, 0, 0, 0], [0, 0, 10, 10]], device=device)
    none = torch.zeros(3, 2, dtype=torch.bool, device=device)
    for gt, valid in ((GT.to(device).expand(3, 2, 4), none), (references.new_zeros(3, 0, 4), None)):
        match = match_boxes(references, gt, valid, **THRESHOLDS)
        assert match.labels.tolist() == match.gt_index.tolist() == [[0, 0]] * 3
    assert match_boxes(references[:0], GT.to(device), **THRESHOLDS).iou.shape == (0,)
    assert match_boxes(references, references.new_zeros(0, 5, 4), **THRESHOLDS).labels.shape == (0, 2)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 3e38])
def test_boxes_that_are_not_finite_overlap_nothing(device, bad):
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(5, 1)
    boxes[range(4), range(4)] = torch.tensor([-bad, -bad, bad, bad])
    match = match_boxes(boxes.to(device), boxes.to(device), **THRESHOLDS)
    assert match.labels[4] == 1
    assert match.gt_index[4] == 4
    assert torch.isfinite(match.iou).all()
    if not math.isfinite(bad):
        assert match.iou[:4].tolist() == [0] * 4
        assert match.labels[:4].tolist() == [0] * 4


def test_boxes_without_area_overlap_nothing():
    boxes = torch.tensor([[2.0, 2, 2, 8], [5, 5, 5, 5], [8, 2, 2, 8], [8, 8, 2, 2], [2, 2, 8, 8]])
    match = match_boxes(boxes, boxes, **THRESHOLDS)
    assert match.iou.tolist() == [0, 0, 0, 0, 1]
    assert match.gt_index.tolist() == [0, 0, 0, 0, 4]


@pytest.mark.parametrize("device", DEVICES)
@given(
    seed=st.integers(0, 2**31),
    num_references=st.integers(0, 600),
    num_boxes=st.integers(1, 9),
    force_best=st.booleans(),
    grid=st.booleans(),
    double=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_equals_the_definition(device, seed, num_references, num_boxes, force_best, grid, double):
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if double else torch.float32
    references = random_boxes(num_references, generator, 10, dtype)
    gt = random_boxes(num_boxes, generator, 10, dtype)
    if grid:  # whole coordinates: ties, equal boxes, boxes without area
        references, gt = references.round(), gt.round()
    match = match_boxes(references.to(device), gt.to(device), positive_iou=0.5, negative_iou=0.2, force_best=force_best)
    if num_references:
        expected = reference.match_boxes(references, gt, 0.5, 0.2, force_best)
        assert all(torch.equal(ours.cpu(), other) for ours, other in zip(match, expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("force_best", [False, True])
def test_equals_torchvision(dtype, force_best):
    generator = torch.Generator().manual_seed(1)
    references, gt = random_boxes(5000, generator, dtype=dtype), random_boxes(40, generator, dtype=dtype)
    thresholds = {**THRESHOLDS, "force_best": force_best}
    match = match_boxes(references, gt, **thresholds)
    for ours, theirs in zip(match, matched_by_torchvision(references, gt, thresholds), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("per_image", [False, True])
def test_images_are_independent_and_padding_is_left_out(device, per_image):
    generator = torch.Generator().manual_seed(2)
    references = random_boxes(3 * 700, generator).view(3, 700, 4)
    gt, valid = random_boxes(15, generator).view(3, 5, 4), torch.rand(3, 5, generator=generator) < 0.6
    given_references = references if per_image else references[0]
    match = match_boxes(given_references.to(device), gt.to(device), valid.to(device), **THRESHOLDS)
    for image in range(3):
        own = references[image if per_image else 0]
        single = match_boxes(own, gt[image][valid[image]], **THRESHOLDS)
        assert torch.equal(match.labels[image].cpu(), single.labels)
        assert torch.equal(match.iou[image].cpu(), single.iou)
        index = valid[image].nonzero().squeeze(1)[single.gt_index]
        assert torch.equal(match.gt_index[image].cpu(), torch.where(single.iou > 0, index, 0))


def test_strided_and_half_boxes():
    generator = torch.Generator().manual_seed(3)
    references, gt = random_boxes(400, generator).half(), random_boxes(6, generator).bfloat16()
    expected = reference.match_boxes(references.float(), gt.float(), 0.7, 0.3, True)
    strided = references.t().contiguous().t()
    assert torch.equal(match_boxes(strided, gt, **THRESHOLDS).labels, expected[0])
    assert torch.equal(match_boxes(references[::2], gt, **THRESHOLDS).iou, expected[2][::2])


def test_passes_the_checks_of_torch():
    generator = torch.Generator().manual_seed(4)
    for count, dtype in ((10, torch.float32), (300, torch.float64), (0, torch.float32)):
        boxes, gt = random_boxes(count, generator, dtype=dtype), random_boxes(6, generator, dtype=dtype).view(2, 3, 4)
        arguments = (boxes, gt, torch.ones(2, 3, dtype=torch.bool), 0.7, 0.3, True)
        torch.library.opcheck(torch.ops.maskray.match_boxes.default, arguments)


def test_compiles_whole():
    generator = torch.Generator().manual_seed(5)
    references, gt = random_boxes(300, generator), random_boxes(4, generator)
    compiled = torch.compile(lambda r, g: match_boxes(r, g, **THRESHOLDS), fullgraph=True, backend="aot_eager")
    for ours, plain in zip(compiled(references, gt), match_boxes(references, gt, **THRESHOLDS), strict=True):
        assert torch.equal(ours, plain)


REFERENCES, VALID = torch.zeros(3, 4), torch.ones(2, dtype=torch.bool)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, r"references: expected .*, got \(3, 5\)", (torch.zeros(3, 5), GT, VALID)),
        (ValueError, r"gt_boxes: expected .*, got \(2, 3\)", (REFERENCES, GT[:, :3], VALID)),
        (ValueError, "references: .* does not fit gt_boxes", (REFERENCES[None], GT, VALID)),
        (ValueError, "references: .* does not fit gt_boxes", (REFERENCES[None], GT.expand(2, 2, 4), None)),
        (ValueError, r"gt_valid: expected \(2,\), got \(1,\)", (REFERENCES, GT, VALID[:1])),
        (ValueError, "gt_boxes: on meta, references on cpu", (REFERENCES, GT.to("meta"), VALID)),
        (TypeError, "gt_boxes: expected a floating dtype, got torch.int64", (REFERENCES, GT.long(), VALID)),
        (TypeError, "gt_valid: expected bool, got torch.int64", (REFERENCES, GT, VALID.long())),
    ],
)
def test_a_wrong_argument_is_named(error, message, arguments):
    with pytest.raises(error, match=message):
        match_boxes(*arguments, **THRESHOLDS)


def test_a_wrong_threshold_is_named():
    with pytest.raises(ValueError, match=r"positive_iou: expected 0\.\.1, got nan"):
        match_boxes(REFERENCES, GT, positive_iou=math.nan, negative_iou=0.3, force_best=False)
