"""Masks of many objects as columns: compressed run lengths or polygons, and what they cover.

Letters: N masks, P polygons.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.ops.coco_library import CMasks, Held, call

POLYGONS, NO_MASK = -1, -2  # in place of the length of a text


@dataclass(frozen=True)
class MaskColumns:
    """N masks: text (bytes,) uint8, of mask i from starts[i] on, lengths[i] letters; POLYGONS or NO_MASK in its place.

    coordinates are x y by turns; polygon p ends at polygons[p + 1] there, mask i at objects[i + 1] of the polygons.
    areas (N,) in pixels, of polygons 0 until measured; extents (N, 4) left top right bottom in pixels, both ends
    included, at least those of the mask.
    """

    text: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    areas: NDArray[np.float64]
    extents: NDArray[np.float64]
    coordinates: NDArray[np.float64]
    polygons: NDArray[np.int64]
    objects: NDArray[np.int64]

    def to_c(self, held: Held) -> CMasks:
        """For a call of the library."""
        count = len(self.starts)
        if len(self.lengths) != count or len(self.objects) != count + 1 or len(self.polygons) < 1:
            raise ValueError("masks: columns of different lengths")
        return CMasks(
            held.address(self.text, np.uint8),
            len(self.text),
            held.address(self.starts, np.int64),
            held.address(self.lengths, np.int64),
            held.address(self.coordinates, np.float64),
            len(self.coordinates),
            held.address(self.polygons, np.int64),
            len(self.polygons) - 1,
            held.address(self.objects, np.int64),
        )


def gather_masks(segmentations: Sequence[Any], sizes: NDArray[np.int64]) -> MaskColumns:
    """Segmentations, polygons [[x, y, ...], ...] or {"counts": text}, of images of sizes (N, 2) height and width.

    ValueError naming the mask whose text is not one of its image.
    """
    texts: list[bytes] = []
    lengths, objects, polygons, coordinates = [], [0], [0], []
    for segmentation in segmentations:
        if isinstance(segmentation, list):
            lengths.append(POLYGONS)
            for polygon in segmentation:
                coordinates.append(np.asarray(polygon, dtype=np.float64))
                polygons.append(polygons[-1] + len(polygon))
        else:
            counts = segmentation["counts"]
            texts.append(counts if isinstance(counts, bytes) else counts.encode("utf-8"))
            lengths.append(len(texts[-1]))
        objects.append(len(polygons) - 1)
    stored = np.array(lengths, dtype=np.int64)
    ends = np.cumsum(np.maximum(stored, 0))
    count = len(stored)
    masks = MaskColumns(
        text=np.frombuffer(b"".join(texts), dtype=np.uint8),
        starts=ends - np.maximum(stored, 0),
        lengths=stored,
        areas=np.zeros(count),
        extents=np.zeros((count, 4)),
        coordinates=np.concatenate([np.zeros(0), *coordinates]),
        polygons=np.array(polygons, dtype=np.int64),
        objects=np.array(objects, dtype=np.int64),
    )
    held = Held()
    call(
        "maskray_measure_masks",
        ctypes.byref(masks.to_c(held)),
        ctypes.c_int64(count),
        ctypes.c_void_p(held.address(sizes, np.int64)),
        ctypes.c_void_p(masks.areas.ctypes.data),
        ctypes.c_void_p(masks.extents.ctypes.data),
    )
    return masks
