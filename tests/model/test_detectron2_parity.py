"""A small random R50-FPN model gives on photographs what detectron2 0.6 computed with the same weights."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from maskray.model.backbone.fpn import STRIDES
from maskray.model.boxes.coding import box_iou
from maskray.model.build import build_model
from maskray.model.config import (
    AnchorConfig,
    BackboneConfig,
    BoxHeadConfig,
    InputConfig,
    MaskHeadConfig,
    ModelConfig,
)
from maskray.model.detections import to_original
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch

SHARED = Path(os.environ.get("MASKRAY_SHARED", Path(__file__).resolve().parents[2].parent / "shared")) / "data"
FOLDER = SHARED / "detectron2-parity"
PHOTOGRAPHS = SHARED / "coco-sample"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no reference models at {FOLDER}")


# What a pickled array is made of; its bytes are text that _codecs.encode turns back (pickle protocol 2).
ARRAY_PARTS = {
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class ArraysOnly(pickle.Unpickler):
    """Refuses to build anything but numpy arrays."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ARRAY_PARTS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not an array")


def rename(name: str) -> str:
    """A name of detectron2's state dict in maskray's."""
    for pattern, replacement in (
        (r"^backbone\.fpn_(lateral|output)(\d)\.", lambda m: f"backbone.{m[1]}.{int(m[2]) - 2}.conv."),
        (r"^backbone\.bottom_up\.(.*?)(conv\d|shortcut)\.weight$", r"backbone.resnet.\1\2.conv.weight"),
        (r"^backbone\.bottom_up\.", "backbone.resnet."),
        (r"^proposal_generator\.rpn_head\.", "rpn.head."),
        (r"objectness_logits", "objectness"),
        (r"anchor_deltas", "deltas"),
        (r"rpn\.head\.conv\.", "rpn.head.convs.0."),
        (r"box_predictor\.cls_score", "box_head.classifier"),
        (r"box_predictor\.bbox_pred", "box_head.deltas"),
        (r"mask_fcn(\d)", lambda m: f"convs.{2 * (int(m[1]) - 1)}"),
    ):
        name = re.sub(pattern, replacement, name)
    return name


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return json.loads((FOLDER / "mask_r50_fpn.expected.json").read_text())


@pytest.fixture(scope="module")
def model() -> MaskRCNN:
    config = ModelConfig(
        backbone=BackboneConfig(stem_channels=16, res2_channels=8, fpn_channels=32, stride_in_1x1=True),
        anchors=AnchorConfig(offset=0.0),
        box_head=BoxHeadConfig(hidden_channels=64),
        mask_head=MaskHeadConfig(channels=32),
    )
    # The reference takes BGR pixels: the statistics and the first convolution are turned round instead.
    input_config = InputConfig(
        shorter_edge=320, longer_edge_max=533, pixel_mean=(123.675, 116.28, 103.53), pixel_std=(1.0, 1.0, 1.0)
    )
    model = build_model(config, input_config, num_classes=8)
    arrays = ArraysOnly(io.BytesIO((FOLDER / "mask_r50_fpn.pkl").read_bytes())).load()["model"]
    state = {rename(name): torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    first = "backbone.resnet.stem.conv1.conv.weight"
    state[first] = state[first].flip(1)
    ignored = {name for name in state if name.startswith(("rpn.anchor", "pixel_"))}
    model.load_state_dict({name: tensor for name, tensor in state.items() if name not in ignored})
    return model.eval()


def read_batch(name: str, size: list[int]) -> Batch:
    path = next(PHOTOGRAPHS.rglob(name))
    image = Image.open(path).convert("RGB")
    resized = np.array(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return Batch(
        images=torch.from_numpy(resized).permute(2, 0, 1)[None],
        image_sizes=torch.tensor([size]),
        image_ids=torch.tensor([0]),
        original_sizes=torch.tensor([[image.height, image.width]]),
    )


def each(expected: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list(expected["photographs"].items())


def test_features_agree(model: MaskRCNN, expected: dict[str, Any]) -> None:
    for name, values in each(expected):
        with torch.no_grad():
            features = model.features(read_batch(name, values["resized_height_width"]))
        assert len(features) == len(STRIDES)
        for level, feature in enumerate(features, start=2):
            reference = values["features"][f"p{level}"]
            assert list(feature.shape) == reference["shape"]
            assert float(feature.mean()) == pytest.approx(reference["mean"], abs=1e-4)
            assert float(feature.std()) == pytest.approx(reference["std"], rel=1e-4)


def test_proposals_agree(model: MaskRCNN, expected: dict[str, Any]) -> None:
    for name, values in each(expected):
        batch = read_batch(name, values["resized_height_width"])
        with torch.no_grad():
            proposals = model.rpn.propose(model.rpn(model.features(batch)), batch.image_sizes)
        reference = values["proposals"]
        assert int(proposals.valid.sum()) == reference["count"]
        first = torch.tensor(reference["first_ten_boxes_resized_pixels"])
        torch.testing.assert_close(proposals.boxes[0, :10], first, atol=0.01, rtol=0)


def test_every_detection_agrees(model: MaskRCNN, expected: dict[str, Any]) -> None:
    for name, values in each(expected):
        batch = read_batch(name, values["resized_height_width"])
        found = to_original(model.detect(batch), batch, 0)
        reference = values["detections"]
        assert len(found.scores) == len(reference)
        scores = torch.tensor([item["score"] for item in reference])
        torch.testing.assert_close(found.scores, scores, atol=5e-4, rtol=0)
        # Equal scores may stand in either order: each reference is looked for by class and box.
        boxes = torch.tensor([item["box"] for item in reference])
        classes = torch.tensor([item["class"] for item in reference])
        overlap = box_iou(boxes, found.boxes) * (classes[:, None] == found.classes)
        best, index = overlap.max(dim=1)
        assert sorted(index.tolist()) == list(range(len(reference)))
        assert float(best.min()) > 0.998
        assert found.masks is not None
        masks = np.stack([coco_mask.decode(found.masks[i]) for i in index.tolist()]).astype(bool)
        wanted = np.stack([coco_mask.decode(item["mask"]) for item in reference]).astype(bool)
        # The random network leaves many pixels at almost exactly one half, which may fall either way.
        differing, area = (masks != wanted).sum(axis=(1, 2)), wanted.sum(axis=(1, 2))
        assert (differing <= np.maximum(4, 0.03 * area)).all()
        assert differing.sum() <= 0.002 * area.sum()
