"""A small model of four classes that finds something without training: for what else computes a model."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch

from maskray.model.build_model import build_model
from maskray.model.config import ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.presets import merge

SMALL: dict[str, Any] = {
    "backbone": {"name": "resnet18", "stem_channels": 16, "res2_channels": 16},
    "inference": {"score_threshold": 0.02, "detections_per_image": 20},
}
SMALL_MASKS: dict[str, Any] = {"mask_head": {"channels": 16, "num_convs": 1}}


def separable_model(*keys: dict[str, Any]) -> tuple[MaskRCNN, ModelSpec]:
    """A model whose predictors tell boxes apart: SMALL with the keys of a job's `model` on top, in their order."""
    tree = {
        "model": reduce(merge, keys, SMALL),
        "input": {"shorter_edge": 96, "longer_edge_max": 128},
        "labels": {"categories": [{"id": number, "name": f"thing {number}"} for number in range(1, 5)]},
    }
    spec = ModelSpec.model_validate(tree)
    torch.manual_seed(0)
    model = build_model(spec.model, spec.input, 4)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(3.0, 5.0)
        elif name.endswith("classifier.weight"):
            tensor.normal_(std=0.3)
        elif name.endswith(("objectness.weight", "deltas.weight", "predictor.weight")):
            tensor.normal_(std=0.05)
    return model.eval(), spec
