"""What training does, in the words of the plan."""

from __future__ import annotations

from collections.abc import Sequence

from maskray.platform.job.train_config import TrainConfig


def describe_optimizer(train: TrainConfig) -> str:
    """Optimizer, decay, factors of the backbone and average as one line."""
    if train.optimizer.name == "adamw":
        parts = [f"adamw, betas {train.optimizer.betas[0]:g} and {train.optimizer.betas[1]:g}"]
    else:
        parts = [f"sgd, momentum {train.sgd_momentum:g}{' (Nesterov)' if train.optimizer.nesterov else ''}"]
    decay = f"weight decay {train.weight_decay:g}, norms {train.weight_decay_norm:g}"
    if train.weight_decay_bias is not None:
        decay += f", biases {train.weight_decay_bias:g}"
    parts.append(decay)
    if train.backbone_lr_factor != 1:
        parts.append(f"learning rate of the backbone x {train.backbone_lr_factor:g}")
    if train.layer_decay != 1:
        parts.append(f"x {train.layer_decay:g} for each stage of the backbone from its last to the stem")
    if train.ema is not None:
        parts.append(f"average of the weights with decay {train.ema.decay:g}, which is evaluated and kept")
    return "; ".join(parts)


def describe_schedule(train: TrainConfig, decay_at: Sequence[int]) -> str:
    """What follows warm-up; `decay_at` are steps, empty where these are not known yet."""
    if train.schedule == "cosine":
        return f"then a cosine down to x {train.final_factor:g} at the end"
    times = ", ".join(str(step) for step in decay_at)
    if train.decay_at_epochs:
        epochs = f"{', '.join(f'{epoch:g}' for epoch in train.decay_at_epochs)} epochs"
        times = f"{times} ({epochs})" if times else epochs
    return f"x {train.decay:g} after {times}" if times else "constant after warm-up"
