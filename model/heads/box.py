"""Box head: two fully connected layers, class scores and box offsets (paper, Figure 4 right), and its losses.

Letters: K boxes of the batch, C classes without background, S side of the pooled grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskray.model.boxes.losses import box_regression_loss
from maskray.model.config import BoxHeadConfig


class BoxHead(nn.Module):
    """Scores (K, C + 1), background last, and offsets (K, C, 4), or (K, 1, 4) when class agnostic."""

    def __init__(self, config: BoxHeadConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.fc1 = nn.Linear(in_channels * config.pool_size**2, config.hidden_channels)
        self.fc2 = nn.Linear(config.hidden_channels, config.hidden_channels)
        self.classifier = nn.Linear(config.hidden_channels, num_classes + 1)
        self.deltas = nn.Linear(config.hidden_channels, 4 if config.class_agnostic else 4 * num_classes)
        nn.init.kaiming_uniform_(self.fc1.weight, a=1)
        nn.init.kaiming_uniform_(self.fc2.weight, a=1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        for layer in (self.fc1, self.fc2, self.classifier, self.deltas):
            nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (K, channels, S, S) to logits (K, C + 1) and offsets (K, C or 1, 4), float32."""
        hidden = F.relu(self.fc1(pooled.flatten(1)), inplace=True)
        hidden = F.relu(self.fc2(hidden), inplace=True)
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
