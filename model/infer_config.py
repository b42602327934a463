"""Reads the architecture of a model off the names and shapes of its tensors, which bear the names of maskray."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from maskray.model.backbone.resnet import BASIC, NUM_BLOCKS

Tensors = Mapping[str, Tensor]
STEM = "backbone.resnet.stem.conv1"
ANCHORS_PER_CELL = {"fpn": 3, "c4": 15, "dc5": 15}  # three aspect ratios; of one map, five sizes of each


def recognise_model(tensors: Tensors) -> dict[str, Any]:
    """Values of ModelConfig that the tensors show; what leaves no trace in them (thresholds, sampling) is not in it.

    One map of a ResNet with res5 and no pyramid is taken for dc5, as c5 has the very same tensors. Raises ValueError
    naming the tensor or the number that fits no model of maskray.
    """
    features = _features(tensors)
    backbone = _backbone(tensors, features)
    num_anchors = _of(tensors, "rpn.head.objectness.weight").shape[0]
    if num_anchors != ANCHORS_PER_CELL[features]:
        raise ValueError(
            f"rpn.head.objectness.weight: {num_anchors} anchors per cell; {ANCHORS_PER_CELL[features]} are known for "
            f"features {features}"
        )
    num_classes = _of(tensors, "roi_heads.box_head.classifier.weight").shape[0] - 1
    values: dict[str, Any] = {
        "backbone": backbone,
        "rpn": {"num_convs": _count(tensors, r"rpn\.head\.convs\.(\d+)\.weight")},
        "box_head": _box_head(tensors, features, num_classes),
        "masks": "roi_heads.mask_head.predictor.weight" in tensors,
        "keypoints": "roi_heads.keypoint_head.deconv.weight" in tensors,
    }
    if values["masks"]:
        values["mask_head"] = _mask_head(tensors, num_classes)
    if values["keypoints"]:
        deconv = tensors["roi_heads.keypoint_head.deconv.weight"]
        values["keypoint_head"] = {
            "num_keypoints": deconv.shape[1],
            "channels": deconv.shape[0],
            "num_convs": _count(tensors, r"roi_heads\.keypoint_head\.convs\.(\d+)\.weight"),
        }
    return values


def num_frozen_stages(tensors: Tensors) -> int:
    """How many stages, from the stem, have constant batch norm before one that counts its steps; 0 where none does."""
    counted = [
        any(name.startswith(f"backbone.resnet.{stage}.") and name.endswith("num_batches_tracked") for name in tensors)
        for stage in ("stem", "res2", "res3", "res4", "res5")
    ]
    return counted.index(True) if any(counted) else 0


def _features(tensors: Tensors) -> str:
    if any(name.startswith("backbone.lateral.") for name in tensors):
        return "fpn"
    return "c4" if any(name.startswith("roi_heads.res5.") for name in tensors) else "dc5"


def _backbone(tensors: Tensors, features: str) -> dict[str, Any]:
    res5 = "roi_heads" if features == "c4" else "backbone.resnet"
    prefixes = [f"backbone.resnet.res{level}" for level in (2, 3, 4)] + [f"{res5}.res5"]
    num_blocks = tuple(_count(tensors, re.escape(prefix) + r"\.(\d+)\.conv1\.conv\.weight") for prefix in prefixes)
    basic = f"{prefixes[0]}.0.conv3.conv.weight" not in tensors
    depth = next((name for name, n in NUM_BLOCKS.items() if n == num_blocks and (name in BASIC) == basic), None)
    if depth is None:
        raise ValueError(f"blocks of res2 to res5 {num_blocks} are those of no known ResNet")
    inner = _of(tensors, f"{prefixes[0]}.0.conv2.conv.weight")
    outer = inner if basic else _of(tensors, f"{prefixes[0]}.0.conv3.conv.weight")
    groups = 1 if basic else inner.shape[0] // inner.shape[1]
    res2_channels = outer.shape[0] // (1 if basic else 4)
    name = f"resnet{depth}"
    if groups > 1:
        name = f"resnext{depth}_{groups}x{inner.shape[0] * 64 // (res2_channels * groups)}d"
    elif not basic and inner.shape[0] != res2_channels:
        raise ValueError(f"{prefixes[0]}.0.conv2 has {inner.shape[0]} channels, a ResNet's has {res2_channels}")
    values = {
        "name": name,
        "features": features,
        "norm": _norm(tensors, STEM + ".norm") if num_frozen_stages(tensors) == 0 else "batch_norm",
        "stem_channels": _of(tensors, f"{STEM}.conv.weight").shape[0],
        "res2_channels": res2_channels,
    }
    if values["norm"] == "none":
        raise ValueError(f"{STEM}.norm is missing: a backbone without normalisation is unknown")
    if features == "fpn":
        values["fpn_channels"] = _of(tensors, "backbone.lateral.0.conv.weight").shape[0]
        values["fpn_norm"] = _head_norm(tensors, "backbone.lateral.0.norm")
    return values


def _box_head(tensors: Tensors, features: str, num_classes: int) -> dict[str, Any]:
    agnostic = num_classes > 1 and _of(tensors, "roi_heads.box_head.deltas.weight").shape[0] == 4
    values: dict[str, Any] = {"class_agnostic": agnostic}
    if features == "c4":
        return values | {"name": "res5"}
    prefix = "roi_heads.box_head"
    num_convs = _count_convs(tensors, prefix)
    first = _of(tensors, f"{prefix}.fc1.weight")
    channels = _of(tensors, "rpn.head.convs.0.weight").shape[0]
    if num_convs:
        channels = tensors[f"{prefix}.convs.0.weight"].shape[0]
        values |= {"conv_channels": channels, "norm": _head_norm(tensors, f"{prefix}.convs.1")}
    side = math.isqrt(first.shape[1] // channels)
    if side * side * channels != first.shape[1]:
        raise ValueError(f"{prefix}.fc1.weight takes {first.shape[1]} values: no square grid of {channels} channels")
    num_fcs = _count(tensors, r"roi_heads\.box_head\.fc(\d+)\.weight")
    return values | {
        "pool_size": side,
        "num_convs": num_convs,
        "num_fcs": num_fcs,
        "hidden_channels": first.shape[0],
    }


def _mask_head(tensors: Tensors, num_classes: int) -> dict[str, Any]:
    prefix = "roi_heads.mask_head"
    agnostic = num_classes > 1 and tensors[f"{prefix}.predictor.weight"].shape[0] == 1
    num_convs = _count_convs(tensors, prefix)
    return {
        "channels": _of(tensors, f"{prefix}.deconv.weight").shape[1],
        "num_convs": num_convs,
        "norm": _head_norm(tensors, f"{prefix}.convs.1") if num_convs else "none",
        "output": "class_agnostic" if agnostic else "per_class_sigmoid",
    }


def _norm(tensors: Tensors, prefix: str) -> str:
    """Which normalisation the tensors under a name are of; its statistics are constant where no counter is."""
    if f"{prefix}.weight" not in tensors:
        return "none"
    if f"{prefix}.running_mean" not in tensors:
        return "group_norm"
    return "batch_norm" if f"{prefix}.num_batches_tracked" in tensors else "frozen_batch_norm"


def _head_norm(tensors: Tensors, prefix: str) -> str:
    norm = _norm(tensors, prefix)
    if norm == "frozen_batch_norm":
        raise ValueError(f"{prefix}: batch norm without num_batches_tracked is known of backbones alone")
    return norm


def _count_convs(tensors: Tensors, prefix: str) -> int:
    """Convolutions under `prefix`.convs, which stand between norms and activations and have four axes."""
    pattern = re.compile(re.escape(prefix) + r"\.convs\.\d+\.weight")
    return sum(1 for name, tensor in tensors.items() if pattern.fullmatch(name) and tensor.ndim == 4)


def _count(tensors: Tensors, pattern: str) -> int:
    """How many tensors have names of a pattern."""
    return sum(1 for name in tensors if re.fullmatch(pattern, name))


def _of(tensors: Tensors, name: str) -> Tensor:
    if name not in tensors:
        raise ValueError(f"{name} is missing")
    return tensors[name]
