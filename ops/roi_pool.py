"""RoIPool (Fast R-CNN, section 2.1): the maximum of the cells of each bin of a box rounded to whole cells.

Letters: K boxes, N images, C channels, H W height and width of the feature map, h w of the pooled map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maskray.ops.extension import load_extension
from maskray.ops.roi_boxes import check_features, to_indexed_boxes, to_output_size

load_extension()


def roi_pool(
    features: Tensor, boxes: Tensor | Sequence[Tensor], output_size: int | Sequence[int], spatial_scale: float = 1.0
) -> Tensor:
    """Pool each box to h x w bins, each the maximum of its cells; (K, C, h, w) in the features' dtype.

    features (N, C, H, W); boxes (K, 5) rows of image index, x0, y0, x1, y1, or one (L, 4) tensor per image, in pixels
    where `spatial_scale` times a pixel is a cell. Corners are rounded to cells (halves away from 0), the end is
    inclusive, and bins may share cells. A bin without cells, as any of a box with a number that is not finite, is 0
    with zero gradient. A NaN among the cells of a bin is its maximum. The gradient goes to the features, not to the
    boxes. An image index outside 0..N-1 raises ValueError on the CPU and gives NaN on CUDA. ValueError or TypeError
    names an argument that is wrong.
    """
    check_features(features)
    height, width = to_output_size(output_size)
    indexed = to_indexed_boxes(boxes, features)
    if not spatial_scale > 0:
        raise ValueError(f"spatial_scale: expected a positive number, got {spatial_scale}")
    return torch.ops.maskray.roi_pool(features, indexed, height, width, float(spatial_scale))[0]


@torch.library.register_fake("maskray::roi_pool")
def _fake(features: Tensor, boxes: Tensor, height: int, width: int, scale: float) -> tuple[Tensor, Tensor]:
    pooled = features.new_empty((boxes.shape[0], features.shape[1], height, width))
    return pooled, pooled.new_empty(pooled.shape, dtype=torch.int32)


@torch.library.register_fake("maskray::roi_pool_backward")
def _fake_backward(grad: Tensor, argmax: Tensor, boxes: Tensor, images: int, height: int, width: int) -> Tensor:
    return grad.new_empty((images, grad.shape[1], height, width))


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    features, boxes = inputs[:2]
    ctx.shape = (features.shape[0], features.shape[2], features.shape[3])
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(boxes, output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    boxes, argmax = ctx.saved_tensors
    if grad.is_cuda and torch.are_deterministic_algorithms_enabled():
        return ordered_gradient(grad, argmax, boxes, *ctx.shape), None, None, None, None
    return torch.ops.maskray.roi_pool_backward(grad, argmax, boxes, *ctx.shape), None, None, None, None


def ordered_gradient(grad: Tensor, argmax: Tensor, boxes: Tensor, images: int, height: int, width: int) -> Tensor:
    """The same gradient (images, C, height, width), which the CUDA kernel adds up in no fixed order.

    What torch.use_deterministic_algorithms asks for: index_put_ sorts under it. Costs memory of the size of `grad`.
    """
    channels = grad.shape[1]
    accumulated = torch.promote_types(grad.dtype, torch.float32)
    result = torch.zeros(images, channels, height * width, dtype=accumulated, device=grad.device)
    inside = (boxes[:, 0] >= 0) & (boxes[:, 0] < images)  # False for NaN
    used = (argmax >= 0) & inside[:, None, None, None]
    box, channel = used.nonzero(as_tuple=True)[:2]
    position = (boxes[box, 0].long(), channel, argmax[used].long())
    result.index_put_(position, grad[used].to(accumulated), accumulate=True)
    return result.to(grad.dtype).unflatten(2, (height, width))


torch.library.register_autograd("maskray::roi_pool", _backward, setup_context=_remember)
