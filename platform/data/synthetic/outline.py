"""Binary masks to COCO segmentations: polygons along the pixel edges where there is no hole, else RLE."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

_Edge = tuple[int, int, int]  # x, y of the start, direction
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up: the mask is at the right hand


def encode_segmentation(mask: NDArray[np.bool_]) -> list[list[float]] | dict[str, Any]:
    """A (h, w) bool mask as polygons [x0, y0, x1, y1, ...], one for each part, or as compressed RLE if it has a hole.

    The polygons fill to exactly the mask.
    """
    loops = trace_outlines(mask)
    if any(_signed_area(loop) < 0 for loop in loops):
        return encode_rle(mask)
    return [[float(value) for point in loop for value in point] for loop in loops]


def encode_rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A (h, w) bool mask as COCO's compressed run lengths, text so that it goes into JSON."""
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(size) for size in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def trace_outlines(mask: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """The corners (x, y) of every closed boundary of a mask; around holes they run the other way round.

    Pixels that touch only at a corner belong to different parts.
    """
    edges = _boundary_edges(mask)
    loops = []
    while edges:
        start = min(edges)
        edges.remove(start)
        x, y, direction = start
        loop = [(x, y)]
        while True:
            x, y = x + _STEPS[direction][0], y + _STEPS[direction][1]
            turned = _next_direction(edges, x, y, direction)
            if turned is None:
                break
            edges.remove((x, y, turned))
            if turned != direction:
                loop.append((x, y))
            direction = turned
        loops.append(loop)
    return loops


def _boundary_edges(mask: NDArray[np.bool_]) -> set[_Edge]:
    padded = np.pad(mask.astype(bool), 1)
    inside = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    starts = ((0, 0), (1, 0), (1, 1), (0, 1))  # where the top, right, bottom and left edge of a pixel begins
    edges: set[_Edge] = set()
    for direction, (neighbour, (dx, dy)) in enumerate(zip(neighbours, starts)):
        rows, columns = np.nonzero(inside & ~neighbour)
        edges.update((x, y, direction) for x, y in zip((columns + dx).tolist(), (rows + dy).tolist()))
    return edges


def _next_direction(edges: set[_Edge], x: int, y: int, direction: int) -> int | None:
    """Turn right first: where two pixels touch at a corner, that stays with the same pixel."""
    for turn in (1, 0, -1):
        candidate = (direction + turn) % 4
        if (x, y, candidate) in edges:
            return candidate
    return None


def _signed_area(loop: list[tuple[int, int]]) -> float:
    points = np.array(loop, dtype=np.float64)
    following = np.roll(points, -1, axis=0)
    return float((points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]).sum() / 2)
