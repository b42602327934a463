"""Average precision of some objects alone: by shape, by how crowded or occluded they are, by objects in the image.

An object outside a range neither counts nor harms, nor does a detection that is not matched and lies outside of it, as
COCO has it for areas. Letters: N images, G objects, D detections, S attributes, R ranges.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from maskray.ops.match_images import RegionColumns, match_images
from maskray.platform.evaluation.matching import IOU_THRESHOLDS
from maskray.platform.evaluation.protocols import Protocol
from maskray.platform.evaluation.rules import IouType

Floats = NDArray[np.float64]
NO_END = 1e30


@dataclass(frozen=True)
class Attribute:
    """Something about an object or detection, and the ranges of it by name, both ends included."""

    name: str
    meaning: str
    ranges: dict[str, tuple[float, float]]


# Shapes are those of TIDE (tidecv, qualifiers.py).
ATTRIBUTES = (
    Attribute(
        "aspect",
        "width of the box divided by its height",
        {"tall, to 0.75": (0, 0.75), "square": (0.75, 1.33), "wide, from 1.33": (1.33, NO_END)},
    ),
    Attribute(
        "crowding",
        "other objects whose boxes touch its box; of a detection, others than the object it overlaps most",
        {"alone": (0, 0), "1 or 2 others": (1, 2), "3 or more": (3, NO_END)},
    ),
    Attribute(
        "occlusion",
        "largest share of its box that lies in the box of one other object",
        {"to 10 %": (0, 0.1), "10 to 50 %": (0.1, 0.5), "from 50 %": (0.5, 1)},
    ),
    Attribute(
        "objects in the image",
        "objects of all classes, crowds not counted",
        {"to 3": (0, 3), "4 to 10": (4, 10), "11 or more": (11, NO_END)},
    ),
)
NUM_RANGES = 3


@dataclass(frozen=True)
class SliceMatches:
    """Levels (D, S) uint32 of detections, in the order of their MatchColumns, and objects (C, S, R) that count."""

    matched: NDArray[np.uint32]
    ignored: NDArray[np.uint32]
    objects: NDArray[np.int32]


def match_slices(
    sizes: NDArray[np.int64],
    objects: RegionColumns,
    detections: RegionColumns,
    iou_type: IouType,
    protocol: Protocol,
) -> SliceMatches:
    """Match N images once for each attribute; as match_columns, whose detections these are."""
    limit = protocol.rules[iou_type].limits[-1]
    measures = measure_regions(objects, detections)
    found = [
        match_images(
            protocol.kind(iou_type),
            sizes,
            replace(objects, measures=of_objects),
            replace(detections, measures=of_detections),
            np.array(list(attribute.ranges.values()), dtype=np.float64),
            IOU_THRESHOLDS,
            limit,
        )
        for attribute, of_objects, of_detections in zip(ATTRIBUTES, *(one.T for one in measures), strict=True)
    ]
    return SliceMatches(
        np.stack([one.matched for one in found], axis=1).astype(np.uint32),
        np.stack([one.ignored for one in found], axis=1).astype(np.uint32),
        np.stack([one.gt_objects for one in found], axis=1).astype(np.int32),
    )


def measure_regions(objects: RegionColumns, detections: RegionColumns) -> tuple[Floats, Floats]:
    """The attributes of objects (G, S) and detections (D, S), in the order of ATTRIBUTES."""
    gt_boxes, boxes = _boxes(objects), _boxes(detections)
    of_objects, of_detections = (np.zeros((len(one), len(ATTRIBUTES))) for one in (gt_boxes, boxes))
    assert objects.ignored is not None
    counting = (objects.classes >= 0) & ~objects.ignored
    for n in range(len(objects.offsets) - 1):
        rows, gt_rows = (one.rows[one.offsets[n] : one.offsets[n + 1]] for one in (detections, objects))
        others = gt_rows[counting[gt_rows]]
        itself = gt_rows[:, None] == others[None, :]
        of_objects[gt_rows, 1:3] = _surroundings(gt_boxes[gt_rows], gt_boxes[others], itself)
        of_detections[rows, 1:3] = _surroundings(boxes[rows], gt_boxes[others], None)
        of_objects[gt_rows, 3] = of_detections[rows, 3] = len(others)
    for target, of in ((of_objects, gt_boxes), (of_detections, boxes)):
        target[:, 0] = np.minimum(of[:, 2] / np.maximum(of[:, 3], 1e-9), NO_END)
    return of_objects, of_detections


def _boxes(columns: RegionColumns) -> Floats:
    """Boxes (., 4) x y width height, of masks where there are any."""
    if columns.masks is None:
        return columns.boxes
    left, top, right, bottom = columns.masks.extents.T
    return np.stack([left, top, right - left + 1, bottom - top + 1], axis=1)


def _surroundings(boxes: Floats, others: Floats, itself: NDArray[np.bool_] | None) -> Floats:
    """How many other boxes touch each box, and the largest share of it in one of them: (n, 2).

    itself (n, m) says which of the others a box is; without it, it is the one with the largest IoU.
    """
    if len(boxes) == 0 or len(others) == 0:
        return np.zeros((len(boxes), 2))
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (others[:, :2] + others[:, 2:])[None])
    inner = np.prod(np.maximum(high - low, 0), axis=2)
    area = np.maximum(np.prod(boxes[:, 2:], axis=1), 1e-9)[:, None]
    if itself is None:
        outer = area + np.prod(others[:, 2:], axis=1)[None] - inner
        itself = np.arange(len(others)) == np.argmax(inner / outer, axis=1)[:, None]
    inner = np.where(itself, 0, inner)
    return np.stack([(inner > 0).sum(axis=1), np.minimum(inner / area, 1).max(axis=1)], axis=1)
