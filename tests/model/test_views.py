"""Test-time augmentation beside a plain definition of it: a view after the other, a box after the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms

from maskray.model.build_model import build_model
from maskray.model.config import InputConfig, ModelConfig
from maskray.model.heads.keypoint import decode_keypoints
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch, Detections
from maskray.model.views import Views, detect_in_views

SIZE = (72, 100)  # height and width of the image
SCALES = ((64, 89), (96, 133), (128, 178))
ORDER = [0, 2, 1]  # a nose, and two eyes that change places
ORDERS = torch.tensor([ORDER] * 4)


@pytest.fixture(scope="module")
def model() -> MaskRCNN:
    """Random, in float64: what is close to each other there is so by chance alone."""
    config = ModelConfig.model_validate(
        {
            "backbone": {"name": "resnet18", "norm": "group_norm", "freeze_stages": 0, "fpn_channels": 16},
            "rpn": {"pre_nms_top_n_test": 60, "post_nms_top_n_test": 30},
            "box_head": {"hidden_channels": 32},
            "mask_head": {"channels": 16, "num_convs": 1},
            "keypoints": True,
            "keypoint_head": {"num_keypoints": 3, "channels": 16, "num_convs": 1},
            "inference": {"score_threshold": 0.1, "detections_per_image": 40},
        }
    )
    torch.manual_seed(3)
    made = build_model(config, InputConfig(), 4).eval().double()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.ndim > 1 and "backbone" not in name:
                drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(drawn * (2 / parameter[0].numel()) ** 0.5)
    return made


@pytest.fixture
def image() -> Tensor:
    coarse = torch.randint(0, 256, (1, 3, 9, 12), generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse.double(), SIZE, mode="nearest")


def view(image: Tensor, size: tuple[int, int], flipped: bool) -> Batch:
    pixels = F.interpolate(image, size, mode="bilinear", antialias=True)
    sizes = torch.tensor([size]), torch.tensor([SIZE])
    turned = pixels.flip(-1) if flipped else pixels
    return Batch(turned, sizes[0], torch.tensor([1]), sizes[1], flipped=torch.tensor([flipped]))


def pair(image: Tensor, size: tuple[int, int]) -> Views:
    """A size, as it is and mirrored, in one batch."""
    one, other = (view(image, size, flipped) for flipped in (False, True))
    names = ("images", "image_sizes", "image_ids", "original_sizes", "flipped")
    return Views(Batch(**{name: torch.cat([getattr(one, name), getattr(other, name)]) for name in names}))


def as_seen(box: list[float], size: tuple[int, int], flipped: bool, back: bool) -> list[float]:
    """A box of the image in a view, or back."""
    y, x = (size[0] / SIZE[0], size[1] / SIZE[1])
    x0, y0, x1, y1 = box if back else (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
    if flipped:
        x0, x1 = size[1] - x1, size[1] - x0
    if not back:
        return [x0, y0, x1, y1]
    return [max(0, x0 / x), max(0, y0 / y), min(SIZE[1], x1 / x), min(SIZE[0], y1 / y)]


def plainly(model: MaskRCNN, image: Tensor, seen: list[tuple[tuple[int, int], bool]]) -> Detections:
    """What the docstring of the module says, in loops."""
    heads, inference = model.roi_heads, model.roi_heads.inference
    rows = []
    heads.inference = inference.model_copy(update={"nms_iou": 1.0, "detections_per_image": 10_000})
    for size, flipped in seen:  # with such thresholds NMS leaves all boxes
        found = model.detect(view(image, size, flipped), "float32")
        for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True):
            rows.append((score, label, as_seen(box, size, flipped, back=True)))
    heads.inference = inference
    boxes, scores = torch.tensor([row[2] for row in rows]), torch.tensor([row[0] for row in rows])
    labels = torch.tensor([row[1] for row in rows])
    kept = []
    for label in range(4):
        (of_class,) = torch.nonzero(labels == label, as_tuple=True)
        kept += of_class[nms(boxes[of_class], scores[of_class], inference.nms_iou)].tolist()
    kept = sorted(kept, key=lambda row: -scores[row])[: inference.detections_per_image]
    masks, maps = [], []
    features = [model.features(view(image, *of)) for of in seen]
    for row in kept:
        of_mask, of_map = [], []
        for (size, flipped), levels in zip(seen, features, strict=True):
            place = torch.tensor([as_seen(boxes[row].tolist(), size, flipped, back=False)]), torch.tensor([0])
            mask = heads.mask_head(heads.pool_for_masks(levels, *place))[0, labels[row]].sigmoid()
            heat = heads.keypoint_head(heads.keypoint_pooler(levels, *place))[0]
            of_mask.append(mask.flip(-1) if flipped else mask)
            of_map.append(torch.stack([heat[other].flip(-1) for other in ORDER]) if flipped else heat)
        masks.append(torch.stack(of_mask).mean(dim=0))
        maps.append(torch.stack(of_map).mean(dim=0))
    keypoints = decode_keypoints(torch.stack(maps), boxes[kept], heads.keypoint_config.score)
    return Detections(boxes[kept], scores[kept], labels[kept], torch.zeros(len(kept)), torch.stack(masks), keypoints)


def assert_equal(found: Detections, expected: Detections) -> None:
    assert found.classes.tolist() == expected.classes.tolist()
    for name in ("boxes", "scores", "masks", "keypoints"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("together", "most_held"), [(True, 10**6), (False, 0), (False, 30_000)])
@torch.no_grad()
def test_views_give_what_the_plain_definition_gives(
    model: MaskRCNN, image: Tensor, together: bool, most_held: int
) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        seen = [(size, flipped) for size in SCALES for flipped in (False, True)]
        expected = plainly(model, image, seen)
        assert len(expected.boxes) == 40
        assert len(set(expected.classes.tolist())) > 1
        groups = [pair(image, size) for size in SCALES] if together else [Views(view(image, *of)) for of in seen]
        assert_equal(detect_in_views(model, groups, "float32", ORDERS, most_held), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64")
def test_one_view_is_no_augmentation(model: MaskRCNN, image: Tensor) -> None:
    batch = view(image, SIZE, flipped=False)
    assert_equal(detect_in_views(model, [Views(batch)], "float32"), model.detect(batch, "float32"))


@pytest.mark.usefixtures("float64")
def test_a_mirror_image_has_mirrored_detections(model: MaskRCNN, image: Tensor) -> None:
    found = detect_in_views(model, [pair(image, size) for size in SCALES[:2]], "float32", ORDERS)
    other = detect_in_views(model, [pair(image.flip(-1), size) for size in SCALES[:2]], "float32", ORDERS)
    assert other.masks is not None
    assert other.keypoints is not None
    x0, y0, x1, y1 = other.boxes.unbind(dim=1)
    boxes = torch.stack([SIZE[1] - x1, y0, SIZE[1] - x0, y1], dim=1)
    keypoints = other.keypoints[:, ORDER]
    torch.testing.assert_close(found.boxes, boxes, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.scores, other.scores, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.masks, other.masks.flip(-1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.keypoints[..., 2], keypoints[..., 2], rtol=1e-5, atol=1e-5)


def test_nothing_found_is_an_empty_answer(model: MaskRCNN, image: Tensor) -> None:
    heads, inference = model.roi_heads, model.roi_heads.inference
    heads.inference = inference.model_copy(update={"score_threshold": 1.0})
    try:
        found = detect_in_views(model, [pair(image, SCALES[0])], "float32", ORDERS)
    finally:
        heads.inference = inference
    assert (found.boxes.shape, found.scores.shape) == ((0, 4), (0,))
    assert found.masks.shape[0] == found.keypoints.shape[0] == 0


def test_views_that_cannot_be_looked_at_are_told(model: MaskRCNN, image: Tensor) -> None:
    with pytest.raises(ValueError, match="without views"):
        detect_in_views(model, [])
    with pytest.raises(ValueError, match="keypoint_orders"):
        detect_in_views(model, [pair(image, SCALES[0])], "float32")
    model.train()
    try:
        with pytest.raises(ValueError, match="eval mode"):
            detect_in_views(model, [pair(image, SCALES[0])], "float32", ORDERS)
    finally:
        model.eval()
