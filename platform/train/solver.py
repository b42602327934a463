"""The solver: SGD of the paper or AdamW, decay and learning rate by kind of parameter, and a learning rate by step."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from maskray.model.backbone.bottom_up import BottomUp
from maskray.model.mask_rcnn import MaskRCNN
from maskray.platform.job.train_config import TrainConfig

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
FACTOR = "lr_factor"  # in a parameter group: what its learning rate is of that of the schedule


class _Group(NamedTuple):
    """What parameters of one group have in common; groups stand in the order of these."""

    kind: int  # 0 weights (and biases, where nothing is said of them), 1 biases, 2 parameters of norms
    factor: float


def learning_rate(config: TrainConfig, step: int) -> float:
    """Learning rate of step `step`, counted from 0 (paper, section 3.1; warm-up and scaling of Goyal et al. 2017).

    Linear from warmup_factor x lr at step 0 to lr at step warmup_steps. Schedule steps: times `decay` from every step
    in decay_at on, so that decay_at 60000 decays after 60000 steps have been taken. Schedule cosine (Loshchilov &
    Hutter 2017, equation 5, no restarts): half a cosine from lr at the end of warm-up to final_factor x lr after the
    last step. A function of the step alone: nothing to resume.
    """
    if config.schedule == "cosine":
        length = max(1, config.num_steps - config.warmup_steps)
        done = min(1.0, max(0, step - config.warmup_steps) / length)
        final = config.final_factor
        rate = config.lr * (final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * done)))
    else:
        rate = config.lr * config.decay ** bisect.bisect_right(config.decay_at, step)
    if step < config.warmup_steps:
        progress = step / config.warmup_steps
        rate *= config.warmup_factor * (1.0 - progress) + progress
    return rate


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over the trainable parameters, in groups of one weight decay and one factor of the learning rate.

    Weights have weight_decay, biases weight_decay_bias where it is given, norm parameters weight_decay_norm; the
    backbone of a MaskRCNN has its own learning rate: see learning_rate_factors. The order of the parameters is that of
    the modules, so optimizer state loads into a model built from the same configuration. A model without a trainable
    parameter is a ValueError. `model` is the bare module.
    """
    members: dict[_Group, list[nn.Parameter]] = {}
    factors = learning_rate_factors(model, config)
    for name, parameter, module in _trainable(model):
        kind = 2 if isinstance(module, NORMS) else int(config.weight_decay_bias is not None and name.endswith("bias"))
        members.setdefault(_Group(kind, factors.get(name, 1.0)), []).append(parameter)
    if not members:
        raise ValueError(
            "the model has no trainable parameter: train.freeze and model.backbone.freeze_stages freeze all there is"
        )
    decays = (config.weight_decay, config.weight_decay_bias, config.weight_decay_norm)
    groups: list[dict[str, Any]] = [
        {"params": members[group], "weight_decay": decays[group.kind], FACTOR: group.factor}
        for group in sorted(members)
    ]
    rate = learning_rate(config, 0)
    optimizer: torch.optim.Optimizer
    if config.optimizer.name == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=rate, betas=config.optimizer.betas, eps=config.optimizer.eps)
    else:
        optimizer = torch.optim.SGD(groups, lr=rate, momentum=config.sgd_momentum, nesterov=config.optimizer.nesterov)
    set_learning_rate(optimizer, rate)
    return optimizer


def learning_rate_factors(model: nn.Module, config: TrainConfig) -> dict[str, float]:
    """What the learning rate of each parameter of a backbone is of that of the schedule, by name; empty for 1.

    backbone_lr_factor, times layer_decay in the last stage, once more in the one before it, and so on to the stem
    (Clark et al. 2020, by stage in place of layer). ValueError where the stages are not known.
    """
    if config.backbone_lr_factor == config.layer_decay == 1.0 or not isinstance(model, MaskRCNN):
        return {}
    factors: dict[str, float] = {}
    for place, backbone in (("backbone", model.backbone), ("rpn_backbone", model.rpn_backbone)):
        if backbone is None:
            continue
        network = backbone.get_submodule(backbone.bottom_up_name)
        assert isinstance(network, BottomUp)
        depths = {name: 0 for name, _ in network.named_parameters()}
        if config.layer_decay < 1.0:
            stages = network.parameter_stages()
            depths = {name: max(stages.values()) + 1 - stage for name, stage in stages.items()}
        for name, depth in depths.items():
            factor = config.backbone_lr_factor * config.layer_decay**depth
            factors[f"{place}.{backbone.bottom_up_name}.{name}"] = factor
    return factors


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the learning rate times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(FACTOR, 1.0)  # groups of older checkpoints have none


def _trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Module]]:
    """Name, parameter and the module it belongs to, of each that has a gradient, once."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                yield f"{prefix}.{name}" if prefix else name, parameter, module
