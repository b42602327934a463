"""What a family of networks offers: maps of ever coarser stride, and a stage that can serve as the head of a region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn


class BottomUp(nn.Module):
    """A network from normalised images (N, 3, H, W) to a list of maps (N, C, H / s, W / s), the finest first.

    The constructor of a family's network takes the BackboneConfig and sets both attributes, which have an entry per
    map. For H and W that are multiples of the coarsest stride the sides of the maps are exact.
    """

    out_channels: Sequence[int]
    strides: Sequence[int]  # pixels of the input per cell

    def parameter_stages(self) -> dict[str, int]:
        """Stage of each parameter by name, 1 being the stem; ValueError where the network does not tell."""
        raise NotImplementedError


class StageHead(NamedTuple):
    """The last stage of a network as the head of a region (a C4 model), and the channels that it puts out."""

    module: nn.Module
    out_channels: int
