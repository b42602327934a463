"""How other libraries compute, as values of the model's configuration: what their weights need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskray.model.combinations import MANY_PROPOSALS, OF_KEYPOINTS

# detectron2's base configurations: Base-RCNN-FPN, -C4, -DilatedC5 and Base-Keypoint-RCNN-FPN.
_DETECTRON2: dict[str, dict[str, Any]] = {
    "backbone": {"freeze_stages": 2, "norm_eps": 1e-5, "fold_norm": False},
    "anchors": {"offset": 0.0},
    "rpn": {
        "pre_nms_top_n_train": 2000,
        "pre_nms_top_n_test": 1000,
        "post_nms_top_n_train": 1000,
        "post_nms_top_n_test": 1000,
        "box_loss": "l1",
    },
    "box_head": {"samples_per_image": 512, "box_loss": "l1"},
}
_DETECTRON2_OF_FEATURES: dict[str, dict[str, dict[str, Any]]] = {
    "fpn": {},
    "c4": {"rpn": MANY_PROPOSALS, "box_head": {"name": "res5", "pool_size": 14, "res5_stride": 2}},
    "dc5": {"rpn": MANY_PROPOSALS},
}

# Defaults of torchvision.models.detection: FasterRCNN, MaskRCNN, KeypointRCNN and the parts they are made of.
_TORCHVISION: dict[str, dict[str, Any]] = {
    "backbone": {"freeze_stages": 2, "norm_eps": 1e-5},
    "anchors": {"offset": 0.0, "rounded": True, "strides": "from_map_size"},
    "rpn": {
        "pre_nms_top_n_train": 2000,
        "pre_nms_top_n_test": 1000,
        "post_nms_top_n_train": 2000,
        "post_nms_top_n_test": 1000,
        "min_size_pixels": 1e-3,
        "box_loss": "smooth_l1",
        "smooth_l1_beta": 1 / 9,
    },
    "roi_op": {"aligned": False, "sampling_ratio": 2, "level_rule": "torchvision"},
    "box_head": {"samples_per_image": 512, "box_loss": "smooth_l1", "smooth_l1_beta": 1 / 9},
    "mask_head": {"targets": "soft"},
    "keypoint_head": {"score": "logit", "half_pixel": False},
    "inference": {"min_size_pixels": 1e-2, "mask_paste": "torchvision"},
}


def detectron2_preset(features: str, keypoints: bool) -> dict[str, dict[str, Any]]:
    """Values of ModelConfig that detectron2 0.6 has for `features` fpn, c4 or dc5, with or without a keypoint head."""
    preset = merge(_DETECTRON2, _DETECTRON2_OF_FEATURES[features])
    return merge(preset, OF_KEYPOINTS) if keypoints else preset


def torchvision_preset() -> dict[str, dict[str, Any]]:
    """Values of ModelConfig that torchvision's detection models have, whatever their heads."""
    return merge(_TORCHVISION, {})


def merge(values: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings, one level of inner mappings merged, `others` winning; neither is changed."""
    merged = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for key, value in others.items():
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, Mapping) else value
    return merged
