"""Keypoint head: a one-hot heat map per keypoint (paper, section 5), its loss, and where the peaks lie.

Letters: R boxes, K keypoints, S side of the pooled grid, m = 4 S side of the heat maps, w h width and height of a box.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskray.model.config import KeypointHeadConfig
from maskray.model.heads.chunks import run_in_chunks
from maskray.model.heads.conv_stack import build_conv_stack, init_convs

# Heat maps are resized to the size of their boxes; this many values (64 MiB) are held at once.
MAX_VALUES = 16 * 1024 * 1024
CUBIC = -0.75  # of the cubic convolution, as in F.interpolate and OpenCV


class KeypointHead(nn.Module):
    """Logits (R, K, m, m) over the positions inside the boxes."""

    def __init__(self, config: KeypointHeadConfig, in_channels: int) -> None:
        super().__init__()
        self.convs = build_conv_stack(in_channels, config.channels, config.num_convs)
        self.deconv = nn.ConvTranspose2d(config.channels, config.num_keypoints, 4, stride=2, padding=1)
        init_convs(self)

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled features (R, channels, S, S) to logits (R, K, m, m), float32."""
        maps = run_in_chunks(lambda part: self.deconv(self.convs(part)), pooled).float()
        return F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)


def keypoint_loss(logits: Tensor, keypoints: Tensor, boxes: Tensor) -> Tensor:
    """Mean cross entropy of the softmax over m x m positions, of the labelled keypoints inside their box alone.

    logits (R, K, m, m); keypoints (R, K, 3) x y in pixels and visibility, of which 0 is not labelled; boxes (R, 4).
    0 with a gradient where there is none.
    """
    side = logits.shape[-1]
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)[:, None]
    offsets = keypoints[..., :2] - boxes[:, None, :2]
    cell = torch.floor(offsets / sides * side)
    cell = torch.where(offsets == sides, side - 1.0, cell)  # the far border belongs to the last cell
    used = (keypoints[..., 2] > 0) & (cell >= 0).all(dim=2) & (cell < side).all(dim=2)
    cell = torch.where(used[..., None], cell, 0.0).long()
    position = cell[..., 1] * side + cell[..., 0]
    entropy = -logits.flatten(2).log_softmax(dim=2).gather(2, position[..., None]).squeeze(2)
    return torch.where(used, entropy, 0.0).sum() / used.sum().clamp(min=1)


@torch.no_grad()
def decode_keypoints(logits: Tensor, boxes: Tensor, score: str = "probability", max_values: int = MAX_VALUES) -> Tensor:
    """The peak of each heat map resized bicubically to whole pixels of its box, (R, K, 3): x y in pixels and score.

    logits (R, K, m, m), boxes (R, 4), both float32. The score is the peak's value in the softmax over the m x m
    positions, or its logit. Boxes of similar size are resized together, at most `max_values` values at once.
    """
    return place_peaks(find_peaks(logits, whole_sizes(boxes), max_values), logits, boxes, score)


def whole_sizes(boxes: Tensor) -> Tensor:
    """Width and height of boxes (R, 4) in whole pixels, rounded up and at least 1, int64 (R, 2)."""
    return _sizes(boxes).ceil().long()


def find_peaks(logits: Tensor, whole: Tensor, max_values: int = MAX_VALUES) -> Tensor:
    """Column, row and value, (R, K, 3), of the peaks of heat maps resized to `whole` (R, 2) width and height."""
    num_boxes, num_keypoints, side, _ = logits.shape
    peaks = logits.new_zeros(num_boxes, num_keypoints, 3)
    order = whole.prod(dim=1).argsort()
    for rows in _chunks(order, whole[order], num_keypoints, max_values):
        width, height = (int(length) for length in whole[rows].amax(dim=0))
        across = _cubic_weights(whole[rows, 0], width, side)
        down = _cubic_weights(whole[rows, 1], height, side)
        resized = down[:, None] @ logits[rows] @ across[:, None].transpose(2, 3)
        outside = _beyond(whole[rows, 1], height)[:, None, :, None] | _beyond(whole[rows, 0], width)[:, None, None, :]
        peak, index = resized.masked_fill(outside, -torch.inf).flatten(2).max(dim=2)
        peaks[rows] = torch.stack([(index % width).float(), (index // width).float(), peak], dim=2)
    return peaks


def place_peaks(peaks: Tensor, logits: Tensor, boxes: Tensor, score: str) -> Tensor:
    """Keypoints (R, K, 3) from what find_peaks returns for these logits (R, K, m, m) and boxes (R, 4)."""
    sizes = _sizes(boxes)
    position = (peaks[..., :2] + 0.5) * (sizes / whole_sizes(boxes))[:, None] + boxes[:, None, :2]
    value = peaks[..., 2:]
    if score == "probability":
        highest = logits.flatten(2).amax(dim=2, keepdim=True)  # no logsumexp: it asks whether there are any boxes
        value = (value - highest).exp() / (logits.flatten(2) - highest).exp().sum(dim=2, keepdim=True)
    return torch.cat([position, value], dim=2)


def _sizes(boxes: Tensor) -> Tensor:
    """Width and height (R, 2) in pixels, at least 1."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)


def _chunks(order: Tensor, whole: Tensor, num_keypoints: int, max_values: int) -> list[Tensor]:
    """`order` in pieces, each of which fits when all its boxes are padded to the widest and highest of it."""
    pieces, start, width, height = [], 0, 0, 0
    for end, (w, h) in enumerate(whole.tolist()):
        width, height = max(width, w), max(height, h)
        if end > start and (end + 1 - start) * num_keypoints * width * height > max_values:
            pieces.append(order[start:end])
            start, width, height = end, w, h
    return [*pieces, order[start:]] if len(order) else []


def _beyond(lengths: Tensor, longest: int) -> Tensor:
    """Which of `longest` pixels lie beyond each of the lengths (R,), (R, longest) bool."""
    return torch.arange(longest, device=lengths.device) >= lengths[:, None]


def _cubic_weights(lengths: Tensor, longest: int, side: int) -> Tensor:
    """Weights (R, longest, side) that resize `side` values to each of the lengths (R,) by cubic convolution.

    Keys 1981 with the borders repeated; rows beyond a length mean nothing.
    """
    pixel = torch.arange(longest, device=lengths.device, dtype=torch.float32)
    position = (pixel + 0.5) * (side / lengths[:, None].float()) - 0.5
    first = position.floor()
    near = position - first
    far = 1 - near
    taps = torch.stack([_outer(1 + near), _inner(near), _inner(far), _outer(1 + far)], dim=2)
    offsets = torch.arange(-1, 3, device=lengths.device)
    index = (first.long()[..., None] + offsets).clamp(0, side - 1)
    return taps.new_zeros(len(lengths), longest, side).scatter_add_(2, index, taps)


def _inner(x: Tensor) -> Tensor:
    """The cubic kernel at distance x in 0..1."""
    return ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1


def _outer(x: Tensor) -> Tensor:
    """The cubic kernel at distance x in 1..2."""
    return ((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC
