"""Box head: class scores and box offsets from pooled features (paper, Figure 4), and its losses.

Letters: K boxes of the batch, C classes without background, S side of the pooled grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskray.model.boxes.losses import box_regression_loss
from maskray.model.config import BoxHeadConfig
from maskray.model.heads.chunks import run_in_chunks
from maskray.model.heads.conv_stack import build_conv_stack, init_convs


class BoxHead(nn.Module):
    """Scores (K, C + 1), background last, and offsets (K, C, 4), or (K, 1, 4) when class agnostic.

    `in_channels` are those of the pooled grid; of a res5 head, those of what res5 makes of it.
    """

    def __init__(self, config: BoxHeadConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.convs = nn.Sequential()
        width, num_fcs = in_channels, 0  # a res5 head is averaged: there is nothing between it and the predictors
        if config.name == "fc":
            self.convs = build_conv_stack(in_channels, config.conv_channels, config.num_convs, config.norm)
            width = (config.conv_channels if config.num_convs else in_channels) * config.pool_size**2
            num_fcs = config.num_fcs
        self.fcs = [f"fc{number}" for number in range(1, num_fcs + 1)]
        for name in self.fcs:
            self.add_module(name, nn.Linear(width, config.hidden_channels))
            width = config.hidden_channels
        self.classifier = nn.Linear(width, num_classes + 1)
        self.deltas = nn.Linear(width, 4 if config.class_agnostic else 4 * num_classes)
        init_convs(self.convs)
        layers = [self.get_submodule(name) for name in self.fcs]
        for layer in layers:
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        for layer in (*layers, self.classifier, self.deltas):
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (K, channels, S, S) to logits (K, C + 1) and offsets (K, C or 1, 4), float32."""
        if self.config.name == "res5":
            hidden = pooled.mean(dim=(2, 3))
        else:
            hidden = (run_in_chunks(self.convs, pooled) if len(self.convs) else pooled).flatten(1)
        for name in self.fcs:
            hidden = F.relu(self.get_submodule(name)(hidden), inplace=True)
        return self.classifier(hidden).float(), self.deltas(hidden).unflatten(1, (-1, 4)).float()

    def losses(
        self, logits: Tensor, deltas: Tensor, classes: Tensor, target_deltas: Tensor, is_valid: Tensor
    ) -> dict[str, Tensor]:
        """Cross entropy and box loss, both over the number of valid boxes.

        classes (K,) in 0..C, C being background; target_deltas (K, 4) count where a box is not background;
        is_valid (K,) bool, False for padding. Without any valid box both are 0 with a gradient.
        """
        config = self.config
        normalizer = is_valid.sum().clamp(min=1)
        entropy = F.cross_entropy(logits, classes, reduction="none")
        column = torch.zeros_like(classes) if config.class_agnostic else classes.clamp(max=self.num_classes - 1)
        chosen = deltas.gather(1, column[:, None, None].expand(-1, 1, 4)).squeeze(1)
        box = box_regression_loss(chosen, target_deltas, name=config.box_loss, beta=config.smooth_l1_beta)
        positive = is_valid & (classes < self.num_classes)
        return {
            "loss_classifier": torch.where(is_valid, entropy, 0.0).sum() / normalizer,
            "loss_box": torch.where(positive[:, None], box, 0.0).sum() / normalizer,
        }
