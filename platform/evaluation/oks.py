"""Object keypoint similarity (OKS): what stands in for IoU where keypoints are compared.

Letters: D detections, G ground-truth objects, K keypoints.
Source: pycocotools 2.0.11, cocoeval.py (COCOeval.computeOks); equal to it to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Standard deviation of annotators per keypoint of COCO's person, as a share of the square root of the area.
COCO_SIGMAS = np.array(
    [0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89]
) / 10.0  # fmt: skip
NUM_KEYPOINTS = len(COCO_SIGMAS)


def similarities(
    detections: Sequence[Mapping[str, Any]], ground_truth: Sequence[Mapping[str, Any]]
) -> NDArray[np.float64]:
    """OKS (D, G) in 0..1 of detections [x, y, score, ...] and annotations [x, y, visibility, ...] in pixels.

    Labelled keypoints alone count. Of an object without any, the similarity says how near the detection lies to its
    box, drawn out to three times its sides.
    """
    points = np.array([d["keypoints"] for d in detections], dtype=np.float64).reshape(-1, NUM_KEYPOINTS, 3)
    found_x, found_y = points[..., 0], points[..., 1]
    similarity = np.zeros((len(detections), len(ground_truth)))
    for j, annotation in enumerate(ground_truth):
        x, y, visibility = labelled_points(annotation).T
        labelled = visibility > 0
        if labelled.any():
            dx, dy = found_x - x, found_y - y
        else:
            left, top, width, height = annotation["bbox"]
            dx = _beyond(found_x, left - width, left + width * 2)
            dy = _beyond(found_y, top - height, top + height * 2)
        error = (dx**2 + dy**2) / (COCO_SIGMAS * 2) ** 2 / (annotation["area"] + np.spacing(1)) / 2
        if labelled.any():
            error = np.ascontiguousarray(error[:, labelled])  # rows in one piece: sums are in the order of the source
        similarity[:, j] = np.sum(np.exp(-error), axis=1) / error.shape[1]
    return similarity


def labelled_points(annotation: Mapping[str, Any]) -> NDArray[np.float64]:
    """Keypoints (K, 3) of an annotation; zeros, of which none is labelled, where it has none."""
    keypoints = annotation.get("keypoints") or np.zeros(3 * NUM_KEYPOINTS)
    return np.asarray(keypoints, dtype=np.float64).reshape(NUM_KEYPOINTS, 3)


def num_labelled(annotation: Mapping[str, Any]) -> int:
    """Labelled keypoints as the annotation states them, or counted where it does not."""
    stated = annotation.get("num_keypoints")
    return int((labelled_points(annotation)[:, 2] > 0).sum()) if stated is None else int(stated)


def detection_area(detection: Mapping[str, Any]) -> float:
    """Area in square pixels of the box, or of the extent of the keypoints of a detection without one."""
    if "bbox" in detection:
        return float(detection["bbox"][2] * detection["bbox"][3])
    x, y = detection["keypoints"][0::3], detection["keypoints"][1::3]
    return float((max(x) - min(x)) * (max(y) - min(y)))


def keypoints_problem(entry: Mapping[str, Any], kind: str) -> str | None:
    """What is wrong with the keypoints of a detection or an annotation, or None; an annotation may have none."""
    keypoints = entry.get("keypoints")
    if not keypoints and kind == "an annotation":
        return None
    if not keypoints:
        return f"{kind} has no keypoints, which keypoints needs"
    if len(keypoints) != 3 * NUM_KEYPOINTS:
        return (
            f"{kind} has {len(keypoints) / 3:g} keypoints: how exact they can be is known of COCO's "
            f"{NUM_KEYPOINTS} keypoints of a person alone"
        )
    return None


def _beyond(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """How far values lie outside low..high."""
    return np.maximum(0, low - values) + np.maximum(0, values - high)
