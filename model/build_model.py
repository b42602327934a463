"""Configuration to model."""

from __future__ import annotations

from maskray.model.config import InputConfig, ModelConfig
from maskray.model.mask_rcnn import MaskRCNN


def build_model(config: ModelConfig, input_config: InputConfig, num_classes: int) -> MaskRCNN:
    """A Mask R-CNN with initial weights drawn from torch's global generator, in training mode, on the CPU.

    `num_classes` counts no background. Raises ValueError when it is below 1.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be 1 or more, not {num_classes}")
    return MaskRCNN(config, input_config, num_classes)
