"""RoIAlign (Mask R-CNN, section 3): features of a box, sampled bilinearly without rounding.

Letters: K boxes, N images, C channels, H W height and width of the feature map, h w of the pooled map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from maskray.ops.extension import load_extension
from maskray.ops.roi_boxes import check_features, refuse_nondeterminism, to_indexed_boxes, to_output_size

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
    if not 0 <= sampling_ratio <= 256:
        raise ValueError(f"sampling_ratio: expected 0..256, got {sampling_ratio}")
    if not spatial_scale > 0:
        raise ValueError(f"spatial_scale: expected a positive number, got {spatial_scale}")
    arguments = (features, indexed, height, width, float(spatial_scale), sampling_ratio, aligned)
    if reduction == "mean":
        return torch.ops.maskray.roi_align(*arguments)
    if reduction == "max":
        return torch.ops.maskray.roi_align_max(*arguments)[0]
    raise ValueError(f"reduction: expected 'mean' or 'max', got {reduction!r}")


@torch.library.register_fake("maskray::roi_align")
def _fake(features: Tensor, boxes: Tensor, height: int, width: int, scale: float, ratio: int, aligned: bool) -> Tensor:
    return features.new_empty((boxes.shape[0], features.shape[1], height, width))


@torch.library.register_fake("maskray::roi_align_backward")
def _fake_backward(
    grad: Tensor, boxes: Tensor, images: int, height: int, width: int, scale: float, ratio: int, aligned: bool
) -> Tensor:
    return grad.new_empty((images, grad.shape[1], height, width))


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
) -> Tensor:
    return grad.new_empty((images, grad.shape[1], height, width))


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    features, boxes = inputs[:2]
    ctx.shape = (features.shape[0], features.shape[2], features.shape[3])
    ctx.settings = inputs[4:]
    saved = (boxes,) if isinstance(output, Tensor) else (boxes, output[1])
    if not isinstance(output, Tensor):
        ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*saved)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (boxes,) = ctx.saved_tensors
    refuse_nondeterminism(grad, "roi_align")
    return torch.ops.maskray.roi_align_backward(grad, boxes, *ctx.shape, *ctx.settings), *([None] * 6)


def _backward_max(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    boxes, argmax = ctx.saved_tensors
    refuse_nondeterminism(grad, "roi_align")
    return torch.ops.maskray.roi_align_max_backward(grad, argmax, boxes, *ctx.shape, *ctx.settings), *([None] * 6)


torch.library.register_autograd("maskray::roi_align", _backward, setup_context=_remember)
torch.library.register_autograd("maskray::roi_align_max", _backward_max, setup_context=_remember)
