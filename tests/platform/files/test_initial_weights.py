"""Weights of every kind to start from, opened: names, label map, and what of them a model with other classes takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import resnet18
from torchvision.models.detection import MaskRCNN, MaskRCNN_ResNet50_FPN_Weights, maskrcnn_resnet50_fpn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FrozenBatchNorm2d

from maskray.model.build_model import build_model
from maskray.model.coco_categories import NAMES
from maskray.model.config import Category, LabelMap
from maskray.model.torchvision_names import PIXEL_MEAN
from maskray.model.transfer import transfer
from maskray.model.weights import cached_file
from maskray.platform.files.foreign_weights import read_foreign_file
from maskray.platform.files.initial_weights import open_source
from maskray.platform.files.model_folder import write_model_folder

MINE = LabelMap(
    categories=tuple(Category(id=number, name=name) for number, name in enumerate(("rider", "Dog", "sled")))
)
CITYSCAPES = LabelMap(
    categories=tuple(
        Category(id=24 + number, name=name)
        for number, name in enumerate(("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"))
    )
)


def mark_rows(state: dict[str, Tensor], num_rows: int) -> None:
    """Row k of all that is per class is filled with k."""
    for name, size in (("roi_heads.box_predictor.cls_score", 1), ("roi_heads.box_predictor.bbox_pred", 4),
                       ("roi_heads.mask_predictor.mask_fcn_logits", 1)):  # fmt: skip
        for kind in ("weight", "bias"):
            for row in range(num_rows):
                state[f"{name}.{kind}"][row * size : (row + 1) * size] = row


def narrow_torchvision(num_rows: int) -> dict[str, Tensor]:
    """A Mask R-CNN of torchvision on ResNet-18, with COCO's 91 rows or others, background first."""
    torch.manual_seed(0)
    stages = {f"layer{number}": str(number - 1) for number in (1, 2, 3, 4)}
    model = MaskRCNN(
        BackboneWithFPN(resnet18(norm_layer=FrozenBatchNorm2d), stages, [64, 128, 256, 512], 8),
        box_head=TwoMLPHead(8 * 49, 16),
        box_predictor=FastRCNNPredictor(16, num_rows),
        mask_head=MaskRCNNHeads(8, (8,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(8, 8, num_rows),
    )
    state = dict(model.state_dict())
    mark_rows(state, num_rows)
    return state


def start(source_name: str, labels: LabelMap) -> tuple[Any, Any, Any]:
    source = open_source(source_name)
    assert source.model is not None
    assert source.input is not None
    torch.manual_seed(1)
    model = build_model(source.model, source.input, labels.num_classes)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return transfer(model, source.input, labels, source, {}), model.state_dict(), before


def assert_rows(state: dict[str, Tensor], before: dict[str, Tensor], labels: LabelMap, marks: dict[str, int]) -> None:
    """Every class of `marks` has the rows of that mark, every other one those that it was built with."""
    for name, size in (("roi_heads.box_head.classifier", 1), ("roi_heads.box_head.deltas", 4),
                       ("roi_heads.mask_head.predictor", 1)):  # fmt: skip
        for kind in ("weight", "bias"):
            for index, label in enumerate(labels.names):
                rows = slice(index * size, (index + 1) * size)
                found = state[f"{name}.{kind}"][rows]
                if label in marks:
                    assert torch.equal(found, torch.full_like(found, marks[label])), (name, label)
                else:
                    assert torch.equal(found, before[f"{name}.{kind}"][rows]), (name, label)


@pytest.mark.parametrize(
    ("num_rows", "row_of"),
    [(91, {name: number for number, name in NAMES.items()}),
     (81, {name: place + 1 for place, name in enumerate(NAMES.values())})],
)  # fmt: skip
def test_a_model_of_torchvision_starts_one_of_other_classes(
    num_rows: int, row_of: dict[str, int], tmp_path: Path
) -> None:
    """COCO's 91 entries with background and gaps, and its 80 classes; rows keep their bits."""
    torch.save(narrow_torchvision(num_rows), tmp_path / "coco.pth")
    foreign = read_foreign_file(tmp_path / "coco.pth", "torchvision")
    folder = write_model_folder(tmp_path / "imported", foreign.model, foreign.spec)
    taken, state, before = start(str(folder), MINE)
    assert taken.classes == {"rider": None, "Dog": "dog", "sled": None}
    assert_rows(state, before, MINE, {"Dog": row_of["dog"]})
    taken, state, before = start(str(folder), CITYSCAPES)
    assert [name for name, other in taken.classes.items() if other is None] == ["rider"]
    assert_rows(state, before, CITYSCAPES, {name: row_of[name] for name in CITYSCAPES.names if name != "rider"})
    assert taken.left_classes == num_rows - 1 - 7


def test_a_bare_file_of_torchvision_gives_what_is_free_of_classes(tmp_path: Path) -> None:
    """Nobody has told what its 91 rows mean."""
    torch.save(narrow_torchvision(91), tmp_path / "coco.pth")
    source = open_source(str(tmp_path / "coco.pth"))
    assert source.labels is None
    assert source.input is not None
    assert source.input.pixel_mean == pytest.approx(PIXEL_MEAN)
    taken, state, before = start(str(tmp_path / "coco.pth"), MINE)
    assert taken.classes == {}
    assert_rows(state, before, MINE, {})
    name = "roi_heads.box_head.fc1.weight"
    assert torch.equal(state[name], source.tensors[name])


def test_the_published_detector_of_torchvision_brings_cocos_categories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its file is there, names and shapes are known; then it is taken from torchvision's own folder."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    early = open_source("torchvision:maskrcnn_resnet50_fpn", names_only=True)
    assert early.labels is not None
    assert early.labels.num_classes == 90
    assert all(tensor.is_meta for tensor in early.tensors.values())
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ValueError, match=r"put the file maskrcnn_resnet50_fpn_coco-bf2d0c1e\.pth into"):
        open_source("torchvision:maskrcnn_resnet50_fpn")


@pytest.mark.slow
def test_the_file_in_torchvisions_folder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(torch.hub, "HASH_REGEX", torch.hub.re.compile("(?!)"))  # random weights have no known hash
    state = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    mark_rows(state, 91)
    file = cached_file(MaskRCNN_ResNet50_FPN_Weights.DEFAULT)
    file.parent.mkdir()
    torch.save(state, file)
    taken, found, before = start("torchvision:maskrcnn_resnet50_fpn", MINE)
    assert taken.classes["Dog"] == "dog"
    assert_rows(found, before, MINE, {"Dog": 18})
    early = open_source("torchvision:maskrcnn_resnet50_fpn", names_only=True)
    assert early.model is not None
    assert early.model.backbone.norm_eps == 0.0


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"])
def test_other_detectors_of_torchvision_are_known(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    source = open_source(f"torchvision:{name}", names_only=True)
    assert source.labels is not None
    assert source.labels.names[0] == "person"
    assert len(source.labels.categories[0].keypoints) == (17 if "keypoint" in name else 0)
    assert source.model is not None
    assert source.model.backbone.norm == ("batch_norm" if name.endswith("_v2") else "frozen_batch_norm")


def test_wrapped_and_plain_networks_are_known(tmp_path: Path) -> None:
    network = resnet18(weights=None).state_dict()
    torch.save({f"module.{name}": tensor for name, tensor in network.items()}, tmp_path / "wrapped.pth")
    save_file(network, tmp_path / "plain.safetensors")
    for name in ("wrapped.pth", "plain.safetensors"):
        source = open_source(str(tmp_path / name))
        assert torch.equal(source.tensors["backbone.resnet.stem.conv1.conv.weight"], network["conv1.weight"])
    early = open_source(str(tmp_path / "plain.safetensors"), names_only=True)
    assert {name: tensor.shape for name, tensor in early.tensors.items()} == {
        name: tensor.shape for name, tensor in source.tensors.items()
    }


def test_files_that_are_none_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    (tmp_path / "empty").mkdir()
    torch.save(dict.fromkeys(["proposal_generator.a", "b"], torch.zeros(1)), tmp_path / "odd.pth")
    for name, message in (
        ("cut.safetensors", "not a readable safetensors file"),
        ("empty", "no such weights"),
        ("none.pth", "no such weights"),
        ("odd.pth", "2 of 2 tensors are of no model that maskray has"),
    ):
        for names_only in (False, True):
            with pytest.raises(ValueError, match=message) as caught:
                open_source(str(tmp_path / name), names_only)
            assert name in str(caught.value)
            assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="torchvision:nothing: torchvision has no weights of this network"):
        open_source("torchvision:nothing")
