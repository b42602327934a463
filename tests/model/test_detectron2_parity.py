"""Small random models of detectron2, imported, find on photographs what detectron2 found with the same weights.

Three are files of the model zoo's layout; the others have weights made here, of which detectron2_reference.py asked it.

Ours compute in float64, so that every processor finds the same. detectron2 computed in float32: what is tolerated is
the rounding of the references, which in a random network decides over the last of a hundred detections.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
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

SHARED = Path(os.environ.get("MASKRAY_SHARED", Path(__file__).resolve().parents[2].parent / "shared")) / "data"
FOLDER = SHARED / "detectron2-parity"
PHOTOGRAPHS = SHARED / "coco-sample"
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


@dataclass(frozen=True)
class Rounding:
    """How far the float32 of a reference is from float64, measured (in brackets), and some more."""

    box_pixels: float
    score: float
    share_found: float
    lowest_mask_iou: float
    share_of_good_masks: float  # with an IoU of 0.99


# Weights as training begins, whose first layers turn a bit into 0.03 pixels; nothing is left of that with GAINS.
OF_FILES = Rounding(0.05, 1e-3, 0.99, 0.9, 0.95)  # (0.030, 3.9e-4, 298 of 300, 0.936)
OF_MADE_HERE = Rounding(1e-3, 2e-5, 1.0, 0.995, 1.0)  # (2e-4, 7e-6, all, 0.9992)

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no reference models at {FOLDER}")


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
class Answer:
    """What the imported model says of a photograph, and what it should."""

    features: list[Tensor]
    proposals: Proposals
    found: ImageDetections
    expected: dict[str, Any]
    wanted: Tensor  # rows of the expected detections that were found
    rows: Tensor  # and where
    rounding: Rounding


@pytest.fixture(scope="module", params=[*IN_FILES, *MADE_HERE])
def answers(request: pytest.FixtureRequest, module_in_float64: None) -> list[Answer]:
    if request.param in IN_FILES:
        expected = json.loads((FOLDER / f"{request.param}.expected.json").read_text())
        state = load_arrays((FOLDER / f"{request.param}.pkl").read_bytes())["model"]
    else:
        expected = json.loads((GOLDEN / f"{request.param}.expected.json").read_text())
        state = random_state(expected["shapes"], expected["pixel_std"])
    imported = read_detectron2(state, shorter_edge=320, longer_edge_max=533)
    assert imported.input.channel_order == expected["input_format"].lower()
    assert imported.input.pixel_mean == tuple(expected["pixel_mean"])
    assert imported.input.pixel_std == tuple(expected["pixel_std"])
    assert imported.model.backbone.stride_in_1x1 == expected["stride_in_1x1"]
    model = build_imported(imported).double()
    rounding = OF_FILES if request.param in IN_FILES else OF_MADE_HERE
    found = []
    for name, values in expected["photographs"].items():
        batch = read_batch(name, values["resized_height_width"])
        with torch.no_grad():
            features = model.features(batch)
            proposals = model.rpn.propose(model.rpn(features), batch.image_sizes)
            detections = model.roi_heads.detect(features, proposals, batch.image_sizes)
        original = to_original(detections, batch, 0)
        found.append(Answer(features, proposals, original, values, *match(values["detections"], original), rounding))
    return found


def read_batch(name: str, size: list[int]) -> Batch:
    image = Image.open(next(PHOTOGRAPHS.rglob(name))).convert("RGB")
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


def differences(answers: list[Answer], name: str, key: str) -> Tensor:
    """Absolute differences of a field of the detections of all photographs."""
    parts = []
    for answer in answers:
        wanted = torch.tensor([item[key] for item in answer.expected["detections"]])[answer.wanted]
        parts.append((getattr(answer.found, name)[answer.rows] - wanted).abs())
    return torch.cat(parts)


def test_features_agree(answers: list[Answer]) -> None:
    for answer in answers:
        assert len(answer.features) == len(answer.expected["features"])
        for feature, reference in zip(answer.features, answer.expected["features"].values()):
            assert list(feature.shape) == reference["shape"]
            # Deviations are about 1; the rounding of the references is 4e-6 of them.
            assert float(feature.mean()) == pytest.approx(reference["mean"], abs=1e-5)
            assert float(feature.std()) == pytest.approx(reference["std"], rel=1e-5)


def test_proposals_agree(answers: list[Answer]) -> None:
    for answer in answers:
        reference = answer.expected["proposals"]
        assert int(answer.proposals.valid.sum()) == reference["count"]
        first = torch.tensor(reference["first_ten_boxes_resized_pixels"], dtype=torch.float64)
        pixels = answer.rounding.box_pixels
        torch.testing.assert_close(answer.proposals.boxes[0, :10], first, atol=pixels, rtol=0)


def test_every_detection_agrees(answers: list[Answer]) -> None:
    rounding = answers[0].rounding
    expected = sum(len(answer.expected["detections"]) for answer in answers)
    assert sum(len(answer.rows) for answer in answers) >= rounding.share_found * expected
    for answer in answers:
        assert len(answer.found.scores) == len(answer.expected["detections"])
        assert len(answer.rows.unique()) == len(answer.rows)  # each answers for one; classes are equal
    assert float(differences(answers, "boxes", "box").max()) <= rounding.box_pixels
    assert float(differences(answers, "scores", "score").max()) <= rounding.score


def test_every_mask_agrees(answers: list[Answer]) -> None:
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
    assert overlap.min() >= answers[0].rounding.lowest_mask_iou  # of small masks a pixel is some hundredths
    assert (overlap >= 0.99).mean() >= answers[0].rounding.share_of_good_masks


def decode(masks: Sequence[dict[str, Any] | None] | None, rows: Tensor) -> Any:
    assert masks is not None
    return np.stack([coco_mask.decode(masks[row]) for row in rows.tolist()]).astype(bool)


def test_every_keypoint_agrees(answers: list[Answer]) -> None:
    if answers[0].found.keypoints is None:
        assert "keypoints" not in answers[0].expected["detections"][0]
        return
    difference = differences(answers, "keypoints", "keypoints")
    # Of 5100 peaks three have an equal elsewhere but for rounding.
    assert float((difference[..., :2].amax(dim=2) <= 0.05).double().mean()) >= 0.999
    assert float(difference[..., 2].max()) <= 0.01  # logits; 0.0026 was met
