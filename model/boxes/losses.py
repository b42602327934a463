"""Box regression loss by name."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def box_regression_loss(pred: Tensor, target: Tensor, *, name: str, beta: float) -> Tensor:
    """Loss per coordinate, same shape as `pred`, in float32: |x| for l1; smooth_l1 is quadratic below `beta`."""
    if name == "smooth_l1":
        return F.smooth_l1_loss(pred.float(), target, beta=beta, reduction="none")
    assert name == "l1", name
    return F.l1_loss(pred.float(), target, reduction="none")
