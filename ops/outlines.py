"""Masks kept as outlines, polygons or run lengths: what boxes see of them, and windows drawn of them.

Letters: G objects, P points, L polygons, B characters of run lengths, K boxes or windows, m side of a small mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from maskray.ops.extension import load_extension, refusals

load_extension()

MIRRORED, UPSIDE_DOWN, TRANSPOSED = 1, 2, 4  # bits of a turn
NAMES = ("coordinates", "polygon_offsets", "object_offsets", "text", "text_offsets", "placements")


class OutlineTensors(NamedTuple):
    """The masks of G objects, each drawn on a canvas of its own, which is turned, of which a part is the image.

    An object is the union of its polygons, filled by pycocotools' rule, and of its run lengths. coordinates (P, 2)
    float64 x y in pixels of the canvas; polygon_offsets (L + 1,) int64, where each polygon begins among the points;
    object_offsets (G + 1,) int64, where each object begins among the polygons; text (B,) uint8, COCO's compressed run
    lengths down the columns of the canvas; text_offsets (G + 1,) int64, where those of each object begin. placements
    (G, 7) int64: height and width of the canvas, the turn, top and left, height and width of the image. Pixel (r, c)
    of the image is pixel (r + top, c + left) of the turned canvas, 0 where that has none. The pixel (i, j) of a turned
    canvas of h x w pixels is, where the turn is MIRRORED, that of column w - 1 - j; UPSIDE_DOWN, of row h - 1 - i; and
    TRANSPOSED, after both, row and column change places on the canvas. All on the CPU.
    """

    coordinates: Tensor
    polygon_offsets: Tensor
    object_offsets: Tensor
    text: Tensor
    text_offsets: Tensor
    placements: Tensor


def crop_outlines(
    outlines: OutlineTensors,
    index: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    mask_size: int,
    *,
    aligned: bool = True,
    binary: bool = True,
) -> Tensor:
    """RoIAlign (sampling_ratio 0, scale 1) of each box on the drawn mask of its object, to the same bits; (K, m, m).

    index (K,) int64 of objects; boxes (K, 4) in pixels of the image, float32 or float64; size (height, width) of the
    map that would be drawn, at least that of the images, 0 beside them. `binary`: bool, at least one half; else the
    values in the dtype of the boxes. Only the part of a mask that its box covers is drawn, box after box. ValueError
    or TypeError names an argument that is wrong.
    """
    if not boxes.is_floating_point():
        raise TypeError(f"boxes: expected a floating dtype, got {boxes.dtype}")
    _check_on_cpu(outlines, index=index, boxes=boxes)
    with refusals(*NAMES, "index", "boxes", "size", "mask_size"):
        return torch.ops.maskray.crop_outlines(*outlines, index, boxes, *size, mask_size, aligned, binary)


def draw_outlines(outlines: OutlineTensors, index: Tensor, windows: Tensor) -> list[Tensor]:
    """The mask of each named object in a window of its image, (height, width) uint8 0/1, of K.

    index (K,) int64 of objects; windows (K, 4) int64 top, left, height, width in pixels, which may reach beyond the
    image. ValueError names an argument that is wrong; all windows together hold at most 2**30 pixels.
    """
    _check_on_cpu(outlines, index=index, windows=windows)
    with refusals(*NAMES, "index", "windows"):
        pixels = torch.ops.maskray.draw_outlines(*outlines, index, windows)
    sizes = windows[:, 2:].tolist()
    parts = pixels.split([height * width for height, width in sizes])
    return [part.view(height, width) for part, (height, width) in zip(parts, sizes)]


def encode_masks(masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """COCO's compressed run lengths of masks (height, width) uint8 or bool: text (B,) uint8 and offsets (G + 1,).

    The bytes are those of pycocotools.mask.encode.
    """
    sizes = torch.tensor([mask.shape for mask in masks], dtype=torch.int64).reshape(-1, 2)
    pixels = [torch.zeros(0, dtype=torch.uint8), *(mask.reshape(-1).to(torch.uint8) for mask in masks)]
    text, offsets = torch.ops.maskray.rle_encode(torch.cat(pixels), sizes)
    return text, offsets


def split_text(text: Tensor, offsets: Tensor) -> list[bytes]:
    """The counts of each object as bytes, as pycocotools has them."""
    data = text.numpy().tobytes()
    return [data[first:last] for first, last in pairwise(offsets.tolist())]


def _check_on_cpu(outlines: OutlineTensors, **others: Tensor) -> None:
    for name, tensor in (*zip(NAMES, outlines), *others.items()):
        if tensor.device.type != "cpu":
            raise ValueError(f"{name}: expected on the CPU, is on {tensor.device}")


@torch.library.register_fake("maskray::crop_outlines")
def _fake_crop(
    coordinates: Tensor,
    polygon_offsets: Tensor,
    object_offsets: Tensor,
    text: Tensor,
    text_offsets: Tensor,
    placements: Tensor,
    index: Tensor,
    boxes: Tensor,
    height: int,
    width: int,
    mask_size: int,
    aligned: bool,
    binary: bool,
) -> Tensor:
    dtype = torch.bool if binary else boxes.dtype
    return boxes.new_empty((boxes.shape[0], mask_size, mask_size), dtype=dtype)


@torch.library.register_fake("maskray::draw_outlines")
def _fake_draw(
    coordinates: Tensor,
    polygon_offsets: Tensor,
    object_offsets: Tensor,
    text: Tensor,
    text_offsets: Tensor,
    placements: Tensor,
    index: Tensor,
    windows: Tensor,
) -> Tensor:
    return text.new_empty((torch.library.get_ctx().new_dynamic_size(),))


@torch.library.register_fake("maskray::rle_encode")
def _fake_encode(pixels: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    text = pixels.new_empty((torch.library.get_ctx().new_dynamic_size(),))
    return text, sizes.new_empty((sizes.shape[0] + 1,))
