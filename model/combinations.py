"""Which parts of a model go together: the defaults that a backbone or a task brings, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from maskray.model.backbone_config import BackboneConfig
    from maskray.model.config import InferenceConfig, ModelConfig

NUM_PYRAMID_LEVELS = 5  # P2..P6
MANY_PROPOSALS = {"pre_nms_top_n_train": 12000, "pre_nms_top_n_test": 6000, "post_nms_top_n_train": 2000}
# All proposals of one map come from one top-k, hence more of them (Ren et al. 2015). Of C4, as in the paper's section
# 3.1: 64 sampled boxes, 300 proposals, and a mask branch that is the deconvolution alone (Figure 4 left).
_OF_FEATURES: dict[str, dict[str, dict[str, Any]]] = {
    "c4": {
        "rpn": MANY_PROPOSALS | {"post_nms_top_n_test": 300},
        "box_head": {"name": "res5", "samples_per_image": 64},
        "mask_head": {"num_convs": 0},
    },
    "c5": {"rpn": MANY_PROPOSALS},
    "dc5": {"rpn": MANY_PROPOSALS},
}
OF_KEYPOINTS: dict[str, dict[str, Any]] = {
    "rpn": {"post_nms_top_n_train": 1500},
    "box_head": {"box_loss": "smooth_l1", "smooth_l1_beta": 0.5},
}


def with_defaults(values: Any) -> Any:
    """The keys of a model with those defaults filled in that its features and keypoints bring.

    What is given stays; a part that is given as a finished configuration is complete and stays whole.
    """
    if not isinstance(values, Mapping):
        return values
    backbone = values.get("backbone", {})
    features = backbone.get("features", "fpn") if isinstance(backbone, Mapping) else getattr(backbone, "features", "")
    chosen = _OF_FEATURES.get(features, {}) if isinstance(features, str) else {}
    filled = dict(values)
    for defaults in (chosen, OF_KEYPOINTS if values.get("keypoints") is True else {}):
        for part, settings in defaults.items():
            given = filled.get(part, {})
            if isinstance(given, Mapping) and given.get("name") != "mlp":  # which has no convolutions to count
                filled[part] = settings | dict(given)
    return filled


def check_combination(config: ModelConfig) -> None:
    """Raise ValueError, naming the keys, where parts of the model do not fit one another or one has no effect."""
    backbone, box_head, mask_head = config.backbone, config.box_head, config.mask_head
    features = backbone.features
    _check_backbone(backbone)
    if features == "fpn" and len(config.anchors.sizes) != NUM_PYRAMID_LEVELS:
        raise ValueError(
            f"anchors.sizes: a pyramid takes {NUM_PYRAMID_LEVELS} sizes, one per level, not {len(config.anchors.sizes)}"
        )
    if features != "fpn":
        _refuse(backbone, "backbone", ("fpn_channels", "fpn_norm"), f"backbone.features {features} has no pyramid")
        _refuse(config.roi_op, "roi_op", ("level_rule",), f"backbone.features {features} has one level")
    if (box_head.name == "res5") != (features == "c4"):
        raise ValueError(
            "box_head.name res5 belongs to backbone.features c4, which leaves res5 to the head: "
            f"box_head.name is {box_head.name}, backbone.features is {features}"
        )
    if box_head.name == "res5":
        unused = ("num_convs", "conv_channels", "norm", "num_fcs", "hidden_channels")
        _refuse(box_head, "box_head", unused, "box_head.name res5 has no such layers")
        _refuse(mask_head, "mask_head", ("pool_size",), "box_head.name res5 pools once, by box_head.pool_size")
        if box_head.pool_size % box_head.res5_stride:
            raise ValueError(f"box_head.pool_size {box_head.pool_size} is odd: res5_stride 2 needs an even one")
    else:
        _refuse(box_head, "box_head", ("res5_stride",), "box_head.name is fc")
    if box_head.num_convs == 0:
        _refuse(box_head, "box_head", ("conv_channels", "norm"), "box_head.num_convs is 0")
    if mask_head.name == "mlp":
        _refuse(mask_head, "mask_head", ("channels", "num_convs", "norm"), "mask_head.name mlp has no convolutions")
    else:
        _refuse(mask_head, "mask_head", ("mlp_channels",), "mask_head.name is fcn")
    _check_nms(config.inference)


def _check_nms(inference: InferenceConfig) -> None:
    if inference.nms.name == "hard":
        return
    if inference.nms.method == "linear":
        _refuse(inference.nms, "inference.nms", ("sigma",), "inference.nms.method is linear")
    else:
        _refuse(inference, "inference", ("nms_iou",), "inference.nms.method gaussian has no threshold")


def _check_backbone(backbone: BackboneConfig) -> None:
    {"resnet": _check_resnet, "timm": _check_timm}[backbone.family](backbone)


def _check_resnet(backbone: BackboneConfig) -> None:
    if backbone.norm == "own":
        raise ValueError(f"backbone.norm own is for networks of timm, {backbone.name} is none")
    groups, width_per_group = backbone.groups
    if groups > 1 and backbone.res2_channels * width_per_group % 64:
        raise ValueError(
            f"backbone.res2_channels {backbone.res2_channels} gives no whole number of channels to each of the "
            f"{groups} groups of {backbone.name}"
        )
    if backbone.name in ("resnet18", "resnet34"):
        _refuse(backbone, "backbone", ("stride_in_1x1",), f"{backbone.name} has no 1x1 convolutions")
    counted = {backbone.norm, backbone.fpn_norm} & {"batch_norm", "sync_batch_norm"}
    if backbone.gradient_checkpointing != "none" and counted:
        raise ValueError(
            f"backbone.gradient_checkpointing runs layers twice, and {counted.pop()} would count its statistics twice: "
            "use frozen_batch_norm or group_norm"
        )


def _check_timm(backbone: BackboneConfig) -> None:
    if backbone.features != "fpn":
        raise ValueError(f"backbone.features is {backbone.features}: a network of timm takes fpn alone")
    if backbone.gradient_checkpointing != "none":
        raise ValueError(
            f"backbone.gradient_checkpointing is {backbone.gradient_checkpointing}: not supported for networks of timm"
        )
    if backbone.norm == "group_norm":
        raise ValueError(
            "backbone.norm is group_norm: that of a network of timm can be own, frozen_batch_norm, batch_norm or "
            "sync_batch_norm"
        )
    unused = ("non_local", "fold_norm", "norm_eps", "stem_channels", "res2_channels", "stride_in_1x1")
    _refuse(backbone, "backbone", unused, f"{backbone.name} is built by timm")


def _refuse(part: BaseModel, name: str, keys: tuple[str, ...], reason: str) -> None:
    """ValueError for a key that has no effect and is not at its default: who set it expects one."""
    for key in keys:
        value, default = getattr(part, key), type(part).model_fields[key].default
        if value != default:
            raise ValueError(f"{name}.{key} {value} has no effect: {reason}")
