"""The parts of a model that training can leave as they are, by the names that configurations give them."""

from __future__ import annotations

from typing import Literal

from maskray.model.config import ModelConfig

# backbone is the network below the pyramid, of the RPN too where it has one of its own; box_head has the res5 of a C4
# model, which looks at regions.
Part = Literal["backbone", "pyramid", "rpn", "box_head", "mask_head", "keypoint_head"]


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
