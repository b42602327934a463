"""Masks and objects of several parts as one polygon each, for formats that know nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from maskray.platform.data.formats.outlines import Polygon, Size
from maskray.platform.data.formats.records import Segmentation


def one_polygon(segmentation: Segmentation, size: Size) -> Polygon:
    """The polygon that has the pixels of a segmentation by pycocotools' rule, and by any other that counts crossings.

    One polygon stays as it is. Parts are joined by lines there and back, which enclose nothing; so are the holes of an
    RLE, whose outlines run along the edges of its pixels. Empty where the segmentation has no pixel.
    """
    if isinstance(segmentation, list):
        if len(segmentation) == 1:
            return list(segmentation[0])
        joined = join_rings([np.reshape(polygon, (-1, 2)) for polygon in segmentation])
        mask = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
        if coco_mask.frPyObjects([joined], *size)[0]["counts"] == mask["counts"]:
            return joined
    else:
        # Parts that overlap would cancel out, so that they are outlined together as pixels.
        counts = segmentation["counts"]
        mask = segmentation if isinstance(counts, str) else coco_mask.frPyObjects(segmentation, *size)
    x, y, width, height = (int(value) for value in coco_mask.toBbox(mask))
    inside = coco_mask.decode(mask)[y : y + height, x : x + width]
    return join_rings([ring + np.array((x, y)) for ring in trace_rings(inside)])


def trace_rings(mask: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Closed outlines along pixel edges, of a (h, w) mask and of its holes: corners (n, 2) x y, each turn once."""
    padded = np.pad(mask != 0, 1).astype(np.int8)
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # An edge runs so that the mask is at its right on the screen: rightwards above it, downwards at its right side.
    across, down = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1, :]
    for x, y, step in _edges(across):
        start, end = ((x, y), (x + 1, y)) if step > 0 else ((x + 1, y), (x, y))
        following.setdefault(start, []).append(end)
    for x, y, step in _edges(down):
        start, end = ((x, y + 1), (x, y)) if step > 0 else ((x, y), (x, y + 1))
        following.setdefault(start, []).append(end)
    rings = []
    while following:
        first = next(iter(following))
        ring: list[tuple[int, int]] = []
        point = first
        while not ring or point != first:
            ring.append(point)
            ends = following[point]
            point_after = ends.pop()
            if not ends:
                del following[point]
            point = point_after
        corners = np.array(ring, dtype=np.int64)
        before, after = corners - np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0) - corners
        rings.append(corners[(before != after).any(axis=1)])
    return rings


def _edges(steps: NDArray[np.int8]) -> list[tuple[int, int, int]]:
    """Column, row and sign of every border between pixels."""
    rows, columns = np.nonzero(steps)
    return list(zip(columns.tolist(), rows.tolist(), steps[rows, columns].tolist()))


def join_rings(rings: Sequence[NDArray[Any]]) -> Polygon:
    """One polygon of several: each is entered and left where it is nearest to those before."""
    if not rings:
        return []
    joined = np.asarray(rings[0], dtype=np.float64)
    for ring in rings[1:]:
        ring = np.asarray(ring, dtype=np.float64)
        distances = ((joined[:, None] - ring[None]) ** 2).sum(axis=2)
        here, there = np.unravel_index(int(distances.argmin()), distances.shape)
        turned = np.roll(ring, -int(there), axis=0)
        joined = np.concatenate([joined[: here + 1], turned, turned[:1], joined[here:]])
    return [float(value) for value in joined.ravel()]
