"""Polygons cropped to boxes and filled at a small size: the targets of a mask head.

Letters: P points, L polygons, D objects, m side of the masks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maskray.ops.extension import load_extension, refusals

load_extension()


def rasterize_polygons(
    coordinates: Tensor, polygon_offsets: Tensor, object_offsets: Tensor, boxes: Tensor, mask_size: int
) -> Tensor:
    """The part of each object in its box (D, 4), in image pixels, as (D, m, m) bool.

    Source: detectron2, structures/masks.py (rasterize_polygons_within_box), and pycocotools' rule of filling; equal to
    both. coordinates (P, 2) x y of all corners; polygon_offsets (L + 1,) int64, where each polygon begins among the
    points; object_offsets (D + 1,) int64, where each object begins among the polygons. An object is the union of its
    polygons, empty where it has none. A box side below 0.1 pixel counts as 0.1; a box that is not finite gives an
    empty mask; corners more than 5e7 cells away are moved there. Computed in float64 on the CPU. ValueError when
    shapes or offsets do not agree, a polygon has fewer than three corners or a corner is not finite.
    """
    for name, tensor in (("coordinates", coordinates), ("boxes", boxes)):
        if not tensor.is_floating_point():
            raise TypeError(f"{name}: expected a floating dtype, got {tensor.dtype}")
    arguments = (coordinates.double(), polygon_offsets, object_offsets, boxes.double())
    names = ("coordinates", "polygon_offsets", "object_offsets", "boxes")
    for name, tensor in zip(names, arguments, strict=True):
        if tensor.device.type != "cpu":
            raise ValueError(f"{name}: expected on the CPU, is on {tensor.device}")
    with refusals(*names, "mask_size"):
        return torch.ops.maskray.rasterize_polygons(*arguments, mask_size)


@torch.library.register_fake("maskray::rasterize_polygons")
def _fake(
    coordinates: Tensor, polygon_offsets: Tensor, object_offsets: Tensor, boxes: Tensor, mask_size: int
) -> Tensor:
    return boxes.new_empty((boxes.shape[0], mask_size, mask_size), dtype=torch.bool)
