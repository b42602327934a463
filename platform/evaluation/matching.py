"""Detections of one image against its ground truth: the part of COCO evaluation that runs where the prediction is made.

Letters: D detections, G ground-truth objects, C candidates of one detection, A area ranges, T IoU thresholds.
Source: pycocotools 2.0.11, cocoeval.py (COCOeval.evaluateImg); metrics made of these parts are equal to its metrics.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_masks

from maskray.platform.data.formats.segmentation import segmentation_rle
from maskray.platform.evaluation.oks import detection_area, keypoints_problem, num_labelled, similarities
from maskray.platform.evaluation.rules import RULES, IouType, Rules

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True)
class ImageMatches:
    """What the metrics need of one image: a few numbers per detection, none per pixel or per pair.

    categories (D,) int64 category ids; scores (D,) float64, within a category descending (ties in the order given) and
    at most the last of Rules.limits; matched and ignored (D, A, T) bool; gt_categories (C,) int64 with gt_counts (C, A)
    int64, the objects that are not ignored. Plain arrays: it pickles, and parts merge in any order.
    """

    image_id: int
    iou_type: IouType
    categories: NDArray[np.int64]
    scores: NDArray[np.float64]
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    gt_categories: NDArray[np.int64]
    gt_counts: NDArray[np.int64]


def match_image(
    image_id: int,
    image_size: tuple[int, int],
    ground_truth: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    category_ids: Sequence[int],
    iou_type: IouType,
) -> ImageMatches:
    """Match the detections of one image greedily, best score first, per category, area range and IoU threshold.

    image_size is height and width in pixels. Ground truth has category_id, bbox [x, y, w, h], area, iscrowd and for
    segm a segmentation (polygons or RLE), for keypoints perhaps keypoints and num_keypoints; detections are COCO
    results (category_id, score, bbox, and for segm an RLE, for keypoints keypoints). The area of a detection is that of
    its box, of its mask for segm. Categories outside category_ids are left out, as pycocotools does. Raises ValueError
    when a score is not a finite number, or a mask is missing for segm, or 17 keypoints for keypoints.
    """
    _check_regions(image_id, ground_truth, detections, iou_type)
    rules = RULES[iou_type]
    known = set(category_ids)
    gt_of: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    dt_of: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for annotation in ground_truth:
        if annotation["category_id"] in known:
            gt_of[annotation["category_id"]].append(annotation)
    for detection in detections:
        if detection["category_id"] in known:
            dt_of[detection["category_id"]].append(detection)
    categories, scores, matched, ignored = [], [], [], []
    gt_counts = []
    for category in sorted(gt_of.keys() | dt_of.keys()):
        gts, dts = gt_of[category], dt_of[category]
        gt_ignored = _ignored_ground_truth(gts, iou_type)
        if gts:
            gt_counts.append((category, np.count_nonzero(~gt_ignored, axis=1)))
        if dts:
            kept, kept_scores = _best_first(dts, image_id, rules.limits[-1])
            areas, overlaps = _compare(kept, gts, image_size, iou_type)
            crowd = np.array([bool(g.get("iscrowd", 0)) for g in gts], dtype=bool)
            is_matched, is_ignored = match_greedily(overlaps, gt_ignored, crowd, areas, rules)
            categories.append(np.full(len(kept), category, dtype=np.int64))
            scores.append(kept_scores)
            matched.append(is_matched)
            ignored.append(is_ignored)
    shape = (0, len(rules.areas), len(IOU_THRESHOLDS))
    return ImageMatches(
        image_id=int(image_id),
        iou_type=iou_type,
        categories=np.concatenate([np.zeros(0, dtype=np.int64), *categories]),
        scores=np.concatenate([np.zeros(0), *scores]),
        matched=np.concatenate([np.zeros(shape, dtype=bool), *matched]),
        ignored=np.concatenate([np.zeros(shape, dtype=bool), *ignored]),
        gt_categories=np.array([category for category, _ in gt_counts], dtype=np.int64),
        gt_counts=np.array([counts for _, counts in gt_counts], dtype=np.int64).reshape(-1, len(rules.areas)),
    )


def match_greedily(
    overlaps: NDArray[np.float64],
    gt_ignored: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    areas: NDArray[np.float64],
    rules: Rules = RULES["bbox"],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Give every detection, best score first, the free object that it overlaps most: matched, ignored (D, A, T) bool.

    overlaps (D, G) IoU, gt_ignored (A, G), crowd (G,) bool, areas (D,) of the detections in square pixels. An object
    that counts goes before an ignored one; of equal overlaps the later object is taken; a crowd is never used up.
    """
    num_detections, num_objects = overlaps.shape
    low, high = np.array(list(rules.areas.values())).T
    shape = (num_detections, len(rules.areas), len(IOU_THRESHOLDS))
    matched = np.zeros(shape, dtype=bool)
    ignored = np.zeros(shape, dtype=bool)
    free = np.ones((*shape[1:], num_objects), dtype=bool)
    area_index, threshold_index = np.indices(shape[1:])
    # Most detections of a weak model touch nothing at IoU 0.5: only the others need the sequential part.
    for d in np.flatnonzero((overlaps >= IOU_THRESHOLDS[0]).any(axis=1)):
        objects = np.flatnonzero(overlaps[d] >= IOU_THRESHOLDS[0])
        objects = objects[np.lexsort((-objects, -overlaps[d, objects]))]
        possible = free[:, :, objects] & (overlaps[d, objects] >= IOU_THRESHOLDS[:, None])  # (A, T, C)
        preferred = possible & ~gt_ignored[:, None, objects]
        has_preferred = preferred.any(axis=2)
        choice = objects[np.where(has_preferred, preferred.argmax(axis=2), possible.argmax(axis=2))]  # (A, T)
        matched[d] = possible.any(axis=2)
        ignored[d] = matched[d] & ~has_preferred
        used = matched[d] & ~crowd[choice]
        free[area_index[used], threshold_index[used], choice[used]] = False
    outside = (areas[:, None] < low) | (areas[:, None] > high)  # (D, A)
    ignored |= ~matched & outside[:, :, None]
    return matched, ignored


def ignore_maskless(annotations: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Ground truth for segm where objects without a mask neither count nor harm: their boxes are taken for crowds."""
    return [one if one.get("segmentation") else {**one, **_box_as_crowd(one["bbox"])} for one in annotations]


def _box_as_crowd(bbox: Sequence[float]) -> dict[str, Any]:
    x, y, width, height = bbox
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    return {"segmentation": [corners], "iscrowd": 1}


def annotation_rle(segmentation: Any, image_size: tuple[int, int]) -> dict[str, Any]:
    """A COCO segmentation, polygons or RLE of either kind, as one compressed RLE; image_size is height and width."""
    return segmentation_rle(segmentation, *image_size)


def _check_regions(
    image_id: int,
    ground_truth: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    iou_type: IouType,
) -> None:
    if iou_type == "bbox":
        return
    for kind, entries in (("an annotation", ground_truth), ("a detection", detections)):
        if iou_type == "segm" and not all(entry.get("segmentation") for entry in entries):
            raise ValueError(f"image {image_id}: {kind} has no segmentation, which segm needs")
        problems = [keypoints_problem(entry, kind) for entry in entries] if iou_type == "keypoints" else []
        for problem in filter(None, problems):
            raise ValueError(f"image {image_id}: {problem}")


def _best_first(
    detections: list[Mapping[str, Any]], image_id: int, limit: int
) -> tuple[list[Mapping[str, Any]], NDArray[np.float64]]:
    """At most `limit` detections of a category by descending score, equal scores in the order given."""
    scores = np.array([d["score"] for d in detections], dtype=np.float64)
    if not np.isfinite(scores).all():
        raise ValueError(f"image {image_id}: a detection has a score that is not a finite number")
    order = np.argsort(-scores, kind="stable")[:limit]
    return [detections[i] for i in order], scores[order]


def _ignored_ground_truth(ground_truth: list[Mapping[str, Any]], iou_type: IouType) -> NDArray[np.bool_]:
    """Objects that neither count nor harm, (A, G) bool: crowds, those outside the area range, without keypoints."""
    areas = np.array([g["area"] for g in ground_truth], dtype=np.float64)
    crowd = np.array([bool(g.get("iscrowd", 0)) for g in ground_truth], dtype=bool)
    if iou_type == "keypoints":
        crowd |= np.array([num_labelled(g) == 0 for g in ground_truth], dtype=bool)
    low, high = np.array(list(RULES[iou_type].areas.values())).T[:, :, None]
    ignored: NDArray[np.bool_] = crowd | (areas < low) | (areas > high)
    return ignored


def _compare(
    detections: list[Mapping[str, Any]],
    ground_truth: list[Mapping[str, Any]],
    image_size: tuple[int, int],
    iou_type: IouType,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Areas (D,) of detections in square pixels and their overlaps (D, G) with objects.

    The overlap is IoU, with a crowd the share of the detection inside the crowd, or the similarity of keypoints.
    """
    crowd = [int(bool(g.get("iscrowd", 0))) for g in ground_truth]
    if iou_type == "keypoints":
        return np.array([detection_area(d) for d in detections]), similarities(detections, ground_truth)
    if iou_type == "bbox":
        boxes = np.array([d["bbox"] for d in detections], dtype=np.float64).reshape(-1, 4)
        gt_boxes = np.array([g["bbox"] for g in ground_truth], dtype=np.float64).reshape(-1, 4)
        areas = boxes[:, 2] * boxes[:, 3]
        return areas, rle_masks.iou(boxes, gt_boxes, crowd) if ground_truth else np.zeros((len(boxes), 0))
    rles = [annotation_rle(d["segmentation"], image_size) for d in detections]
    gt_rles = [annotation_rle(g["segmentation"], image_size) for g in ground_truth]
    areas = rle_masks.area(rles).astype(np.float64)
    return areas, rle_masks.iou(rles, gt_rles, crowd) if ground_truth else np.zeros((len(rles), 0))
