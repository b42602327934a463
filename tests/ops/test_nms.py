"""NMS: known values, the O(n^2) definition, torchvision, ties, NaN, torch's own checks and errors."""

import math

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from maskray.ops import reference
from maskray.ops.nms import batched_nms, batched_nms_mask, nms

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def random_boxes(count, generator, extent=100.0, dtype=torch.float32):
    corner = torch.rand(count, 2, generator=generator, dtype=dtype) * extent
    return torch.cat([corner, corner + torch.rand(count, 2, generator=generator, dtype=dtype) * extent * 0.4], 1)


def test_known_values():
    # IoU of the first two: 8 / 12; of the first and the third: 0.
    boxes = torch.tensor([[0.0, 0, 10, 1], [2, 0, 12, 1], [20, 0, 30, 1]])
    scores = torch.tensor([0.5, 0.9, 0.7])
    assert nms(boxes, scores, 0.6).tolist() == [1, 2]
    assert nms(boxes, scores, 0.7).tolist() == [1, 2, 0]
    assert batched_nms(boxes, scores, torch.tensor([0, 1, 0]), 0.1).tolist() == [1, 2, 0]


def test_a_box_stays_at_exactly_the_threshold():
    boxes = torch.tensor([[0.0, 0, 4, 1], [0, 0, 2, 1]])  # IoU 0.5
    assert nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0, 1]
    assert nms(boxes, torch.tensor([0.9, 0.8]), math.nextafter(0.5, 0)).tolist() == [0]


def test_threshold_is_compared_in_double():
    # IoU 0.3 as float32 is 0.300000012, which is above the double 0.3; 0.3 as float32 is not above itself.
    boxes = torch.tensor([[0.0, 0, 10, 1], [0, 0, 3, 1]])
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.3).tolist() == torchvision.ops.nms(boxes, scores, 0.3).tolist() == [0]


def test_equal_scores_keep_the_order_of_the_boxes():
    boxes = torch.tensor([[0.0, 0, 1, 1]]).repeat(5, 1) + 10 * torch.arange(5.0)[:, None]
    assert nms(boxes, torch.ones(5), 0.5).tolist() == [0, 1, 2, 3, 4]
    assert nms(boxes[:1].repeat(5, 1), torch.ones(5), 0.5).tolist() == [0]


@pytest.mark.parametrize("device", DEVICES)
def test_images_are_kept_apart_in_one_call(device):
    generator = torch.Generator().manual_seed(5)
    boxes, scores = random_boxes(200, generator), torch.rand(200, generator=generator)
    classes, images = (
        torch.randint(-3, 3, (200,), generator=generator),
        torch.randint(0, 4, (200,), generator=generator),
    )
    kept = batched_nms(boxes.to(device), scores.to(device), classes.to(device), 0.3, images.to(device)).cpu()
    assert kept.tolist() == sorted(kept.tolist(), key=lambda i: (-scores[i], i))
    for image in range(4):
        chosen = (images == image).nonzero()[:, 0]
        alone = chosen[batched_nms(boxes[chosen], scores[chosen], classes[chosen], 0.3)]
        assert kept[images[kept] == image].tolist() == alone.tolist()


def test_ids_at_the_ends_of_int32_do_not_meet():
    ends = torch.tensor([-(2**31), -1, 0, 1, 2**31 - 1])
    classes, images = (side.flatten() for side in torch.meshgrid(ends, ends, indexing="ij"))
    boxes, scores = torch.tensor([[0.0, 0, 4, 4]]).expand(25, 4), torch.ones(25)
    assert batched_nms(boxes, scores, classes, 0.5, images).tolist() == list(range(25))
    with pytest.raises(ValueError, match="class_ids: expected within int32"):
        batched_nms(boxes, scores, classes + 1, 0.5, images)
    with pytest.raises(ValueError, match=r"image_ids: expected \(25,\), got \(24,\)"):
        batched_nms(boxes, scores, classes, 0.5, images[:24])


@pytest.mark.parametrize("device", DEVICES)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(0, 80),
    classes=st.integers(1, 4),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
    grid=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_definition(device, seed, count, classes, threshold, grid):
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(count, generator, 10)
    scores = torch.rand(count, generator=generator)
    if grid:  # whole coordinates and few scores: equal boxes, boxes without area, ties
        boxes, scores = boxes.round(), (scores * 4).round()
    class_ids = torch.randint(-2, classes, (count,), generator=generator)
    arguments = (boxes.to(device), scores.to(device), class_ids.to(device), threshold)
    kept = batched_nms(*arguments).cpu()
    assert torch.equal(kept, reference.batched_nms(boxes, scores, class_ids, threshold))
    assert kept.dtype == torch.int64
    mask = batched_nms_mask(*arguments).cpu()
    assert mask.shape == (count,)
    assert mask.nonzero().squeeze(1).tolist() == sorted(kept.tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_equals_torchvision(dtype, threshold):
    generator = torch.Generator().manual_seed(1)
    boxes = random_boxes(2000, generator, dtype=dtype)
    scores = torch.rand(2000, generator=generator, dtype=dtype)
    class_ids = torch.randint(0, 6, (2000,), generator=generator)
    assert torch.equal(nms(boxes, scores, threshold), torchvision.ops.nms(boxes, scores, threshold))
    expected = torchvision.ops.batched_nms(boxes.double(), scores.double(), class_ids, threshold)
    assert torch.equal(batched_nms(boxes.double(), scores.double(), class_ids, threshold), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_equals_cpu_in_large_groups():
    generator = torch.Generator().manual_seed(2)
    boxes, scores = random_boxes(5000, generator), torch.rand(5000, generator=generator)
    class_ids = torch.randint(0, 3, (5000,), generator=generator)
    on_gpu = batched_nms(boxes.cuda(), scores.cuda(), class_ids.cuda(), 0.5).cpu()
    assert torch.equal(on_gpu, batched_nms(boxes, scores, class_ids, 0.5))


def test_far_coordinates_keep_their_precision_beside_many_classes():
    # Moving classes apart by the greatest coordinate would round these boxes, 0.001 pixel apart, into one.
    boxes = torch.tensor([[0.0, 0, 0.001, 0.001], [0.001, 0, 0.002, 0.001], [9999, 9999, 10000, 10000]])
    kept = batched_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([90, 90, 0]), 0.5)
    assert kept.tolist() == [0, 1, 2]


def test_nan_is_defined():
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [0, math.nan, 4, 4], [0, 0, 4, 4]])
    scores = torch.tensor([math.nan, 0.5, 0.4, -math.inf])
    # The NaN score ranks as minus infinity and its box is suppressed; the NaN box overlaps nothing.
    assert nms(boxes, scores, 0.5).tolist() == [1, 2]
    assert nms(boxes[:1], scores[:1], 0.5).tolist() == [0]


def test_half_scores_and_boxes():
    generator = torch.Generator().manual_seed(3)
    boxes, scores = random_boxes(50, generator).bfloat16(), torch.rand(50, generator=generator).half()
    class_ids = torch.zeros(50, dtype=torch.int32)
    expected = reference.batched_nms(boxes.float(), scores.float(), class_ids, 0.5)
    assert torch.equal(batched_nms(boxes, scores, class_ids, 0.5), expected)


def test_passes_the_checks_of_torch():
    generator = torch.Generator().manual_seed(4)
    for count, dtype in ((10, torch.float32), (10, torch.float64), (0, torch.float32)):
        boxes = random_boxes(count, generator, dtype=dtype)
        torch.library.opcheck(torch.ops.maskray.nms_keep.default, (boxes, torch.zeros(count, dtype=torch.int64), 0.5))


def test_keep_compiles_whole():
    boxes = random_boxes(30, torch.Generator().manual_seed(5))
    class_ids = torch.zeros(30, dtype=torch.int64)

    def keep(b, c):
        return torch.ops.maskray.nms_keep(b, c, 0.5)

    compiled = torch.compile(keep, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(boxes, class_ids), keep(boxes, class_ids))


BOXES, SCORES, CLASSES = torch.zeros(3, 4), torch.zeros(3), torch.zeros(3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, r"boxes: expected \(N, 4\), got \(3, 5\)", (torch.zeros(3, 5), SCORES, CLASSES, 0.5)),
        (ValueError, r"scores: expected \(3,\), got \(2,\)", (BOXES, SCORES[:2], CLASSES, 0.5)),
        (ValueError, r"class_ids: expected \(3,\), got \(2,\)", (BOXES, SCORES, CLASSES[:2], 0.5)),
        (ValueError, "scores: on meta, boxes on cpu", (BOXES, SCORES.to("meta"), CLASSES, 0.5)),
        (TypeError, "boxes: expected a floating dtype, got torch.int64", (BOXES.long(), SCORES, CLASSES, 0.5)),
        (TypeError, "class_ids: expected an integer dtype, got torch.float32", (BOXES, SCORES, SCORES, 0.5)),
        (ValueError, "iou_threshold: expected 0..1, got 2", (BOXES, SCORES, CLASSES, 2)),
    ],
)
def test_a_wrong_argument_is_named(error, message, arguments):
    with pytest.raises(error, match=message):
        batched_nms(*arguments)
