"""RoIAlign (Mask R-CNN, section 3): features of a box, sampled bilinearly without rounding.

Letters: K boxes, N images, C channels, H W height and width of the feature map, h w of the pooled map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from maskray.ops.extension import load_extension
from maskray.ops.roi_boxes import (
    check_features,
    check_levels,
    lie_channels_last,
    new_map,
    to_indexed_boxes,
    to_output_size,
)

load_extension()


def roi_align(
    features: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
    reduction: Literal["mean", "max"] = "mean",
) -> Tensor:
    """Pool each box to h x w bins, each the mean or maximum of bilinear samples; (K, C, h, w) in the features' dtype.

    features (N, C, H, W); boxes (K, 5) rows of image index, x0, y0, x1, y1, or one (L, 4) tensor per image, in pixels
    where `spatial_scale` times a pixel is a cell. `sampling_ratio` samples per bin and axis, 0 for ceil(bin size).
    `aligned` puts cell centres at +0.5; without it, as in older models, positions are half a cell off and a box is at
    least one cell wide. A sample more than a cell outside the map is 0. With `aligned`, a box without extent gives 0
    with zero gradient, as does any box with a number that is not finite. Half types are computed in float32. The
    gradient goes to the features, not to the boxes. An image index outside 0..N-1 raises ValueError on the CPU and
    gives NaN on CUDA, where looking would stall the device. ValueError or TypeError names an argument that is wrong.
    """
    check_features(features)
    height, width = to_output_size(output_size)
    indexed = to_indexed_boxes(boxes, features)
    _check_sampling_ratio(sampling_ratio)
    if not spatial_scale > 0:
        raise ValueError(f"spatial_scale: expected a positive number, got {spatial_scale}")
    arguments = (features, indexed, height, width, float(spatial_scale), sampling_ratio, aligned)
    if reduction == "mean":
        return torch.ops.maskray.roi_align(*arguments)
    if reduction == "max":
        return torch.ops.maskray.roi_align_max(*arguments)[0]
    raise ValueError(f"reduction: expected 'mean' or 'max', got {reduction!r}")


def multi_level_roi_align(
    features: Sequence[Tensor],
    boxes: Tensor,
    levels: Tensor,
    output_size: int | Sequence[int],
    spatial_scales: Sequence[float],
    sampling_ratio: int = 0,
    aligned: bool = True,
    reduction: Literal["mean", "max"] = "mean",
) -> Tensor:
    """Pool each box as roi_align does, from the pyramid level that `levels` names (Lin et al. 2017); (K, C, h, w).

    features: one (N, C, Hl, Wl) per level, of one dtype and device; boxes (K, 5) rows of image index, x0, y0, x1, y1 in
    pixels; levels (K,) int64 indices into `features`; spatial_scales: one per level. The rest is as in roi_align, and
    so is each value: the same bits as from the level alone. A level that no box names gets a zero gradient. A level
    outside 0..L-1 raises ValueError on the CPU and gives NaN on CUDA. ValueError or TypeError names what is wrong.
    """
    maps = check_levels(features, boxes, levels, spatial_scales)
    height, width = to_output_size(output_size)
    indexed = to_indexed_boxes(boxes, maps[0])
    _check_sampling_ratio(sampling_ratio)
    scales = [float(scale) for scale in spatial_scales]
    arguments = (maps, indexed, levels, height, width, scales, sampling_ratio, aligned)
    if reduction == "mean":
        return torch.ops.maskray.multi_level_roi_align(*arguments)
    if reduction == "max":
        return torch.ops.maskray.multi_level_roi_align_max(*arguments)[0]
    raise ValueError(f"reduction: expected 'mean' or 'max', got {reduction!r}")


def _check_sampling_ratio(sampling_ratio: int) -> None:
    if not 0 <= sampling_ratio <= 256:
        raise ValueError(f"sampling_ratio: expected 0..256, got {sampling_ratio}")


@torch.library.register_fake("maskray::roi_align")
def _fake(features: Tensor, boxes: Tensor, height: int, width: int, scale: float, ratio: int, aligned: bool) -> Tensor:
    return features.new_empty((boxes.shape[0], features.shape[1], height, width))


@torch.library.register_fake("maskray::roi_align_backward")
def _fake_backward(
    grad: Tensor,
    boxes: Tensor,
    images: int,
    height: int,
    width: int,
    scale: float,
    ratio: int,
    aligned: bool,
    channels_last: bool,
    deterministic: bool,
) -> Tensor:
    return new_map(grad, images, height, width, channels_last)


@torch.library.register_fake("maskray::roi_align_max")
def _fake_max(
    features: Tensor, boxes: Tensor, height: int, width: int, scale: float, ratio: int, aligned: bool
) -> tuple[Tensor, Tensor]:
    pooled = features.new_empty((boxes.shape[0], features.shape[1], height, width))
    return pooled, pooled.new_empty(pooled.shape, dtype=torch.int32)


@torch.library.register_fake("maskray::roi_align_max_backward")
def _fake_max_backward(
    grad: Tensor,
    argmax: Tensor,
    boxes: Tensor,
    images: int,
    height: int,
    width: int,
    scale: float,
    ratio: int,
    aligned: bool,
    deterministic: bool,
) -> Tensor:
    return grad.new_empty((images, grad.shape[1], height, width))


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    features, boxes = inputs[:2]
    ctx.shape = (features.shape[0], features.shape[2], features.shape[3])
    ctx.settings = inputs[4:]
    ctx.channels_last = lie_channels_last([features])
    saved = (boxes,) if isinstance(output, Tensor) else (boxes, output[1])
    if not isinstance(output, Tensor):
        ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*saved)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (boxes,) = ctx.saved_tensors
    choices = (ctx.channels_last, torch.are_deterministic_algorithms_enabled())
    return torch.ops.maskray.roi_align_backward(grad, boxes, *ctx.shape, *ctx.settings, *choices), *([None] * 6)


def _backward_max(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    boxes, argmax = ctx.saved_tensors
    arguments = (*ctx.shape, *ctx.settings, torch.are_deterministic_algorithms_enabled())
    return torch.ops.maskray.roi_align_max_backward(grad, argmax, boxes, *arguments), *([None] * 6)


torch.library.register_autograd("maskray::roi_align", _backward, setup_context=_remember)
torch.library.register_autograd("maskray::roi_align_max", _backward_max, setup_context=_remember)


@torch.library.register_fake("maskray::multi_level_roi_align")
def _fake_levels(
    features: list[Tensor],
    boxes: Tensor,
    levels: Tensor,
    height: int,
    width: int,
    scales: list[float],
    ratio: int,
    aligned: bool,
) -> Tensor:
    return features[0].new_empty((boxes.shape[0], features[0].shape[1], height, width))


@torch.library.register_fake("maskray::multi_level_roi_align_backward")
def _fake_levels_backward(
    grad: Tensor,
    boxes: Tensor,
    levels: Tensor,
    images: int,
    heights: list[int],
    widths: list[int],
    scales: list[float],
    ratio: int,
    aligned: bool,
    channels_last: bool,
    deterministic: bool,
) -> list[Tensor]:
    return [new_map(grad, images, *size, channels_last) for size in zip(heights, widths, strict=True)]


@torch.library.register_fake("maskray::multi_level_roi_align_max")
def _fake_levels_max(
    features: list[Tensor],
    boxes: Tensor,
    levels: Tensor,
    height: int,
    width: int,
    scales: list[float],
    ratio: int,
    aligned: bool,
) -> tuple[Tensor, Tensor]:
    pooled = features[0].new_empty((boxes.shape[0], features[0].shape[1], height, width))
    return pooled, pooled.new_empty(pooled.shape, dtype=torch.int32)


@torch.library.register_fake("maskray::multi_level_roi_align_max_backward")
def _fake_levels_max_backward(
    grad: Tensor,
    argmax: Tensor,
    boxes: Tensor,
    levels: Tensor,
    images: int,
    heights: list[int],
    widths: list[int],
    scales: list[float],
    ratio: int,
    aligned: bool,
    deterministic: bool,
) -> list[Tensor]:
    return [new_map(grad, images, *size, False) for size in zip(heights, widths, strict=True)]


def _remember_levels(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    features, boxes, levels = inputs[:3]
    ctx.shapes = (features[0].shape[0], [level.shape[2] for level in features], [level.shape[3] for level in features])
    ctx.settings = inputs[5:]
    ctx.channels_last = lie_channels_last(features)
    if isinstance(output, Tensor):
        ctx.save_for_backward(boxes, levels)
    else:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(boxes, levels, output[1])


def _backward_levels(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    boxes, levels = ctx.saved_tensors
    choices = (ctx.channels_last, torch.are_deterministic_algorithms_enabled())
    operator = torch.ops.maskray.multi_level_roi_align_backward
    return operator(grad, boxes, levels, *ctx.shapes, *ctx.settings, *choices), *([None] * 7)


def _backward_levels_max(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Any, ...]:
    boxes, levels, argmax = ctx.saved_tensors
    deterministic = torch.are_deterministic_algorithms_enabled()
    operator = torch.ops.maskray.multi_level_roi_align_max_backward
    return operator(grad, argmax, boxes, levels, *ctx.shapes, *ctx.settings, deterministic), *([None] * 7)


torch.library.register_autograd("maskray::multi_level_roi_align", _backward_levels, setup_context=_remember_levels)
torch.library.register_autograd(
    "maskray::multi_level_roi_align_max", _backward_levels_max, setup_context=_remember_levels
)
