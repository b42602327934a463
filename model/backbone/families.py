"""The families of backbones, and what is built of them: a network of a family below a pyramid or with its last map."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from maskray.model.backbone.bottom_up import BottomUp, StageHead
from maskray.model.backbone.fpn import FPN
from maskray.model.backbone.resnet import ResNet, build_res5_head
from maskray.model.backbone.single_map import SingleMap
from maskray.model.backbone.timm_network import TimmNetwork
from maskray.model.backbone_config import BackboneConfig


class Family(NamedTuple):
    """How the network of a configuration is built, and its last stage where that can be the head of a region."""

    build: Callable[[BackboneConfig], BottomUp]
    build_stage_head: Callable[[BackboneConfig, int], StageHead] | None = None


# By BackboneConfig.family, which is also the name under which the weights of the network stand: backbone.resnet.*
FAMILIES = {
    "resnet": Family(ResNet, build_res5_head),
    "timm": Family(TimmNetwork),
}


def build_backbone(config: BackboneConfig) -> FPN | SingleMap:
    """A module from normalised images to a list of maps, with their `channels` and `strides` in pixels.

    Raises ValueError where the network is unknown or cannot be built.
    """
    network = FAMILIES[config.family].build(config)
    if config.features != "fpn":
        return SingleMap(network, name=config.family)
    return FPN(
        network,
        name=config.family,
        channels=config.fpn_channels,
        norm=config.fpn_norm,
        norm_eps=config.norm_eps,
        gradient_checkpointing=config.gradient_checkpointing != "none",
    )


def build_stage_head(config: BackboneConfig, stride: int) -> StageHead:
    """The stage that the backbone leaves to the head of a region, its first block of `stride`."""
    build = FAMILIES[config.family].build_stage_head
    assert build is not None, f"check_combination lets {config.family} have no such head"
    return build(config, stride)
