"""Precision and recall from the matches of all images.

Letters: N images, D detections, K classes, A area ranges, T thresholds, R recall levels, M limits.
Source: pycocotools 2.0.11, cocoeval.py (COCOeval.accumulate); equal to it to the last bit.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from maskray.ops.coco_library import CDetections, CPointers, Held, call

Floats = NDArray[np.float64]


def accumulate_matches(
    counts: NDArray[np.int64],
    classes: NDArray[np.int32],
    scores: Floats,
    matched: NDArray[np.uint64],
    ignored: NDArray[np.uint64],
    gt_objects: NDArray[np.int64],
    num_thresholds: int,
    recall_levels: Floats,
    limits: tuple[int, ...],
) -> tuple[Floats, Floats, Floats]:
    """Precision (T, R, K, A, M), recall (T, K, A, M) and scores as precision; -1 of classes without objects (K, A).

    Detections (D,) are those of N images one after the other, counts (N,) of each, by class, best first; matched and
    ignored are levels as match_images has them. Equal scores rank in the order of the images. Of each class and image
    the first limits[m] count.
    """
    num_classes, num_areas = gt_objects.shape
    if counts.sum() != len(classes) or not len(classes) == len(scores) == len(matched) == len(ignored):
        raise ValueError("counts: expected them to add up to the detections, and columns of that length")
    held = Held()
    levels = held.levels(np.zeros((num_areas, 2)), np.zeros(num_thresholds))
    detections = CDetections(
        len(counts),
        held.address(counts, np.int64),
        held.address(classes, np.int32),
        held.address(scores, np.float64),
        held.address(matched, np.uint64),
        held.address(ignored, np.uint64),
        num_classes,
        held.address(gt_objects, np.int64),
        len(recall_levels),
        held.address(recall_levels, np.float64),
        len(limits),
        held.address(np.array(limits), np.int64),
    )
    shape = (num_thresholds, len(recall_levels), num_classes, num_areas, len(limits))
    precision = np.full(shape, -1.0)
    recall = np.full((shape[0], *shape[2:]), -1.0)
    at_score = np.full(shape, -1.0)
    curves = CPointers((ctypes.c_void_p * 7)(precision.ctypes.data, recall.ctypes.data, at_score.ctypes.data))
    call("maskray_accumulate", ctypes.byref(levels), ctypes.byref(detections), ctypes.byref(curves))
    return precision, recall, at_score
