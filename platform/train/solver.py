"""The solver of the paper: SGD with momentum, weight decay by kind of parameter, and a learning rate by step."""

from __future__ import annotations

import bisect

import torch
from torch import nn

from maskray.platform.job.config import TrainConfig

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Learning rate of step `step`, counted from 0 (paper, section 3.1; warm-up and scaling of Goyal et al. 2017).

    Linear from warmup_factor x lr at step 0 to lr at step warmup_steps; times `decay` from every step in decay_at on,
    so that decay_at 60000 decays after 60000 steps have been taken. A function of the step alone: nothing to resume.
    """
    rate = config.lr * config.decay ** bisect.bisect_right(config.decay_at, step)
    if step < config.warmup_steps:
        progress = step / config.warmup_steps
        rate *= config.warmup_factor * (1.0 - progress) + progress
    return rate


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    """SGD over the trainable parameters: weights and biases with weight_decay, norm parameters with weight_decay_norm.

    The order of the parameters is that of the modules, so optimizer state loads into a model built from the same
    configuration. A model without a trainable parameter is a ValueError.
    """
    ordinary: list[nn.Parameter] = []
    norm: list[nn.Parameter] = []
    seen: set[int] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                (norm if isinstance(module, NORMS) else ordinary).append(parameter)
    if not seen:
        raise ValueError("the model has no trainable parameter: model.backbone.freeze_stages freezes all there is")
    groups = [
        {"params": ordinary, "weight_decay": config.weight_decay},
        {"params": norm, "weight_decay": config.weight_decay_norm},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]], lr=learning_rate(config, 0), momentum=config.momentum
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
