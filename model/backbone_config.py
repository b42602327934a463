"""The backbone of a model by name: which network, what of it is trained, and what stands on it."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from maskray.model.config_base import Channels, Config, HeadNorm

ResNetName = Literal[
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnext50_32x4d", "resnext50_32x8d", "resnext50_64x4d",
    "resnext101_32x4d", "resnext101_32x8d", "resnext101_64x4d",
    "resnext152_32x4d", "resnext152_32x8d", "resnext152_64x4d",
]  # fmt: skip
TimmName = Annotated[str, Field(max_length=100, pattern=r"^timm:[a-z0-9_]+$")]
# The defaults that a family of networks brings.
OF_FAMILY: dict[str, dict[str, Any]] = {"timm": {"norm": "own"}}


def _in_one_line(value: Any, check: ValidatorFunctionWrapHandler) -> str:
    """The name; where no family has it one error, and not one for each family."""
    try:
        return str(check(value))
    except ValueError:
        names = ", ".join(repr(name) for name in typing.get_args(ResNetName))
        raise ValueError(f"Input should be {names} or timm:ARCHITECTURE, such as timm:convnext_tiny") from None


class BackboneConfig(Config):
    """A network with a feature pyramid (Lin et al. 2017) or one map: ResNet, ResNeXt (paper, section 3), or of timm.

    A key that the family of the network has no use for is refused: see model/combinations.py.
    """

    name: Annotated[ResNetName | TimmName, WrapValidator(_in_one_line)] = Field(
        "resnet50", description="ResNet, ResNeXt, or timm:ARCHITECTURE such as timm:convnext_tiny (maskray[timm])."
    )
    features: Literal["fpn", "c4", "c5", "dc5"] = Field(
        "fpn",
        description="fpn: P2..P6; c4: res4, stride 16, and res5 is the box head; c5: res5, stride 32; "
        "dc5: res5 dilated, stride 16.",
    )
    non_local: bool = Field(
        False, description="A non-local block before the last block of res4 (Wang et al. 2018, embedded Gaussian)."
    )
    gradient_checkpointing: Literal["none", "large_maps", "all"] = Field(
        "none",
        description="Stages and pyramid that the backward pass computes again instead of keeping them; large_maps: "
        "all but res4 and res5, which take most of the time.",
    )
    norm: Literal["frozen_batch_norm", "batch_norm", "sync_batch_norm", "group_norm", "own"] = Field(
        "frozen_batch_norm",
        description="Normalisation of the backbone; group_norm is what trains from nothing. own: as a network of timm "
        "has it, the default there; the kinds of batch norm are for networks that have batch norm.",
    )
    fold_norm: bool = Field(
        True, description="Frozen batch norm inside the weights of its convolution; false rounds as the others do."
    )
    norm_eps: float = Field(1e-5, ge=0, description="Epsilon of the normalisation, stored with the weights.")
    stem_channels: Channels = Field(64, description="Channels of the stem.")
    res2_channels: Channels = Field(
        64, description="Width of res2, doubled by each later stage; a bottleneck puts out four times as many."
    )
    stride_in_1x1: bool = Field(False, description="Stride in the first 1x1 of a bottleneck (MSRA weights).")
    freeze_stages: int = Field(
        2,
        ge=0,
        le=5,
        description="Stages without gradient, from the stem: 0 none, 1 stem, 2 stem and res2 (in general what ends "
        "with the map of stride 4), ...",
    )
    fpn_channels: Channels = Field(256, description="Channels of every level of the pyramid.")
    fpn_norm: HeadNorm = Field("none", description="Normalisation in the pyramid.")

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return OF_FAMILY.get(_family(str(values.get("name", ""))), {}) | dict(values)

    @property
    def family(self) -> str:
        """Whose networks these are: what stands before the colon of the name, resnet where there is none."""
        return _family(self.name)

    @property
    def architecture(self) -> str:
        """Name of the network in its family: resnet50, convnext_tiny."""
        return self.name.rpartition(":")[2]

    @property
    def groups(self) -> tuple[int, int]:
        """Groups of the 3x3 convolutions and channels of each in res2 at res2_channels 64; (1, 64) is a ResNet."""
        _, _, shape = self.name.partition("_")
        groups, _, width = shape.removesuffix("d").partition("x")
        return (int(groups), int(width)) if shape else (1, 64)

    @property
    def size_divisor(self) -> int:
        """What height and width of a batch must divide by: a level of a pyramid is exactly twice the one above."""
        return 32 if self.features == "fpn" else 1


def _family(name: str) -> str:
    return name.partition(":")[0] if ":" in name else "resnet"
