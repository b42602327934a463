"""Shapes of annotation tools as COCO objects: polygons, rectangles, circles and ellipses, masks; boxes in pixels.

Coordinates are continuous, pixel (0, 0) covers 0..1 in x and y. A polygon stays a polygon, a mask becomes an RLE, since
polygons of COCO have no holes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from maskray.platform.data.formats.annotated import FoundObject
from maskray.platform.data.formats.segmentation import LONGEST_OUTLINE

Size = tuple[int, int]  # height, width in pixels
Polygon = list[float]  # x0 y0 x1 y1 ...
Aside = dict[str, Any]  # FoundObject.aside

# A circle is drawn as a polygon that nowhere is this many pixels away from it.
CHORD_PIXELS = 0.05
MOST_CHORDS = 720
DECIMALS = 3


def polygons_object(
    category: str, polygons: Sequence[Sequence[float]], size: Size, aside: Aside | None = None
) -> FoundObject:
    """An object of one polygon, or of several that are its parts; box from their extremes, within the image.

    area is the number of pixels inside, by pycocotools' rule. ValueError where a polygon has fewer than three corners,
    is not finite or far off, or where nothing of them is in the image.
    """
    rounded = [_checked(polygon, size) for polygon in polygons]
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in rounded])
    low, high = points.min(axis=0), points.max(axis=0)
    bbox = clipped_box(float(low[0]), float(low[1]), float(high[0]), float(high[1]), size)
    area = float(coco_mask.area(coco_mask.merge(coco_mask.frPyObjects(rounded, *size))))
    if area == 0:
        raise ValueError("a shape that covers no pixel")
    return FoundObject(category, bbox, area, rounded, aside or {})


def box_object(
    category: str, x0: float, y0: float, x1: float, y1: float, size: Size, aside: Aside | None = None
) -> FoundObject:
    """An object of which a box is all that is known, within the image; ValueError where nothing of it is."""
    bbox = clipped_box(x0, y0, x1, y1, size)
    return FoundObject(category, bbox, round(bbox[2] * bbox[3], DECIMALS), [], aside or {})


def mask_object(
    category: str, mask: NDArray[Any], corner: tuple[int, int], size: Size, aside: Aside | None = None
) -> FoundObject:
    """An object of a mask (h, w), whose upper left pixel is at column and row `corner` of the image; box by pixels.

    What leaves the image is cut off; ValueError where nothing is left.
    """
    left, top = corner
    height, width = size
    inside = mask[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)] != 0
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if rows.size == 0:
        raise ValueError("a mask without a pixel in the image")
    top, left = max(0, top) + int(rows[0]), max(0, left) + int(columns[0])
    inside = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    bbox = (float(left), float(top), float(inside.shape[1]), float(inside.shape[0]))
    return FoundObject(category, bbox, float(inside.sum()), encode_crop(inside, (left, top), size), aside or {})


def encode_crop(mask: NDArray[np.bool_], corner: tuple[int, int], size: Size) -> dict[str, Any]:
    """The RLE, compressed, of a (h, w) mask at column and row `corner` of an image, which is never made as a whole."""
    height, width = size
    edges = np.diff(np.pad(mask.T, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    columns, rows = np.nonzero(edges == 1)
    starts = (columns + corner[0]) * height + rows + corner[1]
    columns, rows = np.nonzero(edges == -1)
    ends = (columns + corner[0]) * height + rows + corner[1]
    apart = starts[1:] != ends[:-1]  # a run that goes on at the top of the next column
    starts, ends = starts[np.append(True, apart)], ends[np.append(apart, True)]
    bounds = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [height * width]])
    counts = np.diff(bounds)
    rle = {"size": [height, width], "counts": (counts if counts[-1] else counts[:-1]).tolist()}
    packed = coco_mask.frPyObjects(rle, height, width)
    return {"size": [height, width], "counts": packed["counts"].decode("ascii")}


def rectangle_polygon(x0: float, y0: float, x1: float, y1: float, degrees: float = 0.0) -> Polygon:
    """The corners of a rectangle of two opposite corners, turned clockwise around its middle."""
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    return _turned([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], middle, degrees)


def ellipse_polygon(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Polygon:
    """A polygon inscribed in an ellipse around (x, y), turned clockwise; ValueError where a radius is not positive."""
    longest = max(radius_x, radius_y)
    if not (radius_x > 0 and radius_y > 0 and math.isfinite(longest)):
        raise ValueError("an ellipse without extent")
    # A chord of 2 pi / n is radius * (1 - cos(pi / n)) away at its middle; in quarters, so that the extremes are exact.
    needed = math.pi / math.sqrt(2 * CHORD_PIXELS / max(longest, 1.0))
    number = min(MOST_CHORDS, 4 * math.ceil(max(needed, 16) / 4))
    angles = [2 * math.pi * index / number for index in range(number)]
    points = [(x + radius_x * math.cos(angle), y + radius_y * math.sin(angle)) for angle in angles]
    return _turned(points, (x, y), degrees)


def clipped_box(x0: float, y0: float, x1: float, y1: float, size: Size) -> tuple[float, float, float, float]:
    """Two corners as x y width height, cut at the borders of the image; ValueError where no part of it is inside."""
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise ValueError("a shape whose coordinates are not finite numbers")
    height, width = size
    left, top = max(0.0, min(x0, x1)), max(0.0, min(y0, y1))
    right, bottom = min(float(width), max(x0, x1)), min(float(height), max(y0, y1))
    if right <= left or bottom <= top:
        raise ValueError("a shape that has no extent in its image")
    return (
        round(left, DECIMALS),
        round(top, DECIMALS),
        round(right - left, DECIMALS),
        round(bottom - top, DECIMALS),
    )


def _checked(polygon: Sequence[float], size: Size) -> Polygon:
    """A polygon rounded to a thousandth of a pixel."""
    if len(polygon) % 2 or len(polygon) < 6:
        raise ValueError("a polygon of fewer than three corners")
    reach = 2.0 * max(size)
    if not all(-reach <= value <= reach for value in polygon):
        raise ValueError("a polygon whose corners are far outside its image, or no numbers")
    points = np.reshape(polygon, (-1, 2))
    if np.abs(points - np.roll(points, 1, axis=0)).sum() > LONGEST_OUTLINE:
        raise ValueError(f"a polygon whose outline is longer than {LONGEST_OUTLINE} pixels")
    return [round(float(value), DECIMALS) for value in polygon]


def _turned(points: list[tuple[float, float]], middle: tuple[float, float], degrees: float) -> Polygon:
    if degrees % 360 == 0:
        return [value for point in points for value in point]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned = []
    for x, y in points:
        x, y = x - middle[0], y - middle[1]
        turned += [middle[0] + x * cosine - y * sine, middle[1] + x * sine + y * cosine]
    return turned


def union_object(parts: Sequence[FoundObject], size: Size) -> FoundObject:
    """One object of parts that are polygons and masks together; category and what stands aside are the first's."""
    encoded = [
        coco_mask.merge(coco_mask.frPyObjects(part.segmentation, *size))
        if isinstance(part.segmentation, list)
        else part.segmentation
        for part in parts
    ]
    union = coco_mask.merge(encoded)
    x, y, width, height = (float(value) for value in coco_mask.toBbox(union))
    segmentation = {"size": list(size), "counts": union["counts"].decode("ascii")}
    return FoundObject(
        parts[0].category, (x, y, width, height), float(coco_mask.area(union)), segmentation, parts[0].aside
    )
