"""Masks, boxes and keypoints as SVG paths of few points, to be laid over a picture.

Letters: n corners of a ring.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from maskray.model.config import Category
from maskray.platform.data.formats.contours import trace_rings
from maskray.platform.data.formats.segmentation import segmentation_rle

TRACED_EDGE = 400  # pixels of the longer edge in which masks are traced
TOLERANCE = 1.2  # of these pixels, that an outline may be off


def mask_path(segmentation: Any, height: int, width: int) -> str:
    """The outline of a COCO segmentation in pixels of its image, holes too; empty without a pixel."""
    mask = coco_mask.decode(segmentation_rle(segmentation, height, width))
    step = max(height, width) / min(TRACED_EDGE, max(height, width))
    small = (max(1, round(width / step)), max(1, round(height / step)))
    reduced = np.asarray(Image.fromarray(mask * np.uint8(255)).resize(small, Image.Resampling.BOX)) >= 128
    scale = np.array([width / small[0], height / small[1]])
    rings = (simplify_ring(ring, TOLERANCE) * scale for ring in trace_rings(reduced))
    return "".join(_closed(ring) for ring in rings if len(ring) > 2)


def simplify_ring(ring: NDArray[Any], tolerance: float) -> NDArray[np.float64]:
    """The corners (n, 2) of a closed ring, but for those within a distance of the line that is left.

    Douglas and Peucker 1973, of the two halves between the first corner and the one farthest from it.
    """
    points = np.concatenate([ring, ring[:1]]).astype(np.float64)
    half = int(np.argmax(((points - points[0]) ** 2).sum(axis=1)))
    kept = {0, half}
    waiting = [(0, half), (half, len(points) - 1)]
    while waiting:
        start, end = waiting.pop()
        if end - start < 2:
            continue
        along = points[end] - points[start]
        offsets = points[start + 1 : end] - points[start]
        length = float(np.hypot(*along))
        cross = np.abs(offsets[:, 0] * along[1] - offsets[:, 1] * along[0])
        away = cross / length if length > 0 else np.hypot(*offsets.T)
        at = int(np.argmax(away))
        if away[at] > tolerance:
            middle = start + 1 + at
            kept.add(middle)
            waiting += [(start, middle), (middle, end)]
    return points[sorted(kept)]


def skeleton_path(entry: Mapping[str, Any], category: Category) -> str:
    """The labelled keypoints of an entry as dots, and the lines of its category between them; empty without any."""
    points = np.reshape(entry.get("keypoints") or [], (-1, 3))
    shown = points[:, 2] > 0
    lines = [
        f"M{_point(points[a - 1])}L{_point(points[b - 1])}"
        for a, b in category.skeleton
        if max(a, b) <= len(points) and shown[a - 1] and shown[b - 1]
    ]
    return "".join([*lines, *(f"M{_point(point)}h0" for point in points[shown])])


def _closed(ring: NDArray[np.float64]) -> str:
    return "M" + "L".join(map(_point, ring)) + "Z"


def _point(point: NDArray[Any]) -> str:
    return f"{point[0]:.4g} {point[1]:.4g}"
