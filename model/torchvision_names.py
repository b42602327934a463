"""Torchvision's detection models with a ResNet and a pyramid in maskray: names, order of classes, configuration.

Letters: C classes without background.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from maskray.model.config import InputConfig, ModelConfig
from maskray.model.imported import Imported, Rule, rename_tensors
from maskray.model.infer_config import recognise_model
from maskray.model.presets import merge, torchvision_preset
from maskray.model.weights import from_torchvision

# Ends of the names of released files with frozen batch norm, whose epsilon torchvision sets to 0 on loading them:
# {fasterrcnn,maskrcnn,keypointrcnn}_resnet50_fpn_coco-*.pth. The older keypoint weights, 9f466800, are not of them.
HASHES_OF_EPS_0 = ("258fb6c6", "bf2d0c1e", "fc266e95")
PIXEL_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
PIXEL_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
HEAD = "roi_heads.box_head"


def read_torchvision(
    state: Mapping[str, Tensor], *, norm_eps: float = 1e-5, shorter_edge: int = 800, longer_edge_max: int = 1333
) -> Imported:
    """The model of a state dict of torchvision: Faster, Mask or Keypoint R-CNN, FPN on ResNet or ResNeXt, v1 or v2.

    The background moves from class 0 to the last; its box offsets and its mask, which nothing reads, are left out.
    `norm_eps` is that of the backbone's norm: see norm_eps_of. Raises ValueError naming
    what is missing, unknown or does not fit.
    """
    tensors = rename_tensors(state, _rules(state))
    _move_background(tensors)
    found = recognise_model(tensors)
    if found["backbone"]["features"] != "fpn":
        raise ValueError("backbone.fpn.inner_blocks are missing: models without a pyramid are unknown")
    found["backbone"]["norm_eps"] = norm_eps
    return Imported(
        model=ModelConfig.model_validate(merge(torchvision_preset(), found)),
        input=InputConfig(
            shorter_edge=shorter_edge,
            longer_edge_max=longer_edge_max,
            resize="bilinear",
            pixel_mean=PIXEL_MEAN,
            pixel_std=PIXEL_STD,
        ),
        num_classes=tensors[f"{HEAD}.classifier.weight"].shape[0] - 1,
        tensors=tensors,
        notes=[f"epsilon of the backbone's normalisation {norm_eps:g}"],
    )


def norm_eps_of(file_name: str) -> float:
    """Epsilon of the frozen batch norm of a released file, which its name tells; that of any other is 1e-5."""
    return 0.0 if file_name.removesuffix(".pth").endswith(HASHES_OF_EPS_0) else 1e-5


def _move_background(tensors: dict[str, Tensor]) -> None:
    """Rows of class 0 go to the end of the classifier and out of the offsets and masks."""
    for part in ("weight", "bias"):
        name = f"{HEAD}.classifier.{part}"
        if name in tensors:
            tensors[name] = tensors[name].roll(-1, dims=0)
        for name, rows in ((f"{HEAD}.deltas.{part}", 4), (f"roi_heads.mask_head.predictor.{part}", 1)):
            if name in tensors:
                tensors[name] = tensors[name][rows:]


def _rules(state: Mapping[str, Tensor]) -> list[Rule]:
    """Renaming. Files from before torchvision 0.13 lack an index, as in inner_blocks.0.weight for inner_blocks.0.0."""
    box_convs = sum(re.fullmatch(r"roi_heads\.box_head\.\d+\.0\.weight", name) is not None for name in state)
    mask_size = 3 if "roi_heads.mask_head.0.1.weight" in state else 2
    box_size = 3 if "roi_heads.box_head.0.1.weight" in state else 2

    def resnet(match: re.Match[str]) -> str:
        name = from_torchvision(match[1])
        assert name is not None, match[1]
        return name

    def fpn(match: re.Match[str]) -> str:
        kind = "lateral" if match[1] == "inner" else "output"
        return f"backbone.{kind}.{match[2]}.{'norm' if match[3] == '1.' else 'conv'}.{match[4]}"

    def fully_connected(match: re.Match[str]) -> str:
        return f"{HEAD}.fc{(int(match[1]) - box_convs - 1) // 2 + 1}.{match[2]}"

    return [
        (r"backbone\.body\.(conv1\.weight|bn1\.\w+)", resnet),
        (r"backbone\.body\.(layer[1-4]\.\d+\.(?:conv[123]\.weight|bn[123]\.\w+|downsample\.[01]\.\w+))", resnet),
        (r"backbone\.fpn\.(inner|layer)_blocks\.([0-3])\.([01]\.)?(\w+)", fpn),
        (r"rpn\.head\.conv\.(weight|bias)", r"rpn.head.convs.0.\1"),
        (r"rpn\.head\.conv\.(\d+)\.0\.(\w+)", r"rpn.head.convs.\1.\2"),
        (r"rpn\.head\.cls_logits\.(\w+)", r"rpn.head.objectness.\1"),
        (r"rpn\.head\.bbox_pred\.(\w+)", r"rpn.head.deltas.\1"),
        (r"roi_heads\.box_head\.fc([67])\.(\w+)", lambda match: f"{HEAD}.fc{int(match[1]) - 5}.{match[2]}"),
        (r"roi_heads\.box_head\.(\d+)\.([01])\.(\w+)",
         lambda match: f"{HEAD}.convs.{box_size * int(match[1]) + int(match[2])}.{match[3]}"),
        (r"roi_heads\.box_head\.(\d+)\.(\w+)", fully_connected),
        (r"roi_heads\.box_predictor\.cls_score\.(\w+)", HEAD + r".classifier.\1"),
        (r"roi_heads\.box_predictor\.bbox_pred\.(\w+)", HEAD + r".deltas.\1"),
        (r"roi_heads\.mask_head\.mask_fcn(\d)\.(\w+)",
         lambda match: f"roi_heads.mask_head.convs.{2 * (int(match[1]) - 1)}.{match[2]}"),
        (r"roi_heads\.mask_head\.(\d+)\.([01])\.(\w+)",
         lambda match: f"roi_heads.mask_head.convs.{mask_size * int(match[1]) + int(match[2])}.{match[3]}"),
        (r"roi_heads\.mask_predictor\.conv5_mask\.(\w+)", r"roi_heads.mask_head.deconv.\1"),
        (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(\w+)", r"roi_heads.mask_head.predictor.\1"),
        (r"roi_heads\.keypoint_head\.(\d+)\.(\w+)", r"roi_heads.keypoint_head.convs.\1.\2"),
        (r"roi_heads\.keypoint_predictor\.kps_score_lowres\.(\w+)", r"roi_heads.keypoint_head.deconv.\1"),
    ]  # fmt: skip
