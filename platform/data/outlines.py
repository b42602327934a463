"""Segmentations of annotations as outlines at network size, and what cutting, mirroring and turning does to them.

Cuts, mirrors and quarter turns move where a mask lies and not its corners: every pixel stays what it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor

from maskray.model.outlines import Outlines
from maskray.ops.outlines import MIRRORED, TRANSPOSED, UPSIDE_DOWN, OutlineTensors, encode_masks
from maskray.ops.rle import rle_area

FEWEST_NUMBERS = 6  # of a polygon: pycocotools fills nothing of fewer corners than three


def read_outlines(
    annotations: Sequence[Mapping[str, Any]],
    original_size: tuple[int, int],
    size: tuple[int, int],
    optional: bool = False,
) -> Outlines:
    """The masks of annotations in an image of another size; sizes are (height, width) in pixels.

    Polygons are scaled, to be filled by pycocotools' rule; an RLE of another size is decoded, resampled bilinearly
    with antialiasing and cut at 0.5. Where segmentations are optional, one that is missing gives an empty outline.
    ValueError naming the annotation whose segmentation is missing or broken.
    """
    polygons: list[Sequence[float]] = []
    num_polygons, texts, places = [], [], []
    for annotation in annotations:
        segmentation = annotation.get("segmentation") or []
        if not segmentation and not optional:
            raise ValueError(f"annotation {annotation['id']}: no segmentation to train a mask on")
        kept: list[Sequence[float]] = []
        text, place = b"", (*size, 0, 0, 0)
        if isinstance(segmentation, dict):
            text, place = _read_rle(annotation["id"], segmentation, size)
        else:
            if any(len(polygon) % 2 for polygon in segmentation):
                raise ValueError(f"annotation {annotation['id']}: a polygon has an odd number of coordinates")
            kept = [polygon for polygon in segmentation if len(polygon) >= FEWEST_NUMBERS]
        polygons += kept
        num_polygons.append(len(kept))
        texts.append(text)
        places.append((*place, *size))
    corners = _scaled(polygons, original_size, size)
    if not np.isfinite(corners).all():
        wrong = next(a["id"] for a in annotations if _has_infinite_corner(a.get("segmentation")))
        raise ValueError(f"annotation {wrong}: a polygon has a corner that is not finite")
    tensors = OutlineTensors(
        torch.from_numpy(corners),
        _offsets([len(polygon) // 2 for polygon in polygons]),
        _offsets(num_polygons),
        torch.from_numpy(np.frombuffer(b"".join(texts), dtype=np.uint8).copy()),
        _offsets([len(text) for text in texts]),
        torch.tensor(places, dtype=torch.int64).reshape(-1, 7),
    )
    return Outlines(tensors, size)


def rasterize(
    annotation: Mapping[str, Any], original_size: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """The mask of an annotation at another size, (h, w) uint8 0/1; as read_outlines."""
    return read_outlines([annotation], original_size, size).bitmaps()[0].numpy()


def decode_rle(segmentation: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The (height, width) uint8 0/1 mask of a COCO run-length encoding, compressed or not."""
    return np.ascontiguousarray(coco_mask.decode(_compressed(segmentation)))


def cut(outlines: Outlines, top: int, left: int, size: tuple[int, int]) -> Outlines:
    """The masks in the part of an image that begins at a row and a column, of a size (height, width)."""
    placements = outlines.tensors.placements.clone()
    placements[:, 3] += top
    placements[:, 4] += left
    placements[:, 5:] = torch.tensor(size)
    return _placed(outlines, placements, size)


def mirror(outlines: Outlines) -> Outlines:
    """The masks in an image whose columns are in reverse order."""
    placements = outlines.tensors.placements.clone()
    placements[:, 4] = _turned(placements, 1) - outlines.size[1] - placements[:, 4]
    placements[:, 2] ^= MIRRORED
    return _placed(outlines, placements, outlines.size)


def turn_upside_down(outlines: Outlines) -> Outlines:
    """The masks in an image whose rows are in reverse order."""
    placements = outlines.tensors.placements.clone()
    placements[:, 3] = _turned(placements, 0) - outlines.size[0] - placements[:, 3]
    placements[:, 2] ^= UPSIDE_DOWN
    return _placed(outlines, placements, outlines.size)


def transpose(outlines: Outlines) -> Outlines:
    """The masks in an image whose rows are the columns of this one."""
    own = outlines.tensors.placements
    swapped = (own[:, 2] & MIRRORED) * UPSIDE_DOWN + (own[:, 2] & UPSIDE_DOWN) // UPSIDE_DOWN * MIRRORED
    turn = swapped + ((own[:, 2] & TRANSPOSED) ^ TRANSPOSED)
    placements = torch.stack([*own[:, :2].T, turn, own[:, 4], own[:, 3], own[:, 6], own[:, 5]], dim=1)
    return _placed(outlines, placements, (outlines.size[1], outlines.size[0]))


def _placed(outlines: Outlines, placements: Tensor, size: tuple[int, int]) -> Outlines:
    return Outlines(outlines.tensors._replace(placements=placements), size)


def _turned(placements: Tensor, axis: int) -> Tensor:
    """Height (axis 0) or width (1) of each canvas after its turn."""
    transposed = placements[:, 2] & TRANSPOSED > 0
    return torch.where(transposed, placements[:, 1 - axis], placements[:, axis])


def _scaled(
    polygons: Sequence[Sequence[float]], original_size: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.float64]:
    """All corners (P, 2) in the image of the other size."""
    scale = (size[1] / original_size[1], size[0] / original_size[0])
    corners = np.array(list(chain.from_iterable(polygons)), dtype=np.float64).reshape(-1, 2)
    return corners * scale


def _has_infinite_corner(segmentation: Any) -> bool:
    return isinstance(segmentation, list) and not all(np.isfinite(polygon).all() for polygon in segmentation)


def _read_rle(
    annotation_id: Any, segmentation: Mapping[str, Any], size: tuple[int, int]
) -> tuple[bytes, tuple[int, int, int, int, int]]:
    """Run lengths in an image of a size, and canvas height and width, turn, top and left of their place there."""
    rle = _compressed(segmentation)
    try:
        rle_area([rle])
    except ValueError as error:
        raise ValueError(f"annotation {annotation_id}: {error}") from None
    if tuple(rle["size"]) == size:
        counts = rle["counts"]
        return counts.encode() if isinstance(counts, str) else counts, (*size, 0, 0, 0)
    pixels = torch.from_numpy(np.ascontiguousarray(coco_mask.decode(rle)) * np.uint8(255))[None, None]
    mask = torch.nn.functional.interpolate(pixels, size=size, mode="bilinear", antialias=True)[0, 0] >= 128
    rows, columns = (mask.any(dim=axis).nonzero() for axis in (1, 0))
    if len(rows) == 0:
        return b"", (*size, 0, 0, 0)
    top, left = int(rows[0]), int(columns[0])
    window = mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    text, _ = encode_masks([window])
    return text.numpy().tobytes(), (*window.shape, 0, -top, -left)


def _compressed(segmentation: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(segmentation["counts"], list):
        return segmentation
    height, width = segmentation["size"]
    compressed: Mapping[str, Any] = coco_mask.frPyObjects(dict(segmentation), height, width)
    return compressed


def _offsets(lengths: Sequence[int]) -> Tensor:
    return torch.tensor([0, *lengths], dtype=torch.int64).cumsum(0)
