"""Soft NMS among the detections: the paper's definition by hand and written plainly, and hard NMS as it was before."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torchvision.ops import nms

from maskray.model.build_model import build_model
from maskray.model.config import InferenceConfig, InputConfig, ModelConfig
from maskray.model.detections import select_detections
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch

# B is the upper half of A: IoU 50 / 100 = 1/2. C is as large as A and half in it: 50 / 150 = 1/3. B and C only touch.
A, B, C = [0.0, 0, 10, 10], [0.0, 0, 10, 5], [0.0, 5, 10, 15]
BOXES = torch.tensor([A, B, C])[:, None, :]
SCORES = torch.tensor([[0.9], [0.8], [0.66]])
ONE_IMAGE = torch.zeros(3, dtype=torch.int64)


def config(name: str = "soft", **keys: Any) -> InferenceConfig:
    nms_keys = {key: keys.pop(key) for key in ("method", "sigma", "least_score") if key in keys}
    return InferenceConfig.model_validate({"nms": {"name": name, **nms_keys}, **keys})


@pytest.mark.parametrize(
    ("keys", "boxes", "scores"),
    [
        # Above 0.4 is B alone: 0.8 x (1 - 1/2). C comes second, and lowers no one.
        ({"nms_iou": 0.4}, [A, C, B], [0.9, 0.66, 0.4]),
        # Above 0.3 are both: C has 0.66 x (1 - 1/3).
        ({"nms_iou": 0.3}, [A, C, B], [0.9, 0.44, 0.4]),
        ({"method": "gaussian"}, [A, C, B], [0.9, 0.66 * math.exp(-(1 / 9) / 0.5), 0.8 * math.exp(-(1 / 4) / 0.5)]),
        ({"method": "gaussian", "sigma": 0.1}, [A, C, B], [0.9, 0.66 * math.exp(-10 / 9), 0.8 * math.exp(-2.5)]),
        # What ends at 0.42 or below goes; what began at 0.7 or below is not there at all.
        ({"nms_iou": 0.3, "least_score": 0.42}, [A, C], [0.9, 0.44]),
        ({"nms_iou": 0.3, "score_threshold": 0.7}, [A, B], [0.9, 0.4]),
        # The two best after NMS; before it they were A and B.
        ({"nms_iou": 0.3, "detections_per_image": 2}, [A, C], [0.9, 0.44]),
        ({"name": "hard", "nms_iou": 0.4}, [A, C], [0.9, 0.66]),
    ],
)
def test_three_boxes_by_hand(keys: dict[str, Any], boxes: list[list[float]], scores: list[float]) -> None:
    found = select_detections(SCORES, BOXES, ONE_IMAGE, config(**keys))
    assert found.boxes.tolist() == boxes
    assert found.scores.tolist() == pytest.approx(scores, rel=1e-6)  # float32


def test_classes_and_images_lower_only_their_own() -> None:
    # The same three boxes: A of class 0 in image 0; B of class 1; C of class 0 in image 1.
    scores = torch.tensor([[0.9, 0.0], [0.0, 0.8], [0.66, 0.0]])
    found = select_detections(scores, BOXES, torch.tensor([0, 0, 1]), config(nms_iou=0.0))
    assert found.boxes.tolist() == [A, B, C]
    # Products of two float32 factors.
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.66], rel=1e-6)
    assert (found.classes.tolist(), found.image_index.tolist()) == ([0, 1, 0], [0, 0, 1])


def iou(one: Tensor, other: Tensor) -> float:
    width, height = (torch.minimum(one[2:], other[2:]) - torch.maximum(one[:2], other[:2])).clamp(min=0).tolist()
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def soft_nms_of_the_paper(boxes: Tensor, scores: Tensor, settings: InferenceConfig) -> list[tuple[float, int]]:
    """Figure 2 of Bodla et al. 2017: take the best M out of B, then lower each that is left by f(iou(M, b))."""
    left, taken = dict(enumerate(scores.tolist())), []
    while left:
        best = max(left, key=lambda i: left[i])
        taken.append((left.pop(best), best))
        for i in left:
            overlap = iou(boxes[best], boxes[i])
            if settings.nms.method == "gaussian":
                left[i] *= math.exp(-(overlap**2) / settings.nms.sigma)
            elif overlap > settings.nms_iou:
                left[i] *= 1 - overlap
    return [(score, i) for score, i in taken if score > settings.nms.least_score]


@pytest.mark.parametrize("keys", [{"nms_iou": 0.3}, {"method": "gaussian", "sigma": 0.3}])
def test_equals_the_definition_within_image_and_class(keys: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(3)
    corner = 20 * torch.rand(60, 3, 2, generator=generator, dtype=torch.float64)
    boxes = torch.cat([corner, corner + 3 + 9 * torch.rand(60, 3, 2, generator=generator, dtype=torch.float64)], dim=2)
    scores = torch.rand(60, 3, generator=generator, dtype=torch.float64)
    image = torch.randint(0, 2, (60,), generator=generator)
    settings = config(score_threshold=0.3, least_score=0.1, detections_per_image=40, **keys)
    found = select_detections(scores, boxes, image, settings)
    for index in range(2):
        expected = []
        for label in range(3):
            rows = ((image == index) & (scores[:, label] > 0.3)).nonzero()[:, 0]
            kept = soft_nms_of_the_paper(boxes[rows, label], scores[rows, label], settings)
            expected += [(score, boxes[rows[i], label].tolist(), label) for score, i in kept]
        expected = sorted(expected, reverse=True)[:40]
        mine = found.image_index == index
        assert found.boxes[mine].tolist() == [box for _, box, _ in expected]
        assert found.classes[mine].tolist() == [label for _, _, label in expected]
        # Float64; only the order of the products differs.
        assert found.scores[mine].tolist() == pytest.approx([score for score, _, _ in expected], rel=1e-12)


def test_hard_nms_gives_the_very_bits_of_the_boxes_that_stay() -> None:
    generator = torch.Generator().manual_seed(5)
    corner = 20 * torch.rand(80, 2, 2, generator=generator)
    boxes = torch.cat([corner, corner + 3 + 9 * torch.rand(80, 2, 2, generator=generator)], dim=2)
    scores = torch.rand(80, 2, generator=generator)
    assert InferenceConfig().nms.name == "hard"
    found = select_detections(scores, boxes, torch.zeros(80, dtype=torch.int64), InferenceConfig())
    kept = []
    for label in range(2):
        rows = (scores[:, label] > 0.05).nonzero()[:, 0]
        rows = rows[nms(boxes[rows, label], scores[rows, label], 0.5)]
        kept += [(scores[row, label].item(), boxes[row, label].tolist(), label) for row in rows]
    kept = sorted(kept, reverse=True)[:100]
    assert len(kept) > 20
    assert found.scores.tolist() == [score for score, _, _ in kept]
    assert found.boxes.tolist() == [box for _, box, _ in kept]
    assert found.classes.tolist() == [label for _, _, label in kept]


def test_a_model_detects_with_it(tiny_config: ModelConfig, two_images: Batch) -> None:
    models: list[MaskRCNN] = []
    for nms_keys in ({}, {"name": "soft"}):
        inference = {"score_threshold": 0.0, "nms_iou": 0.3} | ({"nms": nms_keys} if nms_keys else {})
        chosen = ModelConfig.model_validate(tiny_config.model_dump() | {"inference": inference})
        assert ModelConfig.model_validate_json(chosen.model_dump_json()) == chosen
        torch.manual_seed(0)
        models.append(build_model(chosen, InputConfig(), 2).eval())
    hard, soft = (model.detect(two_images) for model in models)
    assert len(soft.boxes) > len(hard.boxes) > 0
    assert soft.masks is not None
    assert len(soft.masks) == len(soft.boxes)
    for index in range(2):  # the best of each image is no one's lesser
        assert torch.equal(soft.boxes[soft.image_index == index][0], hard.boxes[hard.image_index == index][0])


def test_a_description_of_before_is_read_as_hard(tiny_config: ModelConfig) -> None:
    tree = json.loads(tiny_config.model_dump_json())
    del tree["inference"]["nms"]
    assert ModelConfig.model_validate(tree) == tiny_config


@pytest.mark.parametrize(
    ("inference", "message"),
    [
        ({"nms": {"name": "softer"}}, "Input tag 'softer' found using 'name' does not match"),
        ({"nms": {"sigma": 1}}, "nms.hard.sigma\n.*Extra inputs are not permitted"),
        ({"nms": {"name": "hard", "sigma": 1}}, "Extra inputs are not permitted"),
        ({"nms": {"name": "soft", "method": "gaussian", "sigma": 0}}, "greater than 0"),
        ({"nms": {"name": "soft", "sigma": 0.4}}, "nms.sigma 0.4 has no effect: inference.nms.method is linear"),
        ({"nms": {"name": "soft", "method": "gaussian"}, "nms_iou": 0.3}, "nms_iou 0.3 has no effect: .* no threshold"),
    ],
)
def test_what_makes_no_sense_is_refused(inference: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        ModelConfig.model_validate({"inference": inference})
    assert len(caught.value.errors()) == 1
