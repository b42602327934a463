"""Non-local block: every position of a map looks at every other (Wang et al. 2018, equation 6, embedded Gaussian).

Letters: N images, C channels, h w height and width of the map.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from maskray.model.backbone.norm import build_norm


class NonLocal(nn.Module):
    """x + norm(out(softmax(theta(x) phi(x)) g(x))) with half the channels inside; the identity before training."""

    def __init__(self, channels: int, norm: str, eps: float) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Conv2d(channels, inner, 1)
        self.g = nn.Conv2d(channels, inner, 1)
        self.out = nn.Conv2d(inner, channels, 1, bias=False)
        self.norm = build_norm(norm, channels, eps=eps)
        for layer in (self.theta, self.phi, self.g):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        # Zero at the end makes the block the identity at first; a constant norm cannot be what learns to leave zero.
        last = self.norm.weight if isinstance(self.norm.weight, nn.Parameter) else self.out.weight
        if last is not self.out.weight:
            nn.init.kaiming_normal_(self.out.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(last)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same shape; the h w x h w weights are never held whole where the device can avoid it."""
        query, key, value = (layer(x).flatten(2).transpose(1, 2)[:, None] for layer in (self.theta, self.phi, self.g))
        seen = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.norm(self.out(seen.squeeze(1).transpose(1, 2).unflatten(2, x.shape[2:])))
