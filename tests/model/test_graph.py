"""The model as one graph of fixed shapes finds exactly what detect finds, and folding norms changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from maskray.model.build_model import build_model
from maskray.model.config import InputConfig, ModelConfig
from maskray.model.graph import DetectionGraph, fold_norms, nms_of_groups, peaks_of_maps
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.presets import merge, torchvision_preset
from maskray.model.structures import Batch

SMALL: dict[str, Any] = {
    "backbone": {"name": "resnet18", "stem_channels": 16, "res2_channels": 16},
    "inference": {"score_threshold": 0.02, "detections_per_image": 20},
    "mask_head": {"channels": 16},
}
PYRAMID = {"backbone": {"fpn_channels": 32}, "box_head": {"hidden_channels": 32}}
MODELS: dict[str, dict[str, Any]] = {
    "pyramid": PYRAMID,
    "torchvision": merge(torchvision_preset(), PYRAMID),
    "keypoints": PYRAMID
    | {"masks": False, "keypoints": True, "keypoint_head": {"channels": 16, "num_convs": 2, "num_keypoints": 5}},
    "c4": {"backbone": {"features": "c4"}},
    "dc5, group norm": {
        "backbone": {"features": "dc5", "norm": "group_norm", "freeze_stages": 0},
        "box_head": {"hidden_channels": 32},
    },
    "softmax masks, one box for all classes": PYRAMID
    | {"mask_head": {"output": "softmax"}, "box_head": {"class_agnostic": True, "hidden_channels": 32}},
    "own backbone": PYRAMID | {"rpn": {"own_backbone": True}},
}


def small_model(keys: dict[str, Any]) -> MaskRCNN:
    """A model whose predictors tell boxes apart, with statistics in its norms."""
    torch.manual_seed(0)
    model = build_model(ModelConfig.model_validate(merge(SMALL, keys)), InputConfig(), num_classes=4)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(3.0, 5.0)
        elif name.endswith("running_mean"):
            tensor.normal_(std=0.1)
        elif name.endswith("classifier.weight"):
            tensor.normal_(std=0.3)
        elif name.endswith(("objectness.weight", "deltas.weight", "predictor.weight")):
            tensor.normal_(std=0.05)
    return model.eval()


def make_image(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An image of noise in the upper left of 96 x 128 pixels."""
    image = torch.zeros(3, 96, 128)
    image[:, :height, :width] = torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(1))
    return image, torch.tensor([height, width])


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_the_graph_finds_what_the_model_finds(name: str) -> None:
    model = small_model(MODELS[name])
    graph = DetectionGraph(model, 96, 128)
    for image, size in (make_image(96, 128), make_image(61, 77)):
        found = dict(zip(graph.output_names, graph(image, size), strict=True))
        expected = model.detect(Batch(image[None], size[None], torch.tensor([1]), size[None]))
        assert len(expected.scores) == 20
        for key, tensor in found.items():
            # The compiled graph sums in another order: 1e-5 of a value, 1e-4 pixels of a box.
            torch.testing.assert_close(tensor, getattr(expected, key), rtol=1e-5, atol=1e-4, msg=key)
    assert ("masks" in found, "keypoints" in found) == (model.config.masks, model.config.keypoints)


@torch.no_grad()
def test_an_image_without_detections() -> None:
    graph = DetectionGraph(small_model(PYRAMID | {"keypoints": True}), 96, 128)
    shapes = [tuple(output.shape) for output in graph(*make_image(0, 0))]
    assert shapes == [(0, 4), (0,), (0,), (0, 28, 28), (0, 17, 3)]


@torch.no_grad()
def test_folded_norms_leave_the_maps_as_they_are() -> None:
    model = small_model(PYRAMID)
    images = torch.randn(1, 3, 64, 64)
    before = model.backbone(images)
    names = {name for name, _ in model.named_buffers()}
    fold_norms(model)
    for folded, kept in zip(model.backbone(images), before, strict=True):
        torch.testing.assert_close(folded, kept)
    gone = names - {name for name, _ in model.named_buffers()}
    assert {name.rsplit(".", 1)[-1] for name in gone} == {"weight", "bias", "running_mean", "running_var"}
    assert isinstance(model.backbone.resnet.stem.conv1.norm, nn.Identity)


def test_the_model_itself_is_not_changed() -> None:
    model = small_model(PYRAMID)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    DetectionGraph(model, 64, 64)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_groups_suppress_within_themselves_alone() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [0, 0, 10, 10]]).expand(2, 4, 4)
    scores = torch.tensor([[0.5, 0.9, 0.1, -torch.inf], [0.9, 0.5, -torch.inf, 0.95]])
    assert nms_of_groups(boxes, scores, 0.5).tolist() == [[False, True, True, False], [False, False, False, True]]


def test_operators_keep_their_promises() -> None:
    boxes = torch.rand(2, 5, 2).repeat(1, 1, 2) + torch.tensor([0.0, 0, 1, 1])
    torch.library.opcheck(nms_of_groups, (boxes, torch.rand(2, 5), 0.3))
    torch.library.opcheck(peaks_of_maps, (torch.randn(3, 2, 8, 8), torch.tensor([[5, 9], [1, 1], [30, 4]])))


@pytest.mark.parametrize(
    ("keys", "size", "message"),
    [
        ({"roi_op": {"name": "roi_warp"}}, (64, 64), "model.roi_op.name is roi_warp"),
        ({"roi_op": {"reduction": "max"}}, (64, 64), "model.roi_op.reduction is max"),
        ({"inference": {"nms": {"name": "soft"}}}, (64, 64), "model.inference.nms.name is soft: .* hard NMS alone"),
        ({}, (64, 70), "width 70 is not a positive multiple of 32"),
        ({}, (0, 64), "height 0 is not a positive multiple of 32"),
    ],
)
def test_what_cannot_be_a_graph_is_named(keys: dict[str, Any], size: tuple[int, int], message: str) -> None:
    model = build_model(ModelConfig.model_validate(merge(merge(SMALL, PYRAMID), keys)), InputConfig(), 4)
    with pytest.raises(ValueError, match=message):
        DetectionGraph(model, *size)
