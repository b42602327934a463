"""Mask heads, convolutional (paper, Figure 4) and fully connected (Table 2e), with their losses and probabilities.

Letters: K boxes of the batch, C classes, S side of the pooled grid, m = 2 S side of the mask, O masks that the head
puts out per box (C; 1 when class agnostic; C + 1 with the background last for softmax).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from maskray.model.config import MaskHeadConfig
from maskray.model.heads.chunks import run_in_chunks
from maskray.model.heads.conv_stack import build_conv_stack, init_convs


class FCNMaskHead(nn.Module):
    """Convolutions and a deconvolution: logits (K, O, m, m) of the masks inside the boxes."""

    def __init__(self, config: MaskHeadConfig, in_channels: int, num_outputs: int) -> None:
        super().__init__()
        self.convs = build_conv_stack(in_channels, config.channels, config.num_convs, config.norm)
        last = config.channels if config.num_convs else in_channels
        self.deconv = nn.ConvTranspose2d(last, config.channels, 2, stride=2)
        self.predictor = nn.Conv2d(config.channels, num_outputs, 1)
        init_convs(self)
        nn.init.normal_(self.predictor.weight, std=0.001)

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled features (K, channels, S, S) to logits (K, O, m, m), float32."""
        return run_in_chunks(self._logits, pooled).float()

    def _logits(self, pooled: Tensor) -> Tensor:
        logits: Tensor = self.predictor(F.relu(self.deconv(self.convs(pooled)), inplace=True))
        return logits


class MLPMaskHead(nn.Module):
    """Fully connected layers: the same logits, each pixel with weights of its own."""

    def __init__(self, config: MaskHeadConfig, in_channels: int, num_outputs: int, pool_size: int) -> None:
        super().__init__()
        self.mask_shape = (num_outputs, 2 * pool_size, 2 * pool_size)
        layers: list[nn.Module] = []
        width = in_channels * pool_size**2
        for channels in config.mlp_channels:
            layers += [nn.Linear(width, channels), nn.ReLU(inplace=True)]
            width = channels
        self.fcs = nn.Sequential(*layers)
        self.predictor = nn.Linear(width, num_outputs * (2 * pool_size) ** 2)
        for layer in self.fcs:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_uniform_(layer.weight, a=1)
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled features (K, channels, S, S) to logits (K, O, m, m), float32."""
        return self.predictor(self.fcs(pooled.flatten(1))).unflatten(1, self.mask_shape).float()


def build_mask_head(
    config: MaskHeadConfig, in_channels: int, pool_size: int, num_classes: int
) -> FCNMaskHead | MLPMaskHead:
    """The mask head of a configuration on a grid (in_channels, pool_size, pool_size)."""
    num_outputs = {"per_class_sigmoid": num_classes, "class_agnostic": 1, "softmax": num_classes + 1}[config.output]
    if config.name == "mlp":
        return MLPMaskHead(config, in_channels, num_outputs, pool_size)
    return FCNMaskHead(config, in_channels, num_outputs)


def select_class(logits: Tensor, classes: Tensor) -> Tensor:
    """The mask (K, m, m) of one class per box, of logits (K, C, m, m) and classes (K,)."""
    index = classes[:, None, None, None].expand(-1, 1, *logits.shape[2:])
    return logits.gather(1, index).squeeze(1)


def mask_probabilities(logits: Tensor, classes: Tensor, output: str) -> Tensor:
    """Probability (K, m, m) that a pixel belongs to the object, of logits (K, O, m, m) and predicted classes (K,)."""
    if output == "softmax":
        return select_class(logits.softmax(dim=1), classes)
    return (logits.squeeze(1) if output == "class_agnostic" else select_class(logits, classes)).sigmoid()


def mask_loss(logits: Tensor, classes: Tensor, target_masks: Tensor, output: str = "per_class_sigmoid") -> Tensor:
    """Mean over pixels of the cross entropy; 0 with a gradient when there are no boxes.

    logits (K, O, m, m), classes (K,), target_masks (K, m, m) in 0..1. Sigmoid outputs: binary, of the true class's mask
    or the only one. softmax: of all classes and the background, which is what the target leaves (Table 2b).
    """
    target = target_masks.float()
    if output == "softmax":
        log_probability = logits.log_softmax(dim=1)
        inside, outside = select_class(log_probability, classes), log_probability[:, -1]
        total = -(target * inside + (1 - target) * outside).sum()
    else:
        chosen = logits.squeeze(1) if output == "class_agnostic" else select_class(logits, classes)
        total = F.binary_cross_entropy_with_logits(chosen, target, reduction="sum")
    return total / max(1, target.numel())
