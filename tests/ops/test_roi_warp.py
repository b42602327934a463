"""RoIWarp: known values, its definition, where it meets RoIPool and RoIAlign, gradients, edge cases and errors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskray.ops import reference
from maskray.ops.roi_align import roi_align
from maskray.ops.roi_pool import roi_pool
from maskray.ops.roi_warp import multi_level_roi_warp, roi_warp, round_to_cells

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
# Of values around 1 against the definition in float64: some ten times the spacing of float64, float32 (whose boxes of
# up to 90 pixels are rounded by 4e-6 of a pixel, and lie where maps change by 4 a cell) and the half types.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


def random_boxes(count, extent, generator, dtype=torch.float64):
    """Boxes of two images inside, across and beyond a square map of `extent` pixels."""
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * extent * 1.3 - extent * 0.2
    size = torch.rand(count, 2, generator=generator, dtype=torch.float64) * extent * 0.7
    image = torch.randint(0, 2, (count, 1), generator=generator).double()
    return torch.cat([image, corner, corner + size], 1).to(dtype)


def test_corners_are_rounded_as_in_roi_pool():
    boxes = torch.tensor([[1, 0.5, 1.5, 2.4, 3.5], [0, -0.5, -0.4, 0.49999997, 2.6], [0, 5.0, 5.0, 2.0, 2.0]])
    expected = [[1, 1, 2, 3, 5], [0, -1, 0, 1, 4], [0, 5, 5, 6, 6]]
    assert round_to_cells(boxes, torch.ones(3)).tolist() == expected


def test_hand_computed_bins_that_are_not_rounded():
    # Cells 1..3 of a ramp in 2 bins of 1.5 cells: edges 0.5, 2, 3.5 in cell positions, 2 samples each 0.75 apart.
    features = torch.arange(5.0).reshape(1, 1, 1, 5).requires_grad_()
    box = torch.tensor([[0, 1.2, 0.0, 2.9, 0.0]])
    pooled = roi_warp(features, box, (1, 2))
    assert pooled.flatten().tolist() == [1.25, 2.75]
    assert roi_warp(features, box, (1, 2), reduction="max").flatten().tolist() == [1.625, 3.125]
    pooled.sum().backward()
    assert features.grad.flatten().tolist() == [0.0625, 0.625, 0.625, 0.625, 0.0625]


def test_bins_of_one_cell_are_those_of_roi_pool():
    features = torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    box = torch.tensor([[0, 1.3, 2.4, 4.2, 4.6]])  # cells 1..4 and 2..5
    for reduction in ("mean", "max"):
        assert torch.equal(roi_warp(features, box, 4, reduction=reduction), roi_pool(features, box, 4))


def test_whole_cells_are_those_of_roi_align():
    features = torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    cells = torch.tensor([[0, 8.0, 4.0, 24.0, 28.0]])  # in pixels of a quarter of a cell: cells 2..6 and 1..7 exclusive
    inclusive = cells - torch.tensor([0, 0, 0, 4.0, 4.0])
    assert torch.equal(roi_warp(features, inclusive, 3, 0.25), roi_align(features, cells, 3, 0.25))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reduction", ["mean", "max"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equals_the_definition(device, dtype, reduction, layout):
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(2, 19, 13, 17, generator=generator).to(dtype)
    boxes = random_boxes(12, 64, generator, torch.float32)
    for sampling_ratio in (0, 2):
        arguments = ((5, 3), 0.25, sampling_ratio, reduction)
        expected = reference.roi_warp(features.double(), boxes.double(), *arguments)
        pooled = roi_warp(features.to(device).contiguous(memory_format=layout), boxes.to(device), *arguments).cpu()
        assert pooled.dtype == dtype
        torch.testing.assert_close(pooled.double(), expected, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    pooled=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    sampling_ratio=st.integers(0, 3),
    reduction=st.sampled_from(["mean", "max"]),
)
@settings(max_examples=40, deadline=None)
def test_any_shape_equals_the_definition_and_its_gradient(seed, size, pooled, sampling_ratio, reduction):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    boxes = random_boxes(4, 10, generator)
    arguments = (pooled, 1.0, sampling_ratio, reduction)
    ours, expected = roi_warp(features, boxes, *arguments), reference.roi_warp(features, boxes, *arguments)
    # Float64: sums in another order alone.
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)
    if sampling_ratio == 1 or reduction == "mean":  # two equal maxima share the gradient in the definition alone
        gradients = [torch.autograd.grad(value.square().sum(), features)[0] for value in (ours, expected)]
        torch.testing.assert_close(*gradients, atol=1e-11, rtol=1e-11)  # sums of up to 100 terms of TOLERANCE


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_gradient_is_that_of_the_samples(device, reduction):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 2, 5, 6, generator=generator, dtype=torch.float64).to(device).requires_grad_()
    boxes = random_boxes(4, 5, generator).to(device)
    assert torch.autograd.gradcheck(lambda x: roi_warp(x, boxes, 2, 1.0, 0, reduction), features)


@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_a_pyramid_gives_what_each_level_gives(reduction):
    generator = torch.Generator().manual_seed(2)
    features = [torch.randn(2, 5, side, side, generator=generator) for side in (32, 16)]
    boxes, levels = random_boxes(20, 120, generator, torch.float32), torch.arange(20) % 2
    whole = multi_level_roi_warp(features, boxes, levels, 3, (0.25, 0.125), reduction=reduction)
    for level, scale in enumerate((0.25, 0.125)):
        alone = roi_warp(features[level], boxes[levels == level], 3, scale, reduction=reduction)
        assert torch.equal(whole[levels == level], alone)
    with pytest.raises(ValueError, match="levels: row 3 names level 2"):
        multi_level_roi_warp(features, boxes, levels.index_fill(0, torch.tensor([3]), 2), 3, (0.25, 0.125))


@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_compiles_whole_with_its_gradient(reduction):
    generator = torch.Generator().manual_seed(6)
    features = torch.randn(2, 3, 8, 9, generator=generator, requires_grad=True)
    boxes = random_boxes(5, 8, generator, torch.float32)

    def loss(x, b):
        return roi_warp(x, b, 3, reduction=reduction).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (expected,) = torch.autograd.grad(loss(features, boxes), features)
    (grad,) = torch.autograd.grad(compiled(features, boxes), features)
    torch.testing.assert_close(grad, expected)


def test_edge_cases():
    features = torch.ones(1, 1, 4, 4, requires_grad=True)
    assert roi_warp(features, torch.zeros(0, 5), 2).shape == (0, 1, 2, 2)
    assert roi_warp(features, [torch.tensor([[2.0, 2, 2, 2]])], 1).item() == 1  # a point is one cell
    strange = [[0, math.nan, 0, 1, 1], [0, 0, 0, math.inf, 1], [0, -math.inf, 0, 1, 1], [0, 1e30, 1e30, 2e30, 2e30]]
    pooled = roi_warp(features, torch.tensor([*strange, [0, 50, 50, 60, 60]]), 2)
    assert not pooled.any()
    assert not torch.autograd.grad(pooled.sum(), features)[0].any()
    poisoned = torch.zeros(1, 1, 8, 8)
    poisoned[0, 0, 2, 2] = math.nan
    pooled = roi_warp(poisoned, [torch.tensor([[0.0, 0, 4, 4], [5, 5, 7, 7]])], 1).flatten()
    assert math.isnan(pooled[0])
    assert pooled[1] == 0


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, r"features: expected \(N, C, H, W\)", (torch.zeros(3, 8, 8), torch.zeros(1, 5), 2)),
        (TypeError, "features: expected a floating dtype", (torch.zeros(1, 3, 8, 8).long(), torch.zeros(1, 5), 2)),
        (ValueError, r"boxes: expected \(K, 5\)", (torch.zeros(1, 3, 8, 8), torch.zeros(1, 4), 2)),
        (ValueError, "boxes: row 0 names image 1", (torch.zeros(1, 3, 8, 8), torch.ones(1, 5), 2)),
        (ValueError, "output_size: expected", (torch.zeros(1, 3, 8, 8), torch.zeros(1, 5), 0)),
        (ValueError, "spatial_scale: expected", (torch.zeros(1, 3, 8, 8), torch.zeros(1, 5), 2, -1.0)),
        (ValueError, "sampling_ratio: expected", (torch.zeros(1, 3, 8, 8), torch.zeros(1, 5), 2, 1.0, -1)),
        (ValueError, "reduction: expected", (torch.zeros(1, 3, 8, 8), torch.zeros(1, 5), 2, 1.0, 0, "sum")),
    ],
)
def test_a_wrong_argument_is_named(error, message, arguments):
    with pytest.raises(error, match=message):
        roi_warp(*arguments)
