"""Greedy matching of detections with objects, of many images in one call, as COCO evaluation does it.

Letters: N images, G objects, D detections, K keypoints, A area ranges, T thresholds, C categories with objects of all
images. Levels of a detection are bits: bit a * T + t of area range a and threshold t.
Source: pycocotools 2.0.11, cocoeval.py (COCOeval.evaluateImg, computeIoU, computeOks); equal to it to the last bit.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from maskray.ops.coco_library import CArguments, CColumns, CLevels, CMasks, CPointers, Held, call
from maskray.ops.coco_masks import MaskColumns

Kind = Literal["bbox", "segm", "keypoints", "boundary"]
KINDS: dict[Kind, int] = {"bbox": 0, "segm": 1, "keypoints": 2, "boundary": 3}
# How far from its outline a pixel is of the boundary, as a share of the diagonal (Cheng et al. 2021).
BOUNDARY_RATIO = 0.02


@dataclass(frozen=True)
class RegionColumns:
    """Objects or detections of N images: the rows of image n are rows[offsets[n]:offsets[n + 1]], in that order.

    By row: classes int32, -1 where it takes no part; boxes (., 4) x y width height; areas in square pixels; ignored
    bool, of objects at every level, of detections where they are not matched. Of detections scores, finite; of objects
    crowd bool. measures are what area ranges are of in place of areas. keypoints, of objects (., 3 K) with a flag of
    each and of detections (., 2 K), and masks where these are compared.
    """

    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]
    classes: NDArray[np.int32]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    scores: NDArray[np.float64] | None = None
    crowd: NDArray[np.bool_] | None = None
    ignored: NDArray[np.bool_] | None = None
    keypoints: NDArray[np.float64] | None = None
    masks: MaskColumns | None = None
    measures: NDArray[np.float64] | None = None

    def to_c(self, held: Held) -> CColumns:
        """For a call of the library; ValueError where the columns do not fit one another."""
        count = len(self.classes)
        columns = (self.areas, self.scores, self.crowd, self.ignored, self.keypoints, self.boxes, self.measures)
        if any(column is not None and len(column) != count for column in columns):
            raise ValueError("columns: expected one length")
        if self.offsets[0] < 0 or self.offsets[-1] > len(self.rows) or (np.diff(self.offsets) < 0).any():
            raise ValueError("offsets: expected them to ascend within the rows")
        return CColumns(
            count,
            held.address(self.offsets, np.int64),
            held.address(self.rows, np.int64),
            held.address(self.classes, np.int32),
            held.address(self.boxes, np.float64),
            held.address(self.areas, np.float64),
            held.address(self.scores, np.float64),
            held.address(self.crowd, np.uint8),
            held.address(self.ignored, np.uint8),
            held.address(self.keypoints, np.float64),
            CMasks() if self.masks is None else self.masks.to_c(held),
            None if self.masks is None else held.address(self.masks.extents, np.float64),
            held.address(self.measures, np.float64),
        )


@dataclass(frozen=True)
class Matching:
    """What was matched: counts (N,) detections kept of each image, by class ascending, best first.

    rows (D,) of these; matched and ignored (D,) uint64 levels; gt_counts (N,) classes with objects of each image,
    gt_classes (C,) int32 and gt_objects (C, A) how many of theirs count.
    """

    counts: NDArray[np.int64]
    rows: NDArray[np.int64]
    matched: NDArray[np.uint64]
    ignored: NDArray[np.uint64]
    gt_counts: NDArray[np.int64]
    gt_classes: NDArray[np.int32]
    gt_objects: NDArray[np.int64]


def match_images(
    kind: Kind,
    sizes: NDArray[np.int64],
    objects: RegionColumns,
    detections: RegionColumns,
    areas: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    limit: int,
    sigmas: NDArray[np.float64] | None = None,
) -> Matching:
    """Match N images of sizes (N, 2) height and width; at most `limit` detections of a class and image are kept.

    areas (A, 2) both ends included; thresholds (T,) ascending; sigmas (K,) of keypoints. ValueError where a text is no
    mask of its image, or columns do not fit.
    """
    held = Held()
    arguments = to_arguments(kind, sizes, objects, detections, held)
    arguments.levels, arguments.limit = held.levels(areas, thresholds), limit
    if kind == "keypoints":
        similarities = _similarities(arguments, objects, detections, sigmas, limit, held)
        arguments.similarities = held.address(similarities, np.float64)
    result = _room(len(sizes), objects, detections, len(areas))
    kept = (ctypes.c_int64 * 2)()
    pointers = CPointers((ctypes.c_void_p * 7)(*(array.ctypes.data for array in vars(result).values())))
    call("maskray_match_images", ctypes.byref(arguments), ctypes.byref(pointers), kept)
    cut = {name: getattr(result, name)[: kept[0]] for name in ("rows", "matched", "ignored")}
    return replace(result, **cut, gt_classes=result.gt_classes[: kept[1]], gt_objects=result.gt_objects[: kept[1]])


def to_arguments(
    kind: Kind, sizes: NDArray[np.int64], objects: RegionColumns, detections: RegionColumns, held: Held
) -> CArguments:
    """What a call of the library compares; ValueError where columns do not fit."""
    if len(objects.offsets) != len(sizes) + 1 or len(detections.offsets) != len(sizes) + 1:
        raise ValueError("offsets: expected one more than there are images")
    if kind in ("segm", "boundary") and (objects.masks is None or detections.masks is None):
        raise ValueError("masks: there are none")
    return CArguments(
        kind=KINDS[kind],
        num_images=len(sizes),
        sizes=held.address(sizes, np.int64),
        objects=objects.to_c(held),
        detections=detections.to_c(held),
        boundary_ratio=BOUNDARY_RATIO,
    )


def _room(num_images: int, objects: RegionColumns, detections: RegionColumns, num_areas: int) -> Matching:
    """Arrays for all that can be found."""
    num_objects = int(objects.offsets[-1] - objects.offsets[0])
    num_detections = int(detections.offsets[-1] - detections.offsets[0])
    return Matching(
        counts=np.zeros(num_images, dtype=np.int64),
        rows=np.zeros(num_detections, dtype=np.int64),
        matched=np.zeros(num_detections, dtype=np.uint64),
        ignored=np.zeros(num_detections, dtype=np.uint64),
        gt_counts=np.zeros(num_images, dtype=np.int64),
        gt_classes=np.zeros(num_objects, dtype=np.int32),
        gt_objects=np.zeros((num_objects + 1, num_areas), dtype=np.int64),
    )


def _similarities(
    arguments: CArguments,
    objects: RegionColumns,
    detections: RegionColumns,
    sigmas: NDArray[np.float64] | None,
    limit: int,
    held: Held,
) -> NDArray[np.float64]:
    """Exponentials that the library sums up to similarities: NumPy's, which no other is equal to in every bit."""
    if sigmas is None or objects.keypoints is None or detections.keypoints is None:
        raise ValueError("keypoints: there are none")
    if objects.keypoints.shape[1] != 3 * len(sigmas) or detections.keypoints.shape[1] != 2 * len(sigmas):
        raise ValueError("keypoints: expected x, y and a flag of each of an object, x and y of a detection")
    arguments.num_keypoints = len(sigmas)
    arguments.variances = held.address((sigmas * 2) ** 2, np.float64)
    # A class of an image has at most all of its objects, and detections within the limit.
    per_image = np.diff(objects.offsets) * np.diff(detections.offsets)
    target = np.empty(int(per_image.sum()) * len(sigmas))
    count = ctypes.c_int64()
    call(
        "maskray_oks_exponents",
        ctypes.byref(arguments),
        ctypes.c_void_p(target.ctypes.data),
        ctypes.c_int64(len(target)),
        ctypes.byref(count),
    )
    return np.exp(target[: count.value])


def match_overlaps(
    overlaps: NDArray[np.float64],
    gt_ignored: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    det_areas: NDArray[np.float64],
    areas: NDArray[np.float64],
    thresholds: NDArray[np.float64],
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The matching alone: levels (D,) at which detections, best first, are matched and ignored.

    overlaps (D, G), gt_ignored (A, G) and crowd (G,) of objects, det_areas (D,); areas and thresholds as match_images.
    """
    num_detections, num_objects = overlaps.shape
    if gt_ignored.shape != (len(areas), num_objects) or len(crowd) != num_objects or len(det_areas) != num_detections:
        raise ValueError("overlaps: expected (D, G), with ignored (A, G), crowd (G,) and areas (D,)")
    held = Held()
    matched, ignored = np.zeros(num_detections, dtype=np.uint64), np.zeros(num_detections, dtype=np.uint64)
    levels: CLevels = held.levels(areas, thresholds)
    call(
        "maskray_match_overlaps",
        ctypes.byref(levels),
        ctypes.c_int64(num_detections),
        ctypes.c_int64(num_objects),
        ctypes.c_void_p(held.address(overlaps, np.float64)),
        ctypes.c_void_p(held.address(gt_ignored, np.uint8)),
        ctypes.c_void_p(held.address(crowd, np.uint8)),
        ctypes.c_void_p(held.address(det_areas, np.float64)),
        ctypes.c_void_p(matched.ctypes.data),
        ctypes.c_void_p(ignored.ctypes.data),
    )
    return matched, ignored


def unpack_levels(levels: NDArray[np.uint64], num_areas: int, num_thresholds: int) -> NDArray[np.bool_]:
    """Levels (D,) as flags (D, A, T)."""
    bits = np.arange(num_areas * num_thresholds, dtype=np.uint64)
    flags = (levels[:, None] >> bits) & np.uint64(1)
    return flags.astype(bool).reshape(-1, num_areas, num_thresholds)


def pack_levels(flags: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Flags (D, A, T) as levels (D,)."""
    bits = np.arange(flags.shape[1] * flags.shape[2], dtype=np.uint64)
    packed: NDArray[np.uint64] = (flags.reshape(len(flags), len(bits)).astype(np.uint64) << bits).sum(
        axis=1, dtype=np.uint64
    )
    return packed
