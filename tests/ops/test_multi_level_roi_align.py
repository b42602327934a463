"""Multi-level RoIAlign: its definition level by level, torchvision's pooler, gradients, torch's checks, edge cases."""

import math

import pytest
import torch
import torchvision

from maskray.ops import reference
from maskray.ops.roi_align import multi_level_roi_align, roi_align

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
# Of values around 1 against the definition in float64: some ten times the spacing of float64, float32 (whose boxes of
# up to 90 pixels are rounded by 4e-6 of a pixel, and lie where maps change by 4 a cell) and the half types.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}
SCALES = [0.25, 0.125, 0.0625]


def make_pyramid(channels=19, count=14, dtype=torch.float64, side=64, seed=3):
    """Three levels of two images, boxes inside, across and beyond the images, and a level for each."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(int(side * scale), int(side * scale) + 3) for scale in SCALES]
    features = [
        torch.randn(2, channels, *shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes
    ]
    corner = torch.rand(count, 2, generator=generator) * side * 1.3 - side * 0.2
    image = torch.randint(0, 2, (count, 1), generator=generator).float()
    size = torch.rand(count, 2, generator=generator) * side * 0.7 + 0.1
    boxes = torch.cat([image, corner, corner + size], 1)
    levels = torch.randint(0, 3, (count,), generator=generator)
    return features, boxes.double() if dtype == torch.float64 else boxes, levels


def test_a_box_is_pooled_from_its_level_alone():
    features = [torch.full((1, 1, 4, 4), 1.0), torch.full((1, 1, 2, 2), 2.0)]
    box = torch.tensor([0, 2.0, 2.0, 6.0, 6.0])
    pooled = multi_level_roi_align(features, torch.stack([box, box, box]), torch.tensor([1, 0, 1]), 2, [0.5, 0.25])
    assert pooled[:, 0, 0, 0].tolist() == [2, 1, 2]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reduction", ["mean", "max"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "mixed"])
def test_equals_the_definition(device, dtype, reduction, layout):
    features, boxes, levels = make_pyramid(dtype=dtype)
    given = [
        level.to(memory_format=torch.channels_last) if layout == "channels_last" or (layout == "mixed" and i) else level
        for i, level in enumerate(features)
    ]
    for sampling_ratio, aligned in ((0, True), (2, False)):
        arguments = ((5, 3), SCALES, sampling_ratio, aligned, reduction)
        wide = [level.double() for level in features]
        expected = reference.multi_level_roi_align(wide, boxes.double(), levels, *arguments)
        on_device = [level.to(device) for level in given]
        pooled = multi_level_roi_align(on_device, boxes.to(device), levels.to(device), *arguments).cpu()
        assert pooled.dtype == dtype
        torch.testing.assert_close(pooled.double(), expected, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("count", [5, 200])  # few boxes are read patch by patch, many from channels turned around
@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_has_the_bits_of_one_level_after_the_other(count, reduction):
    features, boxes, levels = make_pyramid(channels=70, count=count, dtype=torch.float32)
    features = [level.requires_grad_() for level in features]
    whole = multi_level_roi_align(features, boxes, levels, 7, SCALES, reduction=reduction)
    weights = torch.randn(whole.shape, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad((whole * weights).sum(), features)
    for index, level in enumerate(features):
        chosen = levels == index
        alone = roi_align(level, boxes[chosen], 7, SCALES[index], reduction=reduction)
        assert torch.equal(whole[chosen], alone)
        assert torch.equal(torch.autograd.grad((alone * weights[chosen]).sum(), level)[0], gradients[index])


def test_equals_the_pooler_of_torchvision():
    features, _, _ = make_pyramid(channels=8, side=512)
    boxes = torch.tensor([[10.0, 20, 60, 90], [0, 0, 150, 200], [30, 40, 500, 420], [100, 100, 130, 120]]).double()
    pooler = torchvision.ops.MultiScaleRoIAlign(["0", "1", "2"], 7, 2, canonical_scale=100, canonical_level=3)
    theirs = pooler(dict(zip("012", features, strict=True)), [boxes, boxes[:2]], [(512, 512)] * 2)
    levels = pooler.map_levels([boxes, boxes[:2]])
    assert levels.unique().numel() > 1
    rows = torch.cat([torch.tensor([0, 0, 0, 0, 1, 1]).double()[:, None], torch.cat([boxes, boxes[:2]])], 1)
    ours = multi_level_roi_align(features, rows, levels, 7, pooler.scales, 2, aligned=False)
    # Float64: sums in another order alone.
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_gradient_is_right(device, reduction):
    features, boxes, levels = make_pyramid(channels=2, count=5, side=16)
    inputs = [level.to(device).requires_grad_() for level in features]

    def pool(*maps):
        return multi_level_roi_align(maps, boxes.to(device), levels.to(device), 2, SCALES, reduction=reduction)

    assert torch.autograd.gradcheck(pool, inputs)


@pytest.mark.parametrize("device", DEVICES)
def test_gradient_lies_as_the_features_do(device):
    features, boxes, levels = make_pyramid(channels=40, count=30, dtype=torch.float32)
    plain = [level.clone().to(device).requires_grad_() for level in features]
    turned = [level.to(device).to(memory_format=torch.channels_last).requires_grad_() for level in features]
    gradients = []
    for maps in (plain, turned):
        pooled = multi_level_roi_align(maps, boxes.to(device), levels.to(device), 3, SCALES)
        gradients.append(torch.autograd.grad(pooled.square().sum(), maps))
    for first, second in zip(*gradients, strict=True):
        assert first.is_contiguous()
        assert second.is_contiguous(memory_format=torch.channels_last)
        # Layouts add up in another order, and squares of sums are of the size of 10.
        torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("operator", ["multi_level_roi_align", "multi_level_roi_align_max"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_passes_the_checks_of_torch(operator, layout):
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        features, boxes, levels = make_pyramid(channels=3, count=4, dtype=dtype, side=32)
        given = [level.contiguous(memory_format=layout).requires_grad_() for level in features]
        for count in (4, 0):
            sample = (given, boxes[:count], levels[:count], 2, 3, SCALES, 2, True)
            torch.library.opcheck(getattr(torch.ops.maskray, operator).default, sample)


@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_compiles_whole_with_its_gradient(reduction):
    features, boxes, levels = make_pyramid(channels=3, dtype=torch.float32)
    features = [level.requires_grad_() for level in features]

    def loss(maps, rows, chosen):
        return multi_level_roi_align(maps, rows, chosen, 3, SCALES, reduction=reduction).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(loss(features, boxes, levels), features)
    torch.testing.assert_close(torch.autograd.grad(compiled(features, boxes, levels), features), expected)


def test_result_does_not_depend_on_threads():
    features, boxes, levels = make_pyramid(channels=70, count=60, dtype=torch.float32)
    features = [level.requires_grad_() for level in features]
    results = []
    threads = torch.get_num_threads()
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        pooled = multi_level_roi_align(features, boxes, levels, 7, SCALES)
        results.append((pooled, *torch.autograd.grad(pooled.square().sum(), features)))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for later in results[1:] for a, b in zip(results[0], later, strict=True))


def test_boxes_without_extent_or_number_give_zero_and_no_boxes_give_nothing():
    features, _, _ = make_pyramid(channels=2)
    features = [level.requires_grad_() for level in features]
    rows = [[0.0, 5, 5, 5, 9], [1, math.nan, 0, 4, 4], [0, 0, 0, math.inf, 4], [1, 1e30, 1e30, 2e30, 2e30]]
    for count in (4, 0):
        boxes = torch.tensor(rows)[:count]
        pooled = multi_level_roi_align(features, boxes, torch.tensor([0, 1, 2, 0])[:count], 2, SCALES)
        assert pooled.shape == (count, 2, 2, 2)
        assert not pooled.any()
        gradients = torch.autograd.grad(pooled.sum(), features)
        assert not any(gradient.any() for gradient in gradients)


MAPS = [torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 4, 4)]
BOXES = torch.zeros(2, 5)
LEVELS = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "features: expected a list of at least one level", ([], BOXES, LEVELS, 2, [])),
        (ValueError, "features: expected a list of at least one level", (MAPS[0], BOXES, LEVELS, 2, [1.0])),
        (ValueError, "features: level 1 is", ([MAPS[0], MAPS[1][:1]], BOXES, LEVELS, 2, [1.0, 0.5])),
        (ValueError, "features: level 1 is of another", ([MAPS[0], MAPS[1].double()], BOXES, LEVELS, 2, [1.0, 0.5])),
        (TypeError, "boxes: expected a tensor", (MAPS, [BOXES[:, 1:]], LEVELS, 2, [1.0, 0.5])),
        (ValueError, r"boxes: expected \(K, 5\)", (MAPS, BOXES[:, 1:], LEVELS, 2, [1.0, 0.5])),
        (TypeError, "levels: expected int64, got torch.float32", (MAPS, BOXES, LEVELS.float(), 2, [1.0, 0.5])),
        (ValueError, r"levels: expected \(2,\), got \(1,\)", (MAPS, BOXES, LEVELS[:1], 2, [1.0, 0.5])),
        (ValueError, "levels: row 1 names level 2, features hold 2", (MAPS, BOXES, LEVELS + LEVELS, 2, [1.0, 0.5])),
        (ValueError, "levels: row 0 names level -1", (MAPS, BOXES, LEVELS - 1, 2, [1.0, 0.5])),
        (ValueError, "spatial_scales: expected 2 positive numbers", (MAPS, BOXES, LEVELS, 2, [1.0])),
        (ValueError, "spatial_scales: expected 2 positive numbers", (MAPS, BOXES, LEVELS, 2, [1.0, 0.0])),
        (ValueError, "sampling_ratio: expected 0..256", (MAPS, BOXES, LEVELS, 2, [1.0, 0.5], 257)),
        (ValueError, "reduction: expected", (MAPS, BOXES, LEVELS, 2, [1.0, 0.5], 0, True, "sum")),
    ],
)
def test_a_wrong_argument_is_named(error, message, arguments):
    with pytest.raises(error, match=message):
        multi_level_roi_align(*arguments)
