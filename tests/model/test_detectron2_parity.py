"""Small random models of detectron2, imported, find on images what detectron2 found with the same weights.

Three are files of the model zoo's layout; the others have weights made here, of which detectron2_reference.py asked it.

Rounding decides here: a random network turns one bit of its first layer into 0.03 px. So channels stay in the order
that the weights have, frozen batch norm is computed by itself as detectron2 does it, and there are two threads, on
which oneDNN adds up otherwise than on one. Then every detection is the same.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor

from maskray.model.array_pickle import load_arrays
from maskray.model.detections import ImageDetections, to_original
from maskray.model.detectron2_names import read_detectron2
from maskray.model.imported import build_imported
from maskray.model.rpn import Proposals
from maskray.model.structures import Batch

GOLDEN = Path(__file__).parents[1] / "golden" / "detectron2"
IN_FILES = ("mask_r50_fpn", "mask_r50_c4", "keypoint_r50_fpn")
MADE_HERE = ("mask_r50_dc5", "mask_x101_32x8d_fpn", "boxes_r50_fpn", "boxes_r101_c4")

# Deviation of what a layer makes of unit inputs: dozens of boxes survive, and their scores are far from ties.
GAINS = {
    "fpn_lateral": 0.7,
    "fpn_output": 0.7,
    "objectness_logits": 2.0,
    "anchor_deltas": 0.4,
    "cls_score": 5.0,
    "bbox_pred": 1.0,
    "predictor": 3.0,
}
VARIANCE_OF_BYTES = 3600.0  # after the stem, where pixels are not divided by their deviation
pytestmark = pytest.mark.slow


def is_weight(name: str) -> bool:
    """Whether a tensor of detectron2 is not a constant of its configuration."""
    return not name.startswith("pixel_") and "cell_anchors" not in name


def random_state(shapes: Mapping[str, Sequence[int]], pixel_std: Sequence[float]) -> dict[str, Tensor]:
    """Tensors of these names and shapes, of NumPy's legacy generator, whose stream stays the same for ever."""
    state = {}
    for name, shape in shapes.items():
        random = np.random.RandomState(zlib.crc32(name.encode()))
        if name.endswith("running_var"):
            scale = VARIANCE_OF_BYTES if ".stem." in name and pixel_std[0] == 1 else 1.0
            values = scale * random.uniform(0.8, 1.2, shape)
        elif name.endswith("norm.weight"):
            values = random.uniform(0.05, 0.15, shape) if "conv3" in name else random.uniform(0.8, 1.2, shape)
        elif len(shape) == 1:
            values = 0.1 * random.standard_normal(shape)
        else:
            gain = next((gain for part, gain in GAINS.items() if part in name), math.sqrt(2))
            values = random.standard_normal(shape) * gain / math.sqrt(math.prod(shape[1:]))
            values -= values.mean(axis=tuple(range(1, len(shape))), keepdims=True)  # else the inputs' mean decides
        state[name] = torch.from_numpy(np.asarray(values, dtype=np.float32))
    return state


@dataclass
class Prediction:
    """What the imported model says of an image, and what it should."""

    features: list[Tensor]
    proposals: Proposals
    found: ImageDetections
    expected: dict[str, Any]
    wanted: Tensor  # rows of the expected detections that were found
    rows: Tensor  # and where


@pytest.fixture(scope="module")
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=[*IN_FILES, *MADE_HERE])
def answers(request: pytest.FixtureRequest, two_threads: None, shared: Callable[[str], Path]) -> list[Prediction]:
    folder, images = shared("data/detectron2-parity"), shared("data/coco-sample")
    if request.param in IN_FILES:
        expected = json.loads((folder / f"{request.param}.expected.json").read_text())
        state = load_arrays((folder / f"{request.param}.pkl").read_bytes())["model"]
    else:
        expected = json.loads((GOLDEN / f"{request.param}.expected.json").read_text())
        state = random_state(expected["shapes"], expected["pixel_std"])
    imported = read_detectron2(state, shorter_edge=320, longer_edge_max=533)
    assert imported.input.channel_order == expected["input_format"].lower()
    assert imported.input.pixel_mean == tuple(expected["pixel_mean"])
    assert imported.input.pixel_std == tuple(expected["pixel_std"])
    assert imported.model.backbone.stride_in_1x1 == expected["stride_in_1x1"]
    model = build_imported(imported)
    found = []
    for name, values in expected["photographs"].items():
        batch = read_batch(next(images.rglob(name)), values["resized_height_width"])
        with torch.no_grad():
            features = model.features(batch)
            proposals = model.rpn.propose(model.rpn(features), batch.image_sizes)
            detections = model.roi_heads.detect(features, proposals, batch.image_sizes)
        original = to_original(detections, batch, 0)
        found.append(Prediction(features, proposals, original, values, *match(values["detections"], original)))
    return found


def read_batch(path: Path, size: list[int]) -> Batch:
    image = Image.open(path).convert("RGB")
    resized = np.array(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return Batch(
        images=torch.from_numpy(resized).permute(2, 0, 1)[None],
        image_sizes=torch.tensor([size]),
        image_ids=torch.tensor([0]),
        original_sizes=torch.tensor([[image.height, image.width]]),
    )


def match(expected: list[dict[str, Any]], found: ImageDetections) -> tuple[Tensor, Tensor]:
    """Of the expected detections that have one: their rows, and the rows found of the same class and nearest box."""
    boxes = torch.tensor([item["box"] for item in expected])
    classes = torch.tensor([item["class"] for item in expected])
    distance = (boxes[:, None] - found.boxes).abs().amax(dim=2)
    distance = distance.masked_fill(classes[:, None] != found.classes, torch.inf)
    nearest, rows = distance.min(dim=1)
    wanted = (nearest <= 1).nonzero().squeeze(1)
    return wanted, rows[wanted]


def differences(answers: list[Prediction], name: str, key: str) -> Tensor:
    """Absolute differences of a field of the detections of all images."""
    parts = []
    for answer in answers:
        wanted = torch.tensor([item[key] for item in answer.expected["detections"]])[answer.wanted]
        parts.append((getattr(answer.found, name)[answer.rows] - wanted).abs())
    return torch.cat(parts)


def test_features_agree(answers: list[Prediction]) -> None:
    for answer in answers:
        assert len(answer.features) == len(answer.expected["features"])
        for feature, reference in zip(answer.features, answer.expected["features"].values()):
            assert list(feature.shape) == reference["shape"]
            # The references were written in float32, summed in another order.
            assert float(feature.double().mean()) == pytest.approx(reference["mean"], abs=1e-5)
            assert float(feature.double().std()) == pytest.approx(reference["std"], rel=1e-5)


def test_proposals_agree(answers: list[Prediction]) -> None:
    for answer in answers:
        reference = answer.expected["proposals"]
        assert int(answer.proposals.valid.sum()) == reference["count"]
        first = torch.tensor(reference["first_ten_boxes_resized_pixels"])
        # The references were written in float32: 1e-6 of features is up to 0.01 pixels of a box.
        torch.testing.assert_close(answer.proposals.boxes[0, :10], first, atol=0.01, rtol=0)


def test_every_detection_agrees(answers: list[Prediction]) -> None:
    for answer in answers:
        assert len(answer.found.scores) == len(answer.rows) == len(answer.expected["detections"])
        assert len(answer.rows.unique()) == len(answer.rows)  # each answers for one; classes are equal
    assert float(differences(answers, "boxes", "box").max()) <= 0.01
    assert float(differences(answers, "scores", "score").max()) <= 1e-4


def test_every_mask_agrees(answers: list[Prediction]) -> None:
    if answers[0].found.masks is None:
        assert "mask" not in answers[0].expected["detections"][0]
        return
    overlaps = []
    for answer in answers:
        kept = ["mask" in answer.expected["detections"][row] for row in answer.wanted.tolist()]
        wanted = decode([item.get("mask") for item in answer.expected["detections"]], answer.wanted[kept])
        found = decode(answer.found.masks, answer.rows[kept])
        union = (found | wanted).sum(axis=(1, 2))
        overlaps.append(np.where(union > 0, (found & wanted).sum(axis=(1, 2)) / np.maximum(union, 1), 1.0))
    overlap = np.concatenate(overlaps)
    assert overlap.min() >= 0.99
    assert (overlap >= 0.999).mean() >= 0.95


def decode(masks: Sequence[dict[str, Any] | None] | None, rows: Tensor) -> Any:
    assert masks is not None
    return np.stack([coco_mask.decode(masks[row]) for row in rows.tolist()]).astype(bool)


def test_every_keypoint_agrees(answers: list[Prediction]) -> None:
    if answers[0].found.keypoints is None:
        assert "keypoints" not in answers[0].expected["detections"][0]
        return
    difference = differences(answers, "keypoints", "keypoints")
    assert float(difference[..., :2].max()) <= 0.05
    assert float(difference[..., 2].max()) <= 1e-3
