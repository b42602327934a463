"""RoIAlign: known values, its definition, torchvision, gradients, torch's own checks, edge cases and errors."""

import math

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from maskray.ops import reference
from maskray.ops.roi_align import roi_align

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
# Of values around 1 against the definition in float64: some ten times the spacing of float64, float32 (whose boxes of
# up to 90 pixels are rounded by 4e-6 of a pixel, and lie where maps change by 4 a cell) and the half types.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


def random_boxes(count, images, extent, generator, dtype=torch.float64):
    """Boxes inside, across and beyond a square map of `extent` pixels."""
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * extent * 1.3 - extent * 0.2
    size = torch.rand(count, 2, generator=generator, dtype=torch.float64) * extent * 0.7 + 0.1
    image = torch.randint(0, images, (count, 1), generator=generator).double()
    return torch.cat([image, corner, corner + size], 1).to(dtype)


@pytest.mark.parametrize(("aligned", "first_row"), [(True, [4.5, 5, 5.5, 6]), (False, [7.5, 8, 8.5, 9])])
def test_known_values_of_a_ramp(aligned, first_row):
    features = torch.arange(25.0).reshape(1, 1, 5, 5)
    pooled = roi_align(features, torch.tensor([[0, 1, 1, 3, 3.0]]), 4, aligned=aligned)
    expected = torch.tensor(first_row) + 2.5 * torch.arange(4)[:, None]
    assert torch.equal(pooled[0, 0], expected)


def test_hand_computed_maximum_and_its_gradient():
    # Cells 0..3 in a row, box [0.5, 3.5], one bin, 3 samples at 0.5, 1.5, 2.5 in cell coordinates (aligned).
    features = torch.tensor([0.0, 1.0, 5.0, 2.0]).reshape(1, 1, 1, 4).requires_grad_()
    box = torch.tensor([[0, 0.5, 0.0, 3.5, 1.0]])
    pooled = roi_align(features, box, 1, reduction="max")
    assert pooled.item() == 3.5  # between cells 2 and 3
    pooled.backward()
    assert features.grad.flatten().tolist() == [0, 0, 0.5, 0.5]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reduction", ["mean", "max"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_equals_the_definition(device, dtype, reduction, layout):
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(2, 19, 13, 17, generator=generator).to(dtype)
    boxes = random_boxes(12, 2, 64, generator, torch.float32)
    if layout == "channels_last":
        given = features.contiguous(memory_format=torch.channels_last)
    else:
        given = features.transpose(2, 3).contiguous().transpose(2, 3) if layout == "strided" else features
    for sampling_ratio, aligned in ((0, True), (2, False), (3, True)):
        arguments = ((5, 3), 0.25, sampling_ratio, aligned, reduction)
        expected = reference.roi_align(features.double(), boxes.double(), *arguments)
        pooled = roi_align(given.to(device), boxes.to(device), *arguments).cpu()
        assert pooled.dtype == dtype
        torch.testing.assert_close(pooled.double(), expected, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("sampling_ratio", "aligned"), [(0, True), (0, False), (2, True), (2, False)])
@pytest.mark.parametrize("count", [3, 300])  # few boxes are read patch by patch, many from a map turned around
def test_equals_torchvision_forward_and_backward(dtype, sampling_ratio, aligned, count):
    generator = torch.Generator().manual_seed(count)
    features = torch.randn(2, 37, 40, 56, generator=generator, dtype=dtype, requires_grad=True)
    boxes = random_boxes(count, 2, 300, generator, dtype)
    ours = roi_align(features, boxes, 7, 0.125, sampling_ratio, aligned)
    theirs = torchvision.ops.roi_align(features, boxes, 7, 0.125, sampling_ratio, aligned)
    # The same sum of up to 4 x 36 terms in another order; a cell of the gradient has some twenty times as many.
    tolerance = 1e-13 if dtype == torch.float64 else 2e-6
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)
    weights = torch.randn(ours.shape, generator=generator, dtype=dtype)
    (our_grad,) = torch.autograd.grad((ours * weights).sum(), features)
    (their_grad,) = torch.autograd.grad((theirs * weights).sum(), features)
    # A gradient is the sum of some twenty bins.
    torch.testing.assert_close(our_grad, their_grad, atol=20 * tolerance, rtol=20 * tolerance)


@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    pooled=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.integers(1, 20),
    sampling_ratio=st.integers(0, 3),
    aligned=st.booleans(),
    reduction=st.sampled_from(["mean", "max"]),
)
@settings(max_examples=60, deadline=None)
def test_any_shape_equals_the_definition(seed, size, pooled, channels, sampling_ratio, aligned, reduction):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, channels, *size, generator=generator, dtype=torch.float64)
    boxes = random_boxes(4, 2, 10, generator)
    arguments = (pooled, 1.0, sampling_ratio, aligned, reduction)
    # Float64: sums in another order alone.
    torch.testing.assert_close(
        roi_align(features, boxes, *arguments), reference.roi_align(features, boxes, *arguments), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_gradient_is_right(device, reduction):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 2, 3, 4, generator=generator, dtype=torch.float64)
    boxes = random_boxes(4, 2, 4, generator)
    for sampling_ratio, aligned in ((0, True), (2, False)):
        assert torch.autograd.gradcheck(
            lambda x, b=boxes, r=sampling_ratio, a=aligned: roi_align(x, b.to(device), 2, 1.0, r, a, reduction),
            features.to(device).requires_grad_(),
        )


def test_maximum_has_the_gradient_of_its_definition():
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(2, 21, 11, 9, generator=generator, dtype=torch.float64, requires_grad=True)
    boxes = random_boxes(30, 2, 10, generator)
    weights = torch.randn(30, 21, 3, 3, generator=generator, dtype=torch.float64)
    ours = (roi_align(features, boxes, 3, reduction="max") * weights).sum()
    expected = (reference.roi_align(features, boxes, (3, 3), reduction="max") * weights).sum()
    torch.testing.assert_close(*(torch.autograd.grad(value, features)[0] for value in (ours, expected)))


def test_gradient_does_not_depend_on_threads():
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(2, 70, 20, 20, generator=generator, requires_grad=True)
    boxes = random_boxes(50, 2, 20, generator, torch.float32)
    results = []
    threads = torch.get_num_threads()
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        pooled = roi_align(features, boxes, 7)
        results.append((pooled.detach(), torch.autograd.grad(pooled.square().sum(), features)[0]))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for later in results[1:] for a, b in zip(results[0], later, strict=True))


def samples():
    generator = torch.Generator().manual_seed(4)
    boxes = random_boxes(3, 2, 8, generator, torch.float32)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        features = torch.randn(2, 3, 8, 9, generator=generator).to(dtype).requires_grad_()
        chosen = boxes.double() if dtype == torch.float64 else boxes
        for sampling_ratio, aligned in ((0, True), (2, False)):
            yield features, chosen, 2, 3, 1.0, sampling_ratio, aligned
        yield features, chosen[:0], 2, 3, 1.0, 0, True
        yield features.detach().to(memory_format=torch.channels_last).requires_grad_(), chosen, 2, 2, 0.5, 0, True


@pytest.mark.parametrize("operator", ["roi_align", "roi_align_max"])
def test_passes_the_checks_of_torch(operator):
    for sample in samples():
        torch.library.opcheck(getattr(torch.ops.maskray, operator).default, sample)


@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_compiles_whole_with_its_gradient(reduction):
    generator = torch.Generator().manual_seed(6)
    features = torch.randn(1, 3, 8, 9, generator=generator, requires_grad=True)
    boxes = random_boxes(5, 1, 8, generator, torch.float32)

    def loss(x, b):
        return roi_align(x, b, 3, reduction=reduction).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (expected,) = torch.autograd.grad(loss(features, boxes), features)
    (grad,) = torch.autograd.grad(compiled(features, boxes), features)
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("reduction", ["mean", "max"])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize(
    "box",
    [
        [3.0, 3.0, 3.0, 6.0],
        [4.0, 4.0, 4.0, 4.0],
        [5.0, 5.0, 2.0, 2.0],
        [math.nan, 1.0, 3.0, 3.0],
        [1.0, 1.0, math.inf, 3.0],
        [40.0, 40.0, 50.0, 50.0],
    ],
)
def test_box_without_extent_or_off_the_map_gives_exactly_0(device, reduction, sampling_ratio, box):
    features = torch.ones(1, 3, 8, 8, device=device, requires_grad=True)
    pooled = roi_align(features, [torch.tensor([box], device=device)], 2, 1.0, sampling_ratio, True, reduction)
    pooled.sum().backward()
    assert torch.equal(pooled, torch.zeros_like(pooled))
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_a_box_far_larger_than_the_map_costs_no_more_than_the_map():
    features = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    for size in (1e5, 1e9, 1e20, 1e29):
        box = torch.tensor([[0, -size, -size, size, size]], dtype=torch.float64)
        for reduction in ("mean", "max"):
            pooled = roi_align(features, box, 1, reduction=reduction)
            assert 0 <= pooled.item() <= 1
    # 1000 cells a side, of which 8 + 2 half-faded ones have value 1: samples are one cell apart.
    pooled = roi_align(features, torch.tensor([[0, -496.0, -496.0, 504.0, 504.0]], dtype=torch.float64), 1)
    assert pooled.item() == pytest.approx((10 / 1000) ** 2, rel=0.3)  # the half-faded may be 8 to 10 cells


def test_no_boxes_and_lists_of_boxes():
    features = torch.randn(2, 3, 8, 8, requires_grad=True)
    empty = roi_align(features, torch.zeros(0, 5), (2, 3))
    assert empty.shape == (0, 3, 2, 3)
    empty.sum().backward()
    assert torch.equal(features.grad, torch.zeros_like(features))
    first, second = torch.tensor([[1.0, 1, 4, 4]]), torch.tensor([[2.0, 0, 7, 3], [0.0, 0, 8, 8]])
    rows = torch.tensor([[0, 1.0, 1, 4, 4], [1, 2.0, 0, 7, 3], [1, 0.0, 0, 8, 8]])
    assert torch.equal(roi_align(features, [first, second], 2), roi_align(features, rows, 2))
    assert roi_align(features, [first[:0], first[:0]], 2).shape == (0, 3, 2, 2)


def test_half_features_keep_the_precision_of_float_boxes():
    features = torch.arange(2048.0).reshape(1, 1, 1, 2048).half()
    box = torch.tensor([[0, 1000.3, 0.0, 1004.3, 1.0]])
    assert roi_align(features, box, 1).item() == torch.tensor(1001.8).half().item()


def test_nan_in_the_features_is_seen_in_every_box_that_reads_it():
    features = torch.zeros(1, 1, 8, 8)
    features[0, 0, 2, 2] = math.nan
    boxes = [torch.tensor([[0.0, 0, 4, 4], [5, 5, 8, 8]])]
    for reduction in ("mean", "max"):
        pooled = roi_align(features, boxes, 1, reduction=reduction).flatten()
        assert math.isnan(pooled[0])
        assert pooled[1] == 0


FEATURES = torch.zeros(2, 3, 8, 8)
BOXES = torch.zeros(1, 5)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, r"features: expected \(N, C, H, W\), got \(3, 8, 8\)", (FEATURES[0], BOXES, 2)),
        (TypeError, "features: expected a floating dtype, got torch.int64", (FEATURES.long(), BOXES, 2)),
        (ValueError, r"boxes: expected \(K, 5\) or a list of \(L, 4\), got \(1, 4\)", (FEATURES, BOXES[:, 1:], 2)),
        (ValueError, "boxes: 1 tensors for 2 images", (FEATURES, [BOXES[:, 1:]], 2)),
        (ValueError, r"boxes\[1\]: expected \(L, 4\)", (FEATURES, [BOXES[:, 1:], BOXES], 2)),
        (TypeError, "boxes: expected a floating dtype", (FEATURES, BOXES.long(), 2)),
        (ValueError, "boxes: on meta, features on cpu", (FEATURES, BOXES.to("meta"), 2)),
        (ValueError, "output_size: expected one or two positive numbers, got 0", (FEATURES, BOXES, 0)),
        (ValueError, "spatial_scale: expected a positive number", (FEATURES, BOXES, 2, 0.0)),
        (ValueError, "sampling_ratio: expected 0..256, got -1", (FEATURES, BOXES, 2, 1.0, -1)),
        (ValueError, "reduction: expected 'mean' or 'max', got 'sum'", (FEATURES, BOXES, 2, 1.0, 0, True, "sum")),
        (ValueError, "boxes: row 0 names image 2, features hold 2", (FEATURES, BOXES + 2, 2)),
        (ValueError, "boxes: row 0 names image nan", (FEATURES, BOXES * math.nan, 2)),
    ],
)
def test_a_wrong_argument_is_named(error, message, arguments):
    with pytest.raises(error, match=message):
        roi_align(*arguments)
