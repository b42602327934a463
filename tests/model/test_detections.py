"""Choice of detections by hand, and their way back to the image."""

from __future__ import annotations

import pytest
import torch
from pycocotools import mask as coco_mask
from torchvision.models.detection.roi_heads import paste_masks_in_image

from maskray.model.config import InferenceConfig
from maskray.model.detections import select_detections, to_original
from maskray.model.structures import Batch, Detections

NO_IMAGE = torch.zeros(0, dtype=torch.int64)


def squares(*corners: float) -> torch.Tensor:
    return torch.tensor([[c, c, c + 10, c + 10] for c in corners], dtype=torch.float32)[:, None, :]


def test_threshold_nms_and_order() -> None:
    scores = torch.tensor([[0.2, 0.9], [0.8, 0.05], [0.7, 0.0], [0.95, 0.1]])
    boxes = squares(0, 40, 41, 0)
    image = torch.tensor([1, 0, 0, 0])
    found = select_detections(scores, boxes, image, InferenceConfig())
    # Row 2 overlaps row 1 in the same class; 0.05 is not above the threshold; image 1 has a box of each class.
    assert found.image_index.tolist() == [0, 0, 0, 1, 1]
    torch.testing.assert_close(found.scores, torch.tensor([0.95, 0.8, 0.1, 0.9, 0.2]))
    assert found.classes.tolist() == [0, 0, 1, 1, 0]


def test_at_most_the_best_of_each_image() -> None:
    torch.manual_seed(0)
    scores = torch.rand(60, 1) * 0.9 + 0.1
    boxes = squares(*[20.0 * i for i in range(60)])
    image = torch.arange(60) % 3
    found = select_detections(scores, boxes, image, InferenceConfig(detections_per_image=7))
    for index in range(3):
        expected = scores[image == index, 0].sort(descending=True).values[:7]
        torch.testing.assert_close(found.scores[found.image_index == index], expected)
    assert found.image_index.tolist() == sorted(found.image_index.tolist())


def test_nothing_above_the_threshold() -> None:
    found = select_detections(torch.zeros(3, 2), squares(0, 1, 2), torch.tensor([0, 0, 1]), InferenceConfig())
    assert found.boxes.shape == (0, 4)
    found = select_detections(torch.zeros(0, 2), torch.zeros(0, 2, 4), NO_IMAGE, InferenceConfig())
    assert found.boxes.shape == (0, 4)


def test_boxes_without_area_or_not_finite_are_no_detections() -> None:
    boxes = torch.tensor([[5.0, 5, 5, 9], [0, 0, float("nan"), 4], [1, 1, 3, 3]])[:, None, :]
    found = select_detections(torch.ones(3, 1), boxes, torch.zeros(3, dtype=torch.int64), InferenceConfig())
    assert found.boxes.tolist() == [[1, 1, 3, 3]]


def image_batch() -> Batch:
    return Batch(
        images=torch.zeros(2, 3, 64, 96, dtype=torch.uint8),
        image_sizes=torch.tensor([[64, 64], [50, 96]]),
        image_ids=torch.tensor([7, 8]),
        original_sizes=torch.tensor([[128, 128], [100, 288]]),
    )


def test_back_to_the_image() -> None:
    detections = Detections(
        boxes=torch.tensor([[0.0, 0, 10, 10], [10, 5, 20, 25], [90, 40, 96, 50]]),
        scores=torch.tensor([0.5, 0.9, 0.8]),
        classes=torch.tensor([2, 1, 0]),
        image_index=torch.tensor([0, 1, 1]),
        masks=torch.ones(3, 28, 28),
    )
    found = to_original(detections, image_batch(), 1)
    torch.testing.assert_close(found.boxes, torch.tensor([[30.0, 10, 60, 50], [270, 80, 288, 100]]))
    assert found.classes.tolist() == [1, 0]
    assert found.masks is not None
    assert [rle["size"] for rle in found.masks] == [[100, 288]] * 2
    expected = torch.zeros(100, 288, dtype=torch.bool)
    expected[10:50, 30:60] = True
    differing = (torch.from_numpy(coco_mask.decode(found.masks[0])) != expected).sum().item()
    assert differing <= 4  # the corners, where the mask fades in both directions
    assert to_original(detections, image_batch(), 0).boxes.tolist() == [[0, 0, 20, 20]]


def test_an_image_without_detections_and_a_model_without_masks() -> None:
    empty = Detections(torch.zeros(0, 4), torch.zeros(0), NO_IMAGE, NO_IMAGE, torch.zeros(0, 28, 28))
    found = to_original(empty, image_batch(), 0)
    assert found.masks == []
    empty.masks = None
    assert to_original(empty, image_batch(), 0).masks is None


def test_an_image_that_is_not_there() -> None:
    empty = Detections(torch.zeros(0, 4), torch.zeros(0), NO_IMAGE, NO_IMAGE)
    with pytest.raises(ValueError, match="index 2 is not in the batch of 2 images"):
        to_original(empty, image_batch(), 2)


def test_small_detections_are_dropped_where_asked() -> None:
    scores = torch.tensor([[0.9], [0.8], [0.7]])
    boxes = torch.tensor([[[0.0, 0, 5, 0.005]], [[20, 20, 20.01, 25]], [[40, 40, 41, 41]]])
    config = InferenceConfig(min_size_pixels=0.0099)
    assert select_detections(scores, boxes, torch.zeros(3, dtype=torch.int64), config).scores.tolist() == [
        pytest.approx(0.8),
        pytest.approx(0.7),
    ]
    assert len(select_detections(scores, boxes, torch.zeros(3, dtype=torch.int64), InferenceConfig()).scores) == 3


def test_torchvision_pasting_is_that_of_torchvision() -> None:
    torch.manual_seed(0)
    masks = torch.nn.functional.interpolate(torch.randn(20, 1, 5, 5), size=(28, 28), mode="bicubic").sigmoid()[:, 0]
    corner = torch.rand(20, 2) * 60
    boxes = torch.cat([corner, corner + torch.rand(20, 2) * 50 + 0.2], dim=1).clamp(max=90)
    size = torch.tensor([[90, 110]])
    batch = Batch(torch.zeros(1, 3, 90, 110), size, torch.tensor([0]), size)
    zeros = torch.zeros(20, dtype=torch.int64)
    detections = Detections(boxes, torch.ones(20), zeros, zeros, masks)
    found = to_original(detections, batch, 0, mask_paste="torchvision").masks
    assert found is not None
    theirs = paste_masks_in_image(masks[:, None], boxes, (90, 110))[:, 0]
    for own, other in zip(found, theirs, strict=True):
        differing = coco_mask.decode(own).astype(bool) != (other >= 0.5).numpy()
        # A pixel may differ where its probability is one half but for float32 rounding.
        assert other.numpy()[differing] == pytest.approx(0.5, abs=1e-5), differing.sum()


def test_keypoints_are_scaled_to_the_image() -> None:
    batch = Batch(torch.zeros(1, 3, 50, 40), torch.tensor([[50, 40]]), torch.tensor([0]), torch.tensor([[100, 120]]))
    zeros = torch.zeros(1, dtype=torch.int64)
    keypoints = torch.tensor([[[10.0, 20.0, 0.7], [0.5, 0.5, 0.1]]])
    detections = Detections(torch.tensor([[0.0, 0, 20, 20]]), torch.ones(1), zeros, zeros, None, keypoints)
    found = to_original(detections, batch, 0).keypoints
    torch.testing.assert_close(found, torch.tensor([[[30.0, 40.0, 0.7], [1.5, 1.0, 0.1]]]))
