"""Boxes as offsets from reference boxes and back (Girshick et al. 2014, appendix C), clipping and areas."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000.0 / 16)  # a 16 px anchor grows to 1000 px at most: exp() cannot overflow
MIN_SIDE_PIXELS = 1e-6  # keeps the division and the logarithm finite for boxes without area


def encode_boxes(boxes: Tensor, references: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Offsets (..., 4) dx dy dw dh that turn `references` into `boxes`, both (..., 4), times `weights`.

    dx, dy are shifts of the centre over the reference's sides; dw, dh logarithms of the ratio of the sides.
    Finite for boxes without area too.
    """
    centres, sides = _centres_and_sides(boxes)
    reference_centres, reference_sides = _centres_and_sides(references)
    sides = sides.clamp(min=MIN_SIDE_PIXELS)
    reference_sides = reference_sides.clamp(min=MIN_SIDE_PIXELS)
    shift = (centres - reference_centres) / reference_sides
    scale = torch.log(sides / reference_sides)
    return torch.cat([shift, scale], dim=-1) * _on(boxes, weights)


def decode_deltas(deltas: Tensor, references: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Boxes (..., 4) from offsets (..., 4) and broadcastable `references` (..., 4), in float32; dw, dh are capped."""
    centres, sides = _centres_and_sides(references)
    shift, scale = (deltas.float() / _on(references, weights)).split(2, dim=-1)
    new_centres = shift * sides + centres
    half = torch.exp(scale.clamp(max=MAX_LOG_SCALE)) * sides / 2
    return torch.cat([new_centres - half, new_centres + half], dim=-1)


def clip_boxes(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (..., 4) cut to [0, width] x [0, height]; `sizes` (..., 2) are height and width, broadcastable."""
    limit = sizes.flip(-1).to(boxes.dtype)
    return boxes.clamp(min=0).minimum(torch.cat([limit, limit], dim=-1))


def box_areas(boxes: Tensor) -> Tensor:
    """Areas (...) in square pixels of boxes (..., 4); 0 where a side is negative."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union (..., P, Q) of boxes (..., P, 4) and others (..., Q, 4); 0 where the union is empty."""
    top_left = torch.maximum(boxes[..., :, None, :2], others[..., None, :, :2])
    bottom_right = torch.minimum(boxes[..., :, None, 2:], others[..., None, :, 2:])
    sides = (bottom_right - top_left).clamp(min=0)
    intersection = sides[..., 0] * sides[..., 1]
    union = box_areas(boxes)[..., :, None] + box_areas(others)[..., None, :] - intersection
    return torch.where(union > 0, intersection / union, torch.zeros_like(union))


def _on(boxes: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """The weights beside boxes, without waiting for the device that they are copied to."""
    return torch.tensor(weights, dtype=boxes.dtype).to(boxes.device, non_blocking=True)


def _centres_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sides, sides
