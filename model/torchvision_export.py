"""A model of maskray for torchvision: names, order of classes, and the code that builds what takes the tensors.

Letters: C classes without background.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.models import resnet

from maskray.model.config import InputConfig, ModelConfig
from maskray.model.imported import Rule, rename_tensors
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.presets import merge, torchvision_preset

# What the layers of torchvision's models are; anything else has no place in them.
_LAYERS: dict[str, Any] = {
    "backbone.features": "fpn",
    "backbone.non_local": False,
    "backbone.stem_channels": 64,
    "backbone.res2_channels": 64,
    "backbone.stride_in_1x1": False,
    "backbone.fpn_channels": 256,
    "rpn.own_backbone": False,
    "roi_op.name": "roi_align",
    "roi_op.reduction": "mean",
    "box_head.name": "fc",
    "box_head.pool_size": 7,
    "box_head.hidden_channels": 1024,
    "box_head.class_agnostic": False,
    "mask_head.name": "fcn",
    "mask_head.pool_size": 14,
    "mask_head.channels": 256,
    "mask_head.num_convs": 4,
    "mask_head.output": "per_class_sigmoid",
    "keypoint_head.pool_size": 14,
    "keypoint_head.channels": 512,
    "keypoint_head.num_convs": 8,
}
_LAYERS_V1 = _LAYERS | {
    "backbone.fpn_norm": "none",
    "rpn.num_convs": 1,
    "box_head.num_convs": 0,
    "box_head.num_fcs": 2,
    "mask_head.norm": "none",
}
_LAYERS_V2 = _LAYERS | {
    "backbone.name": "resnet50",
    "backbone.fpn_norm": "batch_norm",
    "rpn.num_convs": 2,
    "box_head.num_convs": 4,
    "box_head.conv_channels": 256,
    "box_head.norm": "batch_norm",
    "box_head.num_fcs": 1,
    "mask_head.norm": "batch_norm",
}
# Arguments of torchvision's constructors, by the key that they are in maskray.
_ARGUMENTS = {
    "rpn.pre_nms_top_n_train": "rpn_pre_nms_top_n_train",
    "rpn.pre_nms_top_n_test": "rpn_pre_nms_top_n_test",
    "rpn.post_nms_top_n_train": "rpn_post_nms_top_n_train",
    "rpn.post_nms_top_n_test": "rpn_post_nms_top_n_test",
    "rpn.nms_iou": "rpn_nms_thresh",
    "rpn.positive_iou": "rpn_fg_iou_thresh",
    "rpn.negative_iou": "rpn_bg_iou_thresh",
    "rpn.samples_per_image": "rpn_batch_size_per_image",
    "rpn.positive_fraction": "rpn_positive_fraction",
    "box_head.samples_per_image": "box_batch_size_per_image",
    "box_head.positive_fraction": "box_positive_fraction",
    "box_head.box_weights": "bbox_reg_weights",
    "inference.score_threshold": "box_score_thresh",
    "inference.nms_iou": "box_nms_thresh",
    "inference.detections_per_image": "box_detections_per_img",
    "input.shorter_edge": "min_size",
    "input.longer_edge_max": "max_size",
}
_ANCHORS = ("anchors.sizes", "anchors.aspect_ratios")
# Of no consequence for what is computed, or stated in another place.
FIRST = "backbone.resnet.stem.conv1.conv.weight"
_FREE = {"backbone.fold_norm", "backbone.name", "backbone.norm", "backbone.norm_eps", "backbone.freeze_stages",
         "backbone.gradient_checkpointing", "inference.mask_threshold", "keypoint_head.num_keypoints",
         "box_head.positive_iou", "input.pixel_mean", "input.pixel_std"}  # fmt: skip
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class TorchvisionModel:
    """Tensors under torchvision's names, `code` that builds the `model` for them, and `notes` on what differs there."""

    tensors: dict[str, Tensor]
    code: list[str]
    notes: list[str]


def to_torchvision(model: MaskRCNN, input_config: InputConfig) -> TorchvisionModel:
    """The model for torchvision's Faster, Mask or Keypoint R-CNN of C + 1 classes, v1 or v2, strict in its names.

    The background moves from the last class to class 0, whose box offsets and masks, which nothing reads, are 0.
    Raises ValueError naming the key of the configuration whose layers torchvision has not.
    """
    config = model.config
    if config.masks and config.keypoints:
        raise ValueError("model.masks and model.keypoints: torchvision has no model with both heads")
    if len(config.anchors.aspect_ratios) != 3:
        count = len(config.anchors.aspect_ratios)
        raise ValueError(f"model.anchors.aspect_ratios: torchvision's RPN scores 3 anchors per cell, not {count}")
    if config.inference.nms.name != "hard":
        raise ValueError(f"model.inference.nms.name is {config.inference.nms.name}: torchvision has hard NMS alone")
    version_2 = config.box_head.num_convs > 0
    settings = _settings(config, _in_rgb(input_config))
    _check_layers(settings, version_2)
    tensors = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    if input_config.channel_order == "bgr":
        tensors[FIRST] = tensors[FIRST].flip(1)
    tensors = rename_tensors(tensors, _rules(config))
    _move_background(tensors)
    changed = _changed(settings)
    differences = [
        f"{key} is {settings[key]}, torchvision computes with {value}"
        for key, value in changed.items()
        if key not in _FREE and key not in _ARGUMENTS and key not in _ANCHORS and key not in _LAYERS_V2
    ]
    arguments = _arguments(config, _in_rgb(input_config), model.num_classes, changed)
    return TorchvisionModel(tensors, _code(config, arguments, changed, version_2), differences)


def _in_rgb(config: InputConfig) -> InputConfig:
    """The same for a first convolution that takes RGB, as torchvision's do."""
    if config.channel_order == "rgb":
        return config
    turned = {"pixel_mean": config.pixel_mean[::-1], "pixel_std": config.pixel_std[::-1], "channel_order": "rgb"}
    return config.model_copy(update=turned)


def _settings(config: ModelConfig, input_config: InputConfig) -> dict[str, Any]:
    """Dotted key and value of all that the model has parts for."""
    tree = config.model_dump() | {"input": input_config.model_dump()}
    for head, present in (("mask_head", config.masks), ("keypoint_head", config.keypoints)):
        if not present:
            del tree[head]
    return {f"{part}.{key}": tree[part][key] for part in tree if isinstance(tree[part], dict) for key in tree[part]}


def _check_layers(settings: dict[str, Any], version_2: bool) -> None:
    """ValueError for the first key whose layers are not those of torchvision's models."""
    name = "maskrcnn_resnet50_fpn_v2" if version_2 else "models of version 1"
    for key, needed in (_LAYERS_V2 if version_2 else _LAYERS_V1).items():
        value = settings.get(key, needed)
        if key.endswith("norm") and value == "sync_batch_norm":
            value = "batch_norm"  # the same tensors
        if value != needed:
            raise ValueError(f"model.{key} is {value}: torchvision's {name} can only have {needed}")
    if settings["backbone.norm"] == "group_norm":
        raise ValueError("model.backbone.norm is group_norm: torchvision's models can only have batch norm")
    if not hasattr(resnet, settings["backbone.name"]):
        raise ValueError(f"model.backbone.name is {settings['backbone.name']}: torchvision has no such network")
    if version_2 and "keypoint_head.channels" in settings:
        raise ValueError("model.keypoints with box_head.num_convs 4: torchvision has no keypoint model of version 2")


def _changed(settings: dict[str, Any]) -> dict[str, Any]:
    """The keys in which a model differs from torchvision's defaults, with torchvision's values."""
    default = ModelConfig.model_validate(merge(torchvision_preset(), {"keypoints": True}))
    reference = _settings(default, InputConfig(resize="bilinear"))
    return {key: reference[key] for key, value in settings.items() if value != reference[key]}


def _arguments(
    config: ModelConfig, input_config: InputConfig, num_classes: int, changed: dict[str, Any]
) -> dict[str, Any]:
    """What torchvision's constructor is told beyond its defaults."""
    parts = {**dict(config), "input": input_config}
    arguments: dict[str, Any] = {"num_classes": num_classes + 1}
    if config.keypoints:
        arguments["num_keypoints"] = config.keypoint_head.num_keypoints
    for key, argument in _ARGUMENTS.items():
        part, name = key.split(".")
        if key in changed:
            arguments[argument] = getattr(parts[part], name)
    if "box_head.positive_iou" in changed:
        arguments["box_fg_iou_thresh"] = arguments["box_bg_iou_thresh"] = config.box_head.positive_iou
    for argument, values, usual in zip(
        ("image_mean", "image_std"), (input_config.pixel_mean, input_config.pixel_std), _IMAGENET, strict=True
    ):
        shares = [round(value / 255, 9) for value in values]
        if shares != list(usual):
            arguments[argument] = shares
    return arguments


def _code(config: ModelConfig, arguments: dict[str, Any], changed: dict[str, Any], version_2: bool) -> list[str]:
    """Lines that build `model` in evaluation mode."""
    kind = "mask" if config.masks else "keypoint" if config.keypoints else "faster"
    told = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    if config.backbone.name == "resnet50":
        name = f"{kind}rcnn_resnet50_fpn" + "_v2" * version_2
        lines = [f"model = detection.{name}(weights=None, weights_backbone=None, {told})"]
    else:
        backbone = f"resnet_fpn_backbone(backbone_name={config.backbone.name!r}, weights=None, trainable_layers=3)"
        class_name = {"mask": "MaskRCNN", "keypoint": "KeypointRCNN", "faster": "FasterRCNN"}[kind]
        lines = [f"model = detection.{class_name}(detection.backbone_utils.{backbone}, {told})"]
    if changed.keys() & set(_ANCHORS):
        sizes = tuple((size,) for size in config.anchors.sizes)
        ratios = (config.anchors.aspect_ratios,) * len(sizes)
        lines.append(f"model.rpn.anchor_generator = detection.anchor_utils.AnchorGenerator({sizes}, {ratios})")
    if "backbone.norm_eps" in changed:
        norms = "(part for part in model.backbone.modules() if hasattr(part, 'eps'))"
        lines.append(f"for norm in {norms}: norm.eps = {config.backbone.norm_eps}")
    return ["from torchvision.models import detection", *lines, "model.eval()"]


def _move_background(tensors: dict[str, Tensor]) -> None:
    """The last row of the classifier goes first, and class 0 gets offsets and a mask of zeros."""
    for part in ("weight", "bias"):
        name = f"roi_heads.box_predictor.cls_score.{part}"
        tensors[name] = tensors[name].roll(1, dims=0)
        for name, rows in (("box_predictor.bbox_pred", 4), ("mask_predictor.mask_fcn_logits", 1)):
            full = f"roi_heads.{name}.{part}"
            if full in tensors:
                tensors[full] = torch.cat([torch.zeros_like(tensors[full][:rows]), tensors[full]])


def _rules(config: ModelConfig) -> list[Rule]:
    """Renaming; here the layers of a head are counted one by one, there in groups of convolution, norm and ReLU."""
    box_convs = config.box_head.num_convs
    mask_size = 2 if config.mask_head.norm == "none" else 3

    def layer(match: re.Match[str]) -> str:
        kind = "conv" if match[4] == "conv" else "bn"
        return f"backbone.body.layer{int(match[1]) - 1}.{match[2]}.{kind}{match[3]}.{match[5]}"

    def shortcut(match: re.Match[str]) -> str:
        return f"backbone.body.layer{int(match[1]) - 1}.{match[2]}.downsample.{int(match[3] == 'norm')}.{match[4]}"

    def fpn(match: re.Match[str]) -> str:
        kind = "inner" if match[1] == "lateral" else "layer"
        return f"backbone.fpn.{kind}_blocks.{match[2]}.{int(match[3] == 'norm')}.{match[4]}"

    def conv(head: str, size: int) -> Rule:
        pattern = rf"roi_heads\.{head}\.convs\.(\d+)\.(\w+)"
        return pattern, lambda match: f"roi_heads.{head}.{int(match[1]) // size}.{int(match[1]) % size}.{match[2]}"

    def fully_connected(match: re.Match[str]) -> str:
        layer = box_convs + 2 * int(match[1]) - 1 if box_convs else f"fc{int(match[1]) + 5}"
        return f"roi_heads.box_head.{layer}.{match[2]}"

    return [
        (r"backbone\.resnet\.stem\.conv1\.conv\.(\w+)", r"backbone.body.conv1.\1"),
        (r"backbone\.resnet\.stem\.conv1\.norm\.(\w+)", r"backbone.body.bn1.\1"),
        (r"backbone\.resnet\.res(\d)\.(\d+)\.conv(\d)\.(conv|norm)\.(\w+)", layer),
        (r"backbone\.resnet\.res(\d)\.(\d+)\.shortcut\.(conv|norm)\.(\w+)", shortcut),
        (r"backbone\.(lateral|output)\.(\d)\.(conv|norm)\.(\w+)", fpn),
        (r"rpn\.head\.convs\.(\d+)\.(\w+)", r"rpn.head.conv.\1.0.\2"),
        (r"rpn\.head\.objectness\.(\w+)", r"rpn.head.cls_logits.\1"),
        (r"rpn\.head\.deltas\.(\w+)", r"rpn.head.bbox_pred.\1"),
        (r"roi_heads\.box_head\.fc(\d)\.(\w+)", fully_connected),
        conv("box_head", 3),
        (r"roi_heads\.box_head\.classifier\.(\w+)", r"roi_heads.box_predictor.cls_score.\1"),
        (r"roi_heads\.box_head\.deltas\.(\w+)", r"roi_heads.box_predictor.bbox_pred.\1"),
        conv("mask_head", mask_size),
        (r"roi_heads\.mask_head\.deconv\.(\w+)", r"roi_heads.mask_predictor.conv5_mask.\1"),
        (r"roi_heads\.mask_head\.predictor\.(\w+)", r"roi_heads.mask_predictor.mask_fcn_logits.\1"),
        (r"roi_heads\.keypoint_head\.convs\.(\d+)\.(\w+)", r"roi_heads.keypoint_head.\1.\2"),
        (r"roi_heads\.keypoint_head\.deconv\.(\w+)", r"roi_heads.keypoint_predictor.kps_score_lowres.\1"),
    ]  # fmt: skip
