"""RoIPool: known values, its definition, torchvision, gradients, torch's own checks, edge cases and errors."""

import math

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from maskray.ops import reference
from maskray.ops.roi_pool import ordered_gradient, roi_pool

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def random_boxes(count, images, extent, generator, dtype=torch.float64):
    """Boxes inside, across and beyond a square map of `extent` pixels."""
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * extent * 1.3 - extent * 0.2
    size = torch.rand(count, 2, generator=generator, dtype=torch.float64) * extent * 0.7
    image = torch.randint(0, images, (count, 1), generator=generator).double()
    return torch.cat([image, corner, corner + size], 1).to(dtype)


def test_hand_computed_bins_share_cells():
    # Columns 1..3 (the end is inclusive) in 2 bins of 1.5 cells: columns 1-2 and 2-3.
    features = torch.arange(25.0).reshape(1, 1, 5, 5).requires_grad_()
    pooled = roi_pool(features, torch.tensor([[0, 1.0, 1.0, 3.0, 3.0]]), 2)
    assert pooled[0, 0].tolist() == [[12, 13], [17, 18]]
    pooled.sum().backward()
    assert features.grad.nonzero()[:, 2:].tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]


def test_halves_round_away_from_zero():
    features = torch.arange(6.0).reshape(1, 1, 1, 6)
    for x0, x1, expected in ((2.5, 2.5, 3.0), (2.4, 2.4, 2.0), (-0.5, 0.5, 1.0)):
        assert roi_pool(features, torch.tensor([[0, x0, 0, x1, 0]]), 1).item() == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_equals_torchvision_forward_and_backward(dtype):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 17, 40, 56, generator=generator).to(dtype).requires_grad_()
    boxes = random_boxes(100, 2, 300, generator, dtype)
    ours = roi_pool(features, boxes, (7, 5), 0.125)
    compared = features if dtype != torch.float16 else features.float()
    theirs = torchvision.ops.roi_pool(compared, boxes.to(compared.dtype), (7, 5), 0.125)
    assert torch.equal(ours.to(theirs.dtype), theirs)
    weights = torch.randint(-3, 4, ours.shape, generator=generator).to(dtype)
    (our_grad,) = torch.autograd.grad((ours * weights).sum(), features)
    (their_grad,) = torch.autograd.grad((theirs * weights.to(theirs.dtype)).sum(), features)
    assert torch.equal(our_grad, their_grad)  # whole numbers: the same in any order


@pytest.mark.parametrize("device", DEVICES)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    pooled=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
@settings(max_examples=40, deadline=None)
def test_any_shape_equals_the_definition_with_its_gradient(device, seed, size, pooled):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    boxes = random_boxes(5, 2, 10, generator)
    weights = torch.randn(5, 3, *pooled, generator=generator, dtype=torch.float64)
    expected = reference.roi_pool(features, boxes, pooled) + 0 * features.sum()  # bins may all be constants
    ours = roi_pool(features.to(device), boxes.to(device), pooled).cpu()
    assert torch.equal(ours, expected)
    grads = [torch.autograd.grad((value * weights).sum(), features)[0] for value in (ours, expected)]
    torch.testing.assert_close(*grads)


def test_layout_of_the_features_does_not_matter():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 5, 9, 8, generator=generator)
    boxes = random_boxes(20, 2, 9, generator, torch.float32)
    expected = roi_pool(features, boxes, 3)
    assert torch.equal(roi_pool(features.to(memory_format=torch.channels_last), boxes, 3), expected)
    assert torch.equal(roi_pool(features.mT.contiguous().mT, boxes, 3), expected)


def test_passes_the_checks_of_torch_and_gradcheck():
    generator = torch.Generator().manual_seed(2)
    boxes = random_boxes(4, 2, 8, generator)
    features = torch.randn(2, 2, 6, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: roi_pool(x, boxes, 2), features)
    for count in (4, 0):
        torch.library.opcheck(torch.ops.maskray.roi_pool.default, (features, boxes[:count], 2, 3, 1.0))
    half = features.detach().bfloat16().requires_grad_()
    torch.library.opcheck(torch.ops.maskray.roi_pool.default, (half, boxes.float(), 2, 3, 0.5))


def test_compiles_whole():
    features, boxes = torch.randn(1, 3, 8, 9), torch.tensor([[0, 1.0, 1.0, 5.0, 6.0]])
    compiled = torch.compile(roi_pool, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(features, boxes, 3), roi_pool(features, boxes, 3))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("box", [[20.0, 20, 30, 30], [math.nan, 0, 3, 3], [0, 0, math.inf, 3], [-1e30, 0, 1e30, 3]])
def test_bins_without_cells_are_exactly_0(device, box):
    features = torch.ones(1, 2, 8, 8, device=device, requires_grad=True)
    pooled = roi_pool(features, [torch.tensor([box], device=device)], 2)
    pooled.sum().backward()
    assert torch.equal(pooled, torch.zeros_like(pooled))
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_minus_infinity_and_nan_are_kept():
    features = torch.full((1, 1, 4, 4), -math.inf)
    features[0, 0, 3, 3] = math.nan
    pooled = roi_pool(features, [torch.tensor([[0.0, 0, 1, 1], [2, 2, 3, 3]])], 1).flatten()
    assert pooled[0] == -math.inf
    assert math.isnan(pooled[1])


def test_a_wrong_argument_is_named():
    features = torch.zeros(2, 3, 8, 8)
    with pytest.raises(ValueError, match="boxes: row 1 names image 2, features hold 2"):
        roi_pool(features, torch.tensor([[0, 0, 0, 1, 1.0], [2, 0, 0, 1, 1]]), 2)
    with pytest.raises(ValueError, match="features: expected"):
        roi_pool(features[0], torch.zeros(1, 5), 2)
    with pytest.raises(ValueError, match="spatial_scale: expected a positive number, got -1"):
        roi_pool(features, torch.zeros(1, 5), 2, -1.0)
    with pytest.raises(ValueError, match="output_size"):
        roi_pool(features, torch.zeros(1, 5), (2, 2, 2))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_ordered_gradient_is_the_gradient(device, dtype):
    torch.manual_seed(0)
    features = torch.randn(2, 3, 9, 11, dtype=dtype, device=device)
    corners = torch.rand(40, 2, 2, device=device) * 12 - 1
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    indexed = torch.cat([torch.arange(40, device=device)[:, None] % 2, boxes], dim=1).to(
        dtype if dtype == torch.float64 else torch.float32
    )
    indexed[3, 2] = float("nan")
    _, argmax = torch.ops.maskray.roi_pool(features, indexed, 4, 3, 1.0)
    grad = torch.randn(40, 3, 4, 3, dtype=dtype, device=device)
    expected = torch.ops.maskray.roi_pool_backward(grad, argmax, indexed, 2, 9, 11)
    found = ordered_gradient(grad, argmax, indexed, 2, 9, 11)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected)
    indexed[:, 0] = float("nan")  # as CUDA gives it: boxes of no image have no gradient
    assert not ordered_gradient(grad, argmax, indexed, 2, 9, 11).any()


@pytest.mark.parametrize("device", DEVICES)
def test_the_gradient_is_there_under_deterministic_algorithms(device):
    features = torch.randn(1, 2, 6, 6, device=device, requires_grad=True)
    box = torch.tensor([[0.0, 0, 0, 5, 5]], device=device)
    gradients = []
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic)
        try:
            gradients += torch.autograd.grad(roi_pool(features, box, 2).sum(), features)
        finally:
            torch.use_deterministic_algorithms(False)
    assert torch.equal(*gradients)
