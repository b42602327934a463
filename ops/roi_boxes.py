"""The boxes that RoI operators take: their two forms, and the checks that every RoI operator makes.

Letters: K boxes, N images, C channels, H W height and width of the feature map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_features(features: Tensor) -> None:
    """Features are (N, C, H, W) of a floating type; TypeError or ValueError otherwise."""
    if not isinstance(features, Tensor):
        raise TypeError(f"features: expected a tensor, got {type(features).__name__}")
    if features.dim() != 4:
        raise ValueError(f"features: expected (N, C, H, W), got {tuple(features.shape)}")
    if features.dtype not in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        raise TypeError(f"features: expected a floating dtype, got {features.dtype}")


def check_levels(
    features: Sequence[Tensor], boxes: Tensor, levels: Tensor, spatial_scales: Sequence[float]
) -> list[Tensor]:
    """The levels of a pyramid as a list that fits together and the boxes; TypeError or ValueError otherwise."""
    if isinstance(features, Tensor) or not len(features):
        raise ValueError("features: expected a list of at least one level (N, C, Hl, Wl)")
    maps = list(features)
    for index, level in enumerate(maps):
        check_features(level)
        if level.shape[:2] != maps[0].shape[:2]:
            raise ValueError(f"features: level {index} is {tuple(level.shape)}, level 0 {tuple(maps[0].shape)}")
        if (level.dtype, level.device) != (maps[0].dtype, maps[0].device):
            raise ValueError(f"features: level {index} is of another dtype or device than level 0")
    if not isinstance(boxes, Tensor):
        raise TypeError(f"boxes: expected a tensor (K, 5), got {type(boxes).__name__}")
    if levels.dtype != torch.int64:
        raise TypeError(f"levels: expected int64, got {levels.dtype}")
    if levels.shape != boxes.shape[:1]:
        raise ValueError(f"levels: expected ({boxes.shape[0]},), got {tuple(levels.shape)}")
    if levels.device != boxes.device:
        raise ValueError(f"levels: on {levels.device}, boxes on {boxes.device}")
    if len(spatial_scales) != len(maps) or not all(scale > 0 for scale in spatial_scales):
        raise ValueError(f"spatial_scales: expected {len(maps)} positive numbers, got {list(spatial_scales)}")
    _check_level_indices(levels, len(maps))
    return maps


def _check_level_indices(levels: Tensor, num_levels: int) -> None:
    """ValueError for the first box that names no level; not on an accelerator, nor while being traced."""
    if levels.device.type != "cpu" or torch.compiler.is_compiling():
        return
    wrong = (levels < 0) | (levels >= num_levels)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(f"levels: row {row} names level {levels[row].item()}, features hold {num_levels}")


def lie_channels_last(features: Sequence[Tensor]) -> bool:
    """Whether all lie as (N, H, W, C) in memory, and so their gradients should."""
    return all(
        level.is_contiguous(memory_format=torch.channels_last) and not level.is_contiguous() for level in features
    )


def new_map(like: Tensor, images: int, height: int, width: int, channels_last: bool) -> Tensor:
    """An empty gradient (N, C, H, W) beside that of the pooled maps (K, C, h, w), lying as asked for."""
    if channels_last:
        return like.new_empty((images, height, width, like.shape[1])).permute(0, 3, 1, 2)
    return like.new_empty((images, like.shape[1], height, width))


def to_indexed_boxes(boxes: Tensor | Sequence[Tensor], features: Tensor) -> Tensor:
    """Boxes as (K, 5) rows of image index, x0, y0, x1, y1 in the type the operator computes with.

    Takes that form, or one (L, 4) tensor per image. The type is float64 for float64 features, else float32, so boxes
    beside half-precision features keep their precision. ValueError or TypeError names what does not fit.
    """
    dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
    if isinstance(boxes, Tensor):
        if boxes.dim() != 2 or boxes.shape[1] != 5:
            raise ValueError(f"boxes: expected (K, 5) or a list of (L, 4), got {tuple(boxes.shape)}")
        joined = boxes
        _check_image_indices(joined, features.shape[0])
    else:
        joined = _join_images(boxes, features.shape[0])
        if not len(boxes):
            joined = features.new_zeros((0, 5), dtype=dtype)
    if not joined.is_floating_point():
        raise TypeError(f"boxes: expected a floating dtype, got {joined.dtype}")
    if joined.device != features.device:
        raise ValueError(f"boxes: on {joined.device}, features on {features.device}")
    return joined.to(dtype)


def _check_image_indices(boxes: Tensor, num_images: int) -> None:
    """ValueError for the first row that names no image; not on an accelerator, nor while being traced."""
    if boxes.device.type != "cpu" or torch.compiler.is_compiling():
        return
    wrong = ~((boxes[:, 0] >= 0) & (boxes[:, 0] < num_images))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(f"boxes: row {row} names image {boxes[row, 0].item():g}, features hold {num_images}")


def _join_images(boxes: Sequence[Tensor], num_images: int) -> Tensor:
    if len(boxes) != num_images:
        raise ValueError(f"boxes: {len(boxes)} tensors for {num_images} images")
    rows = []
    for image, part in enumerate(boxes):
        if part.dim() != 2 or part.shape[1] != 4:
            raise ValueError(f"boxes[{image}]: expected (L, 4), got {tuple(part.shape)}")
        rows.append(torch.cat([part.new_full((part.shape[0], 1), image), part], dim=1))
    return torch.cat(rows) if rows else torch.zeros((0, 5))


def to_output_size(output_size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width of the pooled map from one number or two; ValueError when not positive."""
    size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    if len(size) != 2 or size[0] < 1 or size[1] < 1:
        raise ValueError(f"output_size: expected one or two positive numbers, got {output_size}")
    return int(size[0]), int(size[1])
