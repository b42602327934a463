"""Normalisation layers by name, among them batch norm whose statistics are constants."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """Batch norm with fixed statistics and affine terms (He et al. 2017, section 3.1): everything is a buffer.

    The buffers are named as in nn.BatchNorm2d, so the weights of one load into the other.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_channels: int, *, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_channels))
        self.register_buffer("bias", torch.zeros(num_channels))
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The same as a factor and a summand per channel, (C,) each."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale

    def extra_repr(self) -> str:
        """What print(model) shows between the brackets."""
        return f"{self.weight.numel()}, eps={self.eps}"


def build_norm(name: str, num_channels: int, *, eps: float = 1e-5) -> nn.Module:
    """The normalisation layer called `name` for feature maps of `num_channels` channels.

    group_norm has 32 groups (Wu & He 2018), or the greatest common divisor where the channels do not divide by 32.
    Raises ValueError for an unknown name.
    """
    if name == "frozen_batch_norm":
        return FrozenBatchNorm2d(num_channels, eps=eps)
    if name == "batch_norm":
        return nn.BatchNorm2d(num_channels, eps=eps)
    if name == "sync_batch_norm":
        return nn.SyncBatchNorm(num_channels, eps=eps)
    if name == "group_norm":
        return nn.GroupNorm(math.gcd(32, num_channels), num_channels, eps=eps)
    if name == "none":
        return nn.Identity()
    raise ValueError(
        f"norm {name!r} is unknown; valid: none, frozen_batch_norm, batch_norm, sync_batch_norm, group_norm"
    )
