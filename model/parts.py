"""The parts of a detector: as configurations name them, and by the names of tensors."""

from __future__ import annotations

from typing import Literal

from maskray.model.config import ModelConfig

# What training can leave as it is. backbone is the network below the pyramid, of the RPN too where it has one of its
# own; box_head has the res5 of a C4 model, which looks at regions.
Part = Literal["backbone", "pyramid", "rpn", "box_head", "mask_head", "keypoint_head"]
# What weights are taken over in, whole or not at all.
TENSOR_PARTS = ("backbone", "pyramid", "rpn_backbone", "rpn", "res5", "box_head", "mask_head", "keypoint_head")
_PREFIXES = {
    "backbone.lateral.": "pyramid",
    "backbone.output.": "pyramid",
    "backbone.": "backbone",
    "rpn_backbone.": "rpn_backbone",
    "rpn.": "rpn",
    "roi_heads.res5.": "res5",
    "roi_heads.box_head.": "box_head",
    "roi_heads.mask_head.": "mask_head",
    "roi_heads.keypoint_head.": "keypoint_head",
}


def part_of(name: str) -> str | None:
    """Of TENSOR_PARTS, that which a parameter or buffer belongs to; None for a name that is not of a detector."""
    return next((part for prefix, part in _PREFIXES.items() if name.startswith(prefix)), None)


def model_parts(config: ModelConfig) -> tuple[Part, ...]:
    """Those parts that a model of this configuration has, from the image to the heads."""
    parts: list[Part] = ["backbone"]
    if config.backbone.features == "fpn":
        parts.append("pyramid")
    parts += ["rpn", "box_head"]
    if config.masks:
        parts.append("mask_head")
    if config.keypoints:
        parts.append("keypoint_head")
    return tuple(parts)
