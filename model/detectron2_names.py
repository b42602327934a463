"""Detectron2's Mask, Faster and Keypoint R-CNN in maskray: names, order of colours, configuration (0.6, model zoo).

Letters: C classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from maskray.model.config import InputConfig, ModelConfig
from maskray.model.imported import Imported, Rule, rename_tensors
from maskray.model.infer_config import num_frozen_stages, recognise_model
from maskray.model.presets import detectron2_preset, merge

CONSTANTS = re.compile(r"pixel_(mean|std)|proposal_generator\.anchor_generator\.cell_anchors\.\d+")
BGR_MEAN = (103.53, 116.28, 123.675)
STD_OF_MSRA = (1.0, 1.0, 1.0)  # its ResNets take 0..255 less the mean
BGR_STD_OF_RESNEXT = (57.375, 57.12, 58.395)


def read_detectron2(state: Mapping[str, Tensor], *, shorter_edge: int = 800, longer_edge_max: int = 1333) -> Imported:
    """The model of a state dict of detectron2, R-CNN with ResNet or ResNeXt and C4, DC5 or FPN.

    Channels stay in the order of the library, BGR. Pixel statistics are those of the file, else of the zoo's model of
    that backbone. Raises ValueError naming what is missing, unknown or does not fit.
    """
    constants = {name: tensor for name, tensor in state.items() if CONSTANTS.fullmatch(name)}
    tensors = rename_tensors({name: state[name] for name in state if name not in constants}, _rules(state))
    found = recognise_model(tensors)
    backbone = found["backbone"]
    # Of the zoo's: MSRA's ResNets, and group norm's and ResNeXt's whose stride is in the 3x3.
    backbone["stride_in_1x1"] = backbone["norm"] != "group_norm" and backbone["name"].startswith("resnet")
    if backbone["norm"] == "batch_norm":
        backbone["freeze_stages"] = num_frozen_stages(tensors)
    if backbone["name"] in ("resnet18", "resnet34"):
        backbone["stride_in_1x1"] = False
    mean, std, notes = _pixel_statistics(constants, backbone["name"])
    notes.insert(0, f"stride of the bottlenecks in the {'1x1' if backbone['stride_in_1x1'] else '3x3'} convolution")
    if backbone["features"] == "dc5":
        notes.append("res5 dilated (DC5), which no tensor shows")
    return Imported(
        model=ModelConfig.model_validate(merge(detectron2_preset(backbone["features"], found["keypoints"]), found)),
        input=InputConfig(
            shorter_edge=shorter_edge,
            longer_edge_max=longer_edge_max,
            channel_order="bgr",
            pixel_mean=mean,
            pixel_std=std,
        ),
        num_classes=tensors["roi_heads.box_head.classifier.weight"].shape[0] - 1,
        tensors=tensors,
        notes=notes,
    )


def _pixel_statistics(
    constants: Mapping[str, Tensor], backbone: str
) -> tuple[tuple[float, float, float], tuple[float, float, float], list[str]]:
    """Mean and deviation of BGR values 0..255, and a note."""
    values = []
    known = (BGR_MEAN, BGR_STD_OF_RESNEXT if backbone.startswith("resnext") else STD_OF_MSRA)
    for name, default in zip(("pixel_mean", "pixel_std"), known, strict=True):
        tensor = constants.get(name, torch.tensor(default, dtype=torch.float64)).flatten()
        if tensor.numel() != 3:
            raise ValueError(f"{name} has {tensor.numel()} values, not 3")
        blue, green, red = (round(float(value), 6) for value in tensor)
        values.append((blue, green, red))
    source = "of the file" if "pixel_mean" in constants else f"of the model zoo's {backbone}"
    notes = [f"pixel mean {values[0]} and deviation {values[1]} (BGR) {source}"]
    return values[0], values[1], notes


def _rules(state: Mapping[str, Tensor]) -> list[Rule]:
    """Renaming; convolutions of a head are counted with the norms and activations between them."""
    rules: list[Rule] = [
        (r"backbone\.fpn_(lateral|output)([2-5])\.(norm\.)?(\w+)", _fpn_name),
        (r"backbone\.(?:bottom_up\.)?(stem|res[2-5]\.\d+)\.(conv\d|shortcut)\.norm\.(\w+)",
         r"backbone.resnet.\1.\2.norm.\3"),
        (r"backbone\.(?:bottom_up\.)?(stem|res[2-5]\.\d+)\.(conv\d|shortcut)\.weight",
         r"backbone.resnet.\1.\2.conv.weight"),
        (r"roi_heads\.(res5\.\d+)\.(conv\d|shortcut)\.norm\.(\w+)", r"roi_heads.\1.\2.norm.\3"),
        (r"roi_heads\.(res5\.\d+)\.(conv\d|shortcut)\.weight", r"roi_heads.\1.\2.conv.weight"),
        (r"proposal_generator\.rpn_head\.conv\.(weight|bias)", r"rpn.head.convs.0.\1"),
        (r"proposal_generator\.rpn_head\.conv\.conv(\d+)\.(weight|bias)", r"rpn.head.convs.\1.\2"),
        (r"proposal_generator\.rpn_head\.objectness_logits\.(\w+)", r"rpn.head.objectness.\1"),
        (r"proposal_generator\.rpn_head\.anchor_deltas\.(\w+)", r"rpn.head.deltas.\1"),
        (r"roi_heads\.box_head\.(fc\d+)\.(\w+)", r"roi_heads.box_head.\1.\2"),
        (r"roi_heads\.box_predictor\.cls_score\.(\w+)", r"roi_heads.box_head.classifier.\1"),
        (r"roi_heads\.box_predictor\.bbox_pred\.(\w+)", r"roi_heads.box_head.deltas.\1"),
        (r"roi_heads\.mask_head\.(deconv|predictor)\.(\w+)", r"roi_heads.mask_head.\1.\2"),
        (r"roi_heads\.keypoint_head\.score_lowres\.(\w+)", r"roi_heads.keypoint_head.deconv.\1"),
    ]  # fmt: skip
    for head, layer in (("box_head", "conv"), ("mask_head", "mask_fcn"), ("keypoint_head", "conv_fcn")):
        has_norm = f"roi_heads.{head}.{layer}1.norm.weight" in state
        rules.append(
            (
                rf"roi_heads\.{head}\.{layer}(\d+)\.(norm\.)?(\w+)",
                lambda match, head=head, size=3 if has_norm else 2: (  # type: ignore[misc]
                    f"roi_heads.{head}.convs.{size * (int(match[1]) - 1) + (match[2] is not None)}.{match[3]}"
                ),
            )
        )
    return rules


def _fpn_name(match: re.Match[str]) -> str:
    return f"backbone.{match[1]}.{int(match[2]) - 2}.{'norm' if match[3] else 'conv'}.{match[4]}"
