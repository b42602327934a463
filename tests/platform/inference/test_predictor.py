"""Predictor: COCO results in pixels of the original image, the same alone and in company."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pycocotools import mask as rle_masks

from maskray.model.build_model import build_model
from maskray.model.config import (
    BackboneConfig,
    BoxHeadConfig,
    Category,
    InputConfig,
    KeypointHeadConfig,
    LabelMap,
    MaskHeadConfig,
    ModelConfig,
    ModelSpec,
    RPNConfig,
)
from maskray.model.detections import ImageDetections
from maskray.platform.data.batch import single_image
from maskray.platform.data.keypoints import read_keypoints
from maskray.platform.inference.predictor import Predictor
from maskray.platform.job.tta_config import TTAConfig

LABELS = LabelMap(categories=(Category(id=3, name="a"), Category(id=7, name="b"), Category(id=90, name="c")))


def make_predictor(masks: bool = True, keypoints: bool = False, half_pixel: bool = True) -> Predictor:
    """A small random model whose scores differ enough that rounding does not reorder them."""
    config = ModelConfig(
        backbone=BackboneConfig(name="resnet18", norm="group_norm", freeze_stages=0, fpn_channels=16),
        rpn=RPNConfig(pre_nms_top_n_test=60, post_nms_top_n_test=30),
        box_head=BoxHeadConfig(hidden_channels=32),
        masks=masks,
        mask_head=MaskHeadConfig(channels=16, num_convs=1),
        keypoints=keypoints,
        keypoint_head=KeypointHeadConfig(num_keypoints=3, channels=16, num_convs=1, half_pixel=half_pixel),
    )
    spec = ModelSpec(model=config, input=InputConfig(shorter_edge=96, longer_edge_max=160), labels=LABELS)
    torch.manual_seed(3)
    model = build_model(config, spec.input, LABELS.num_classes).eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "backbone" not in name:
                fan_in = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2 / fan_in) ** 0.5)
    return Predictor(model, spec)


def make_images() -> list[np.ndarray]:
    """Two of the same size, one upright, one long, one tiny."""
    random = np.random.default_rng(0)
    sizes = [(120, 160), (160, 120), (120, 160), (60, 200), (24, 30)]
    coarse = [random.integers(0, 256, (6, 8, 3), dtype=np.uint8) for _ in sizes]
    return [np.kron(c, np.ones((-(-h // 6), -(-w // 8), 1), np.uint8))[:h, :w] for c, (h, w) in zip(coarse, sizes)]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def predictor():
    return make_predictor()


def assert_same(left: list[dict], right: list[dict]) -> None:
    """Equal up to rounding; two results whose scores differ by less than rounding may have changed places.

    Convolutions of a batch add in another order than those of one image: 1e-6 of a feature, a hundred times as much of
    what a random network makes of it; boxes are in pixels of images of up to 500.
    """
    assert len(left) == len(right)
    # Batches of another size are convolved by other kernels.
    np.testing.assert_allclose([r["score"] for r in left], [r["score"] for r in right], atol=1e-4)
    rest = list(right)
    for a in left:
        # As above, up to 0.05 pixels of a box.
        same = [
            b for b in rest if b["category_id"] == a["category_id"] and np.allclose(b["bbox"], a["bbox"], atol=0.05)
        ]
        assert same, f"{a} has no counterpart"
        b = min(same, key=lambda b: abs(b["score"] - a["score"]))
        rest.remove(b)
        masks = [rle_masks.decode(r["segmentation"]) for r in (a, b)]
        assert abs(a["score"] - b["score"]) < 1e-4
        assert (masks[0] != masks[1]).sum() <= 2 + 0.02 * masks[1].sum()


def test_a_mixed_batch_gives_what_one_by_one_gives(predictor):
    images = make_images()
    together = predictor.predict(images, range(len(images)))
    alone = [predictor.predict([image], [index])[0] for index, image in enumerate(images)]
    assert sum(len(results) for results in alone) > 20
    for left, right in zip(together, alone, strict=True):
        assert_same(left, right)
    backwards = predictor.predict(images[::-1], range(len(images))[::-1])
    for left, right in zip(backwards[::-1], alone, strict=True):
        assert_same(left, right)


def test_images_that_share_a_batch_get_what_they_get_alone(predictor):
    """As on an accelerator, where images of one padded size are computed together."""
    images, spec = [make_images()[0], make_images()[2]], predictor.spec
    batches = [single_image(image, 0, spec.input, spec.model.backbone.size_divisor) for image in images]
    alone = [predictor.predict([image], [0])[0] for image in images]
    for left, right in zip(predictor._predict_batch(batches, None), alone, strict=True):
        assert_same(left, right)


def test_on_a_cpu_an_image_gets_the_same_bits_in_any_company(predictor):
    images = make_images()[:1] * 2 + make_images()[1:]
    together = predictor.predict(images, [0] * len(images))
    assert together == [predictor.predict([image], [0])[0] for image in images]


def test_results_are_plain_coco_best_first_inside_the_image(predictor):
    image = make_images()[0]
    (results,) = predictor.predict([image], [41])
    assert results
    assert [r["score"] for r in results] == sorted((r["score"] for r in results), reverse=True)
    for result in results:
        assert result["image_id"] == 41
        assert result["category_id"] in (3, 7, 90)
        assert all(type(value) is float for value in [*result["bbox"], result["score"]])
        x, y, width, height = result["bbox"]
        assert min(x, y, width, height) >= 0
        assert x + width <= 160 + 1e-3
        assert y + height <= 120 + 1e-3
        assert result["segmentation"]["size"] == [120, 160]
        assert isinstance(result["segmentation"]["counts"], str)


def test_the_threshold_cuts_the_tail_only(predictor):
    image = make_images()[1]
    (every,) = predictor.predict([image], [1])
    threshold = every[len(every) // 2]["score"]
    (some,) = predictor.predict([image], [1], score_threshold=threshold)
    assert 0 < len(some) < len(every)
    assert [r["score"] for r in some] == [r["score"] for r in every if r["score"] >= threshold]


def test_detections_become_coco_results():
    masks = torch.zeros(2, 4, 5, dtype=torch.uint8)
    masks[0, 1:3, 2:5] = True
    found = ImageDetections(
        boxes=torch.tensor([[2.0, 1.0, 5.0, 3.0], [0.5, 0.0, 1.0, 4.0]]),
        scores=torch.tensor([0.75, 0.5]),
        classes=torch.tensor([2, 0]),
        masks=rle_masks.encode(np.asfortranarray(masks.numpy().transpose(1, 2, 0))),
    )
    results = make_predictor()._to_coco(found, 9)
    assert results[0] | {"segmentation": None} == {
        "image_id": 9,
        "category_id": 90,
        "bbox": [2.0, 1.0, 3.0, 2.0],
        "score": 0.75,
        "segmentation": None,
    }
    assert results[1]["category_id"] == 3
    assert results[1]["bbox"] == [0.5, 0.0, 0.5, 4.0]
    assert rle_masks.decode(results[0]["segmentation"]).tolist() == masks[0].int().tolist()
    assert rle_masks.area(results[1]["segmentation"]) == 0


def test_a_model_without_masks_gives_boxes_only():
    (results,) = make_predictor(masks=False).predict(make_images()[:1], [1])
    assert results
    assert all(set(r) == {"image_id", "category_id", "bbox", "score"} for r in results)


def test_keypoints_are_coco_keypoints_in_pixels_of_the_image():
    image = make_images()[0]
    shifted, plain = (
        make_predictor(keypoints=True, half_pixel=half).predict([image], [1])[0] for half in (True, False)
    )
    assert len(shifted) == len(plain) > 3
    for a, b in zip(shifted, plain):
        assert a["bbox"] == b["bbox"]
        points, others = np.reshape(a["keypoints"], (3, 3)), np.reshape(b["keypoints"], (3, 3))
        np.testing.assert_allclose(points[:, :2] + 0.5, others[:, :2], atol=1e-4)  # of float32 positions up to 200
        assert ((points[:, 2] > 0) & (points[:, 2] <= 1)).all()
        x, y, width, height = a["bbox"]
        # A box narrower than a pixel is decoded as one of a pixel.
        assert (others[:, :2] >= (x - 1e-3, y - 1e-3)).all()
        assert (others[:, :2] <= (x + max(width, 1.7) + 1e-3, y + max(height, 1.7) + 1e-3)).all()
        assert all(type(value) is float for value in a["keypoints"])


def test_keypoints_annotated_come_back_where_they_were():
    predictor = make_predictor(keypoints=True)
    annotation = {"id": 1, "keypoints": [10, 20, 2, 0, 0, 1, 31, 7, 2]}
    read = read_keypoints([annotation], predictor.spec.model.keypoint_head, (1.0, 1.0))
    one = torch.zeros(1)
    found = ImageDetections(torch.zeros(1, 4), one, one.long(), None, torch.from_numpy(read))
    assert predictor._to_coco(found, 1)[0]["keypoints"] == annotation["keypoints"]


def test_nothing_gives_nothing_and_what_is_no_image_is_an_error(predictor):
    assert predictor.predict([], []) == []
    image = make_images()[0]
    for wrong in (image.astype(np.float32), image[..., 0], image[:0], np.dstack([image, image[..., 0]])):
        with pytest.raises(ValueError, match=r"image 5: .* not uint8 \(height, width, 3\)"):
            predictor.predict([wrong], [5])
    with pytest.raises(ValueError, match="1 images, but 2 image ids"):
        predictor.predict([image], [1, 2])


def test_time_augmentation_gives_results_of_the_original_image():
    plain = make_predictor(keypoints=True)
    tta = TTAConfig(scales=(64, 96), longer_edge_max=160)
    augmented = Predictor(plain.model, keypoint_spec(plain.spec, "nose", "left_eye", "right_eye"), tta=tta)
    images = make_images()
    found = augmented.predict(images, range(len(images)), score_threshold=0.2)
    assert all(found)
    for index, (image, results) in enumerate(zip(images, found, strict=True)):
        assert results == sorted(results, key=lambda r: -r["score"])
        assert all(r["score"] >= 0.2 and r["image_id"] == index for r in results)
        for r in results:
            assert r["segmentation"]["size"] == list(image.shape[:2])
            x, y, w, h = r["bbox"]
            assert min(x, y, w, h) >= 0
            assert x + w <= image.shape[1] + 1e-3
            assert y + h <= image.shape[0] + 1e-3
            assert len(r["keypoints"]) == 9
    assert found != plain.predict(images, range(len(images)), score_threshold=0.2)


def test_time_augmentation_needs_keypoints_that_have_mirror_images():
    plain = make_predictor(keypoints=True)
    spec = keypoint_spec(plain.spec, "nose", "left_eye", "ear")
    with pytest.raises(ValueError, match="keypoint left_eye has no counterpart right_eye"):
        Predictor(plain.model, spec, tta=TTAConfig(scales=(64,)))
    Predictor(plain.model, spec, tta=TTAConfig(scales=(64,), flip=False))


def keypoint_spec(spec: ModelSpec, *names: str) -> ModelSpec:
    categories = tuple(Category(id=c.id, name=c.name, keypoints=names) for c in spec.labels.categories)
    return spec.model_copy(update={"labels": LabelMap(categories=categories)})
