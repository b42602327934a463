"""Models handed to torchvision: it takes every tensor, finds the same objects, and what it cannot be is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from maskray.model.build_model import build_model
from maskray.model.config import InputConfig, ModelConfig
from maskray.model.imported import build_imported
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.presets import merge, torchvision_preset
from maskray.model.structures import Batch
from maskray.model.torchvision_export import TorchvisionModel, to_torchvision
from maskray.model.torchvision_names import read_torchvision

INPUT = InputConfig(shorter_edge=128, longer_edge_max=192, resize="bilinear")
R18 = {"backbone": {"name": "resnet18"}}
V2 = {
    "backbone": {"name": "resnet50", "norm": "batch_norm", "fpn_norm": "batch_norm"},
    "rpn": {"num_convs": 2},
    "box_head": {"num_convs": 4, "norm": "batch_norm", "num_fcs": 1},
    "mask_head": {"norm": "batch_norm"},
}


def build(keys: dict[str, Any], num_classes: int = 3) -> MaskRCNN:
    """A model as torchvision computes, with statistics of norms and predictors that tell boxes apart."""
    torch.manual_seed(0)
    model = build_model(ModelConfig.model_validate(merge(torchvision_preset(), keys)), INPUT, num_classes)
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_mean", "norm.bias")):
            tensor.normal_(std=0.1)
        elif name.endswith(("running_var", "norm.weight")):
            tensor.uniform_(0.5, 1.0)
        elif name.endswith("classifier.weight"):
            tensor.normal_(std=0.2)
        elif name.endswith(
            ("box_head.deltas.weight", "predictor.weight", "objectness.weight", "rpn.head.deltas.weight")
        ):
            tensor.normal_(std=0.05)
    return model.eval()


def built_there(exported: TorchvisionModel) -> nn.Module:
    """The model that the code builds, with every tensor."""
    scope: dict[str, Any] = {}
    exec("\n".join(exported.code), scope)
    model = scope["model"]
    model.load_state_dict(exported.tensors, strict=True)
    return model


@pytest.mark.parametrize(
    "keys",
    [
        {
            "backbone": {"name": "resnet18", "norm_eps": 0.3},
            "anchors": {"sizes": [16, 32, 64, 128, 256], "aspect_ratios": [0.5, 1, 3]},
        },
        R18 | {"masks": False, "keypoints": True, "keypoint_head": {"num_keypoints": 5}},
    ],
    ids=["mask", "keypoint"],
)
@torch.no_grad()
def test_torchvision_finds_the_same(keys: dict[str, Any]) -> None:
    few = {"rpn": {"post_nms_top_n_test": 100}, "inference": {"score_threshold": 0.01, "detections_per_image": 8}}
    model = build(keys | few)
    exported = to_torchvision(model, INPUT)
    assert exported.notes == []
    there = built_there(exported)
    image = torch.randint(0, 256, (3, 128, 160), dtype=torch.uint8)
    (found,) = there([image / 255.0])
    sizes = torch.tensor([[128, 160]])
    own = model.detect(Batch(image[None], sizes, torch.tensor([1]), sizes))
    assert len(own.scores) == 8
    # Float32 on either side: 1e-6 of features is up to 0.01 pixels of a box.
    torch.testing.assert_close(found["boxes"], own.boxes, rtol=0, atol=0.01)
    torch.testing.assert_close(found["scores"], own.scores, rtol=0, atol=1e-4)
    assert torch.equal(found["labels"], own.classes + 1)
    if own.keypoints is not None:
        torch.testing.assert_close(found["keypoints"][..., :2], own.keypoints[..., :2], rtol=0, atol=0.01)


@pytest.mark.parametrize(
    "keys",
    [R18 | {"masks": False}, {"backbone": {"name": "resnet34", "norm": "batch_norm"}}, V2],
    ids=["faster", "batch norm", "v2"],
)
def test_import_undoes_export(keys: dict[str, Any]) -> None:
    model = build(keys)
    imported = read_torchvision(to_torchvision(model, INPUT).tensors, shorter_edge=128, longer_edge_max=192)
    assert imported.model == model.config
    assert imported.num_classes == model.num_classes
    again = build_imported(imported).state_dict()
    assert again.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(again[name], tensor), name


def test_version_2_takes_every_tensor() -> None:
    with torch.device("meta"):
        model = build_model(ModelConfig.model_validate(merge(torchvision_preset(), V2)), INPUT, 3)
        exported = to_torchvision(model, INPUT)
        assert "maskrcnn_resnet50_fpn_v2" in exported.code[1]
        built_there(exported)


def test_background_has_neither_offsets_nor_mask() -> None:
    model = build(R18)
    tensors = to_torchvision(model, INPUT).tensors
    head = model.state_dict()
    scores = tensors["roi_heads.box_predictor.cls_score.weight"]
    assert torch.equal(scores[0], head["roi_heads.box_head.classifier.weight"][3])
    assert torch.equal(scores[1:], head["roi_heads.box_head.classifier.weight"][:3])
    for name, own, rows in (
        ("box_predictor.bbox_pred", "box_head.deltas", 4),
        ("mask_predictor.mask_fcn_logits", "mask_head.predictor", 1),
    ):
        for part in ("weight", "bias"):
            tensor = tensors[f"roi_heads.{name}.{part}"]
            assert not tensor[:rows].any()
            assert torch.equal(tensor[rows:], head[f"roi_heads.{own}.{part}"])


def test_what_is_computed_otherwise_there_is_told() -> None:
    with torch.device("meta"):
        model = build_model(
            ModelConfig.model_validate(R18 | {"rpn": {"post_nms_top_n_train": 500}, "inference": {"nms_iou": 0.4}}),
            InputConfig(),
            7,
        )
    exported = to_torchvision(model, InputConfig(shorter_edge=600, pixel_mean=(127.5, 116.28, 103.53)))
    told = "\n".join(exported.notes)
    for key in ("anchors.rounded", "anchors.offset", "roi_op.aligned", "roi_op.sampling_ratio", "inference.mask_paste"):
        assert key in told
    assert "roi_op.aligned is True, torchvision computes with False" in exported.notes
    assert "input.resize is antialias, torchvision computes with bilinear" in exported.notes
    code = "\n".join(exported.code)
    for argument in ("num_classes=8", "min_size=600", "box_nms_thresh=0.4", "rpn_post_nms_top_n_train=500",
                     "image_mean=[0.5, 0.456, 0.406]"):  # fmt: skip
        assert argument in code
    assert "image_std" not in code
    assert "max_size" not in code
    assert "nms" not in told


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"backbone": {"norm": "group_norm"}}, "model.backbone.norm is group_norm"),
        ({"backbone": {"features": "c4"}}, "model.backbone.features is c4"),
        ({"backbone": {"non_local": True}}, "model.backbone.non_local is True"),
        ({"backbone": {"stride_in_1x1": True}}, "model.backbone.stride_in_1x1 is True"),
        ({"backbone": {"name": "resnext152_32x8d"}}, "resnext152_32x8d: torchvision has no such network"),
        ({"backbone": {"fpn_norm": "group_norm"}}, "model.backbone.fpn_norm is group_norm"),
        ({"roi_op": {"name": "roi_pool", "reduction": "max"}}, "model.roi_op.name is roi_pool"),
        ({"box_head": {"class_agnostic": True}}, "model.box_head.class_agnostic is True"),
        ({"box_head": {"num_convs": 4, "norm": "batch_norm"}}, "model.backbone.fpn_norm is none.*only have batch_norm"),
        ({"mask_head": {"output": "softmax"}}, "model.mask_head.output is softmax"),
        ({"mask_head": {"num_convs": 3}}, "model.mask_head.num_convs is 3: .* can only have 4"),
        ({"keypoints": True}, "no model with both heads"),
        ({"inference": {"nms": {"name": "soft"}}}, "model.inference.nms.name is soft: torchvision has hard NMS alone"),
        ({"anchors": {"aspect_ratios": [1.0]}}, "3 anchors per cell, not 1"),
    ],
)
def test_what_torchvision_cannot_be_is_named(keys: dict[str, Any], message: str) -> None:
    with torch.device("meta"):
        model = build_model(ModelConfig.model_validate(keys), InputConfig(), 2)
    with pytest.raises(ValueError, match=message) as caught:
        to_torchvision(model, InputConfig())
    assert "\n" not in str(caught.value)


def test_weights_that_see_blue_first_are_turned_round() -> None:
    model = build(R18)
    statistics = {"pixel_mean": (1.0, 2.0, 3.0), "pixel_std": (4.0, 5.0, 6.0)}
    blue_first = to_torchvision(model, INPUT.model_copy(update={**statistics, "channel_order": "bgr"}))
    turned = {name: values[::-1] for name, values in statistics.items()}
    red_first = to_torchvision(model, INPUT.model_copy(update=turned))
    assert blue_first.code == red_first.code
    for name, tensor in red_first.tensors.items():
        expected = tensor.flip(1) if name == "backbone.body.conv1.weight" else tensor
        assert torch.equal(blue_first.tensors[name], expected), name
