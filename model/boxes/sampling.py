"""Random choice of the boxes that enter a loss, for all images at once and reproducible from a generator.

Letters: N images, R boxes per image, S samples per image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from maskray.ops.match_boxes import NEGATIVE, POSITIVE


class Samples(NamedTuple):
    """Chosen boxes of each image, (N, S): positives first, then negatives, then padding."""

    indices: Tensor  # int64 in 0..R-1
    is_positive: Tensor  # bool
    is_valid: Tensor  # bool; False is padding, where an image has fewer boxes than asked for


def sample_boxes(
    labels: Tensor, *, num_samples: int, positive_fraction: float, generator: torch.Generator | None
) -> Samples:
    """Draw `num_samples` boxes per image without replacement, at most `positive_fraction` of them positive.

    labels (N, R): 1 positive, 0 negative, anything else is never drawn. Negatives fill what positives leave open;
    S = min(num_samples, R). The draw depends on the generator alone (None: torch's global one of the device).
    """
    num_images, num_boxes = labels.shape
    size = min(num_samples, num_boxes)
    max_positive = min(int(num_samples * positive_fraction), size)
    keys_device = labels.device if generator is None else generator.device
    keys = torch.rand(num_images, num_boxes, generator=generator, device=keys_device).to(
        labels.device, non_blocking=True
    )
    positive_index, positive_valid = _draw(keys, labels == POSITIVE, max_positive)
    negative_index, negative_valid = _draw(keys, labels == NEGATIVE, size)
    room = num_samples - positive_valid.sum(dim=1, keepdim=True)
    negative_valid &= torch.arange(size, device=labels.device) < room

    index = torch.cat([positive_index, negative_index], dim=1)
    valid = torch.cat([positive_valid, negative_valid], dim=1)
    # Stable: positives stay before negatives, padding goes to the end; no more than `size` are valid.
    order = torch.sort(valid.to(torch.uint8), dim=1, descending=True, stable=True).indices[:, :size]
    valid = valid.gather(1, order)
    return Samples(index.gather(1, order), (order < max_positive) & valid, valid)


def _draw(keys: Tensor, eligible: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` eligible boxes of largest key: index (N, count) and whether there was one."""
    values, index = torch.where(eligible, keys, -1.0).topk(count, dim=1)
    return index, values >= 0
