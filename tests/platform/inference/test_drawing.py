"""Images with detections drawn on them."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as rle_masks

from maskray.model.config import Category, LabelMap
from maskray.platform.inference.drawing import class_color, draw_detections

LABELS = LabelMap(categories=tuple(Category(id=10 * i + 1, name=f"class {i}") for i in range(20)))


def result(
    box: list[float], score: float | None = 0.9, category_id: int = 1, size: tuple[int, int] = (200, 300)
) -> dict:
    mask = np.zeros(size, dtype=np.uint8, order="F")
    x, y, w, h = (int(v) for v in box)
    mask[y : y + h, x : x + w] = 1
    rle = rle_masks.encode(mask)
    found = {"category_id": category_id, "bbox": box, "segmentation": {"size": size, "counts": rle["counts"].decode()}}
    return found if score is None else found | {"score": score}


def test_the_mask_is_tinted_and_all_else_is_left_alone():
    image = np.full((200, 300, 3), 100, dtype=np.uint8)
    drawn = draw_detections(image, [result([100, 80, 60, 50])], LABELS)
    assert drawn.shape == image.shape
    assert (image == 100).all()
    color = np.array(class_color(0))
    inside = drawn[100, 130].astype(float)
    assert np.allclose(inside, 0.55 * 100 + 0.45 * color, atol=1)  # cut to whole numbers
    assert (drawn[80, 130] == color).all()
    assert (drawn[150:, :] == 100).all()
    assert (drawn[:, 200:] == 100).all()


def test_low_scores_are_left_out_and_annotations_without_a_score_are_not():
    image = np.zeros((200, 300, 3), dtype=np.uint8)
    assert (draw_detections(image, [result([100, 80, 60, 50], score=0.3)], LABELS) == 0).all()
    assert draw_detections(image, [result([100, 80, 60, 50], score=0.3)], LABELS, score_threshold=0.2).any()
    assert draw_detections(image, [result([100, 80, 60, 50], score=None)], LABELS).any()


def test_every_kind_of_segmentation_and_none_draws():
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    base = {"category_id": 1, "bbox": [2, 2, 10, 10], "iscrowd": 0}
    runs = {"size": [20, 30], "counts": [100, 100, 400]}
    for segmentation in ([[2, 2, 12, 2, 12, 12]], runs, None):
        assert draw_detections(image, [base | {"segmentation": segmentation}], LABELS).any()


@pytest.mark.parametrize("size", [(1, 1), (12, 500), (500, 12), (40, 40)])
def test_images_of_any_shape_are_drawn(size):
    image = np.zeros((*size, 3), dtype=np.uint8)
    boxes = [[0, 0, size[1], size[0]], [0, 0, 1, 1], [size[1] - 1, size[0] - 1, 1, 1]]
    drawn = draw_detections(image, [result(box, size=size) for box in boxes], LABELS)
    assert drawn.shape == image.shape


def test_a_scale_enlarges_image_and_objects():
    image = np.zeros((100, 150, 3), dtype=np.uint8)
    drawn = draw_detections(image, [result([50, 40, 30, 25], size=(100, 150))], LABELS, scale=3)
    assert drawn.shape == (300, 450, 3)
    assert drawn[150, 180].any()
    assert not drawn[200:].any()


def test_neighbouring_classes_differ_in_colour():
    colors = np.array([class_color(i) for i in range(12)]).astype(float)
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=2) + 1000 * np.eye(12)
    assert distances.min() > 35


def test_a_category_that_the_labels_lack_is_an_error():
    with pytest.raises(ValueError, match="category id 2 is not in the label map"):
        draw_detections(np.zeros((200, 300, 3), np.uint8), [result([1, 1, 5, 5], category_id=2)], LABELS)
