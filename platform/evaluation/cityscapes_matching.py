"""Detections of images against ground truth by the rules of Cityscapes: groups, void and small objects are ignored.

Letters: D detections and G objects of one class and image, T overlaps. Source: cityscapesscripts 2.3.0,
evaluation/evalInstanceLevelSemanticLabeling.py (assignGt2Preds, evaluateMatches), to which metrics are equal where the
masks of ground truth do not cover one another, as those of Cityscapes do not. Above an overlap of a half a detection
then has at most one object, so that an image can be matched where it is predicted and its part is a few numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from maskray.ops.match_images import pack_levels
from maskray.platform.data.formats.segmentation import segmentation_rle
from maskray.platform.evaluation.columns import Entries, class_indices
from maskray.platform.evaluation.matching import MatchColumns

# As np.arange gives them, which in floats are not always the decimals; an overlap has to be greater.
OVERLAPS = np.arange(0.5, 1.0, 0.05)
MIN_REGION_PIXELS = 100
Region = Mapping[str, Any] | None  # an RLE

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class RegionImage:
    """One image: size is height and width, truth and detections as in match_image, ignore_region an RLE of void."""

    image_id: int
    size: tuple[int, int]
    truth: Entries
    detections: Entries
    ignore_region: Region = None


def match_regions(images: Sequence[RegionImage], category_ids: Sequence[int]) -> MatchColumns:
    """Match images; of every overlap a detection is matched, ignored, or neither, which is a false positive.

    Objects that are crowds or smaller than MIN_REGION_PIXELS are not counted. Areas are those of the masks. Detections
    without a pixel take no part. ValueError where a mask is missing.
    """
    ids = np.array(sorted(set(category_ids)), dtype=np.int64)
    parts = [_match_image(image, ids) for image in images]
    levels = np.zeros((0, 1, len(OVERLAPS)), dtype=bool)
    return MatchColumns(
        iou_type="segm",
        category_ids=ids,
        image_ids=np.array([image.image_id for image in images], dtype=np.int64),
        counts=np.array([len(part.scores) for part in parts], dtype=np.int64),
        classes=np.concatenate([np.zeros(0, np.int32), *(part.classes for part in parts)]),
        scores=np.concatenate([np.zeros(0), *(part.scores for part in parts)]),
        matched=pack_levels(np.concatenate([levels, *(part.matched[:, None] for part in parts)])),
        ignored=pack_levels(np.concatenate([levels, *(part.ignored[:, None] for part in parts)])),
        gt_counts=np.array([len(part.gt_classes) for part in parts], dtype=np.int64),
        gt_classes=np.concatenate([np.zeros(0, np.int32), *(part.gt_classes for part in parts)]),
        gt_objects=np.concatenate([np.zeros((0, 1), np.int64), *(part.gt_objects[:, None] for part in parts)]),
    )


@dataclass(frozen=True)
class _Part:
    """classes and scores (D,), matched and ignored (D, T); gt_classes (C,) with objects that count, as many as say."""

    classes: NDArray[np.int32]
    scores: NDArray[np.float64]
    matched: Bools
    ignored: Bools
    gt_classes: NDArray[np.int32]
    gt_objects: Ints


@dataclass(frozen=True)
class _Regions:
    """Masks of one class and what is known of them: areas in pixels."""

    masks: list[dict[str, Any]]
    areas: Ints


def _match_image(image: RegionImage, ids: Ints) -> _Part:
    truth, detections = (_by_class(entries, ids, image) for entries in (image.truth, image.detections))
    none = np.zeros((0, len(OVERLAPS)), dtype=bool)
    classes, scores, matched, ignored, gt_classes, gt_objects = [], [np.zeros(0)], [none], [none], [], []
    for k in range(len(ids)):
        objects, crowd = _regions(truth.get(k, []), image.size), [bool(e.get("iscrowd", 0)) for e in truth.get(k, [])]
        counted = ~np.array(crowd, dtype=bool) & (objects.areas >= MIN_REGION_PIXELS)
        if counted.any():
            gt_classes.append(k)
            gt_objects.append(int(counted.sum()))
        found = _regions(detections.get(k, []), image.size)
        seen = np.flatnonzero(found.areas > 0)
        if not len(seen):
            continue
        found = _Regions([found.masks[d] for d in seen], found.areas[seen])
        of_class = np.array([detections[k][d]["score"] for d in seen], dtype=np.float64)
        best, levels, share = _overlap(found, objects, np.array(crowd, dtype=bool), image.ignore_region)
        true, left_out = _judge(of_class, best, levels, share, counted)
        classes += [k] * len(seen)
        scores.append(of_class)
        matched.append(true)
        ignored.append(left_out)
    return _Part(
        np.array(classes, dtype=np.int32),
        np.concatenate(scores),
        np.concatenate(matched),
        np.concatenate(ignored),
        np.array(gt_classes, dtype=np.int32),
        np.array(gt_objects, dtype=np.int64),
    )


def _by_class(entries: Entries, ids: Ints, image: RegionImage) -> dict[int, list[Mapping[str, Any]]]:
    """Entries of known classes; ValueError where one has no mask or a score that is no finite number."""
    found: dict[int, list[Mapping[str, Any]]] = {}
    indices = class_indices(np.array([entry["category_id"] for entry in entries], dtype=np.int64), ids)
    for entry, k in zip(entries, indices.tolist(), strict=True):
        if not entry.get("segmentation"):
            raise ValueError(f"image {image.image_id}: no segmentation, which the protocol cityscapes needs")
        if not np.isfinite(entry.get("score", 0.0)):
            raise ValueError(f"image {image.image_id}: a detection has a score that is not a finite number")
        if k >= 0:
            found.setdefault(k, []).append(entry)
    return found


def _regions(entries: Entries, size: tuple[int, int]) -> _Regions:
    masks = [segmentation_rle(entry["segmentation"], *size) for entry in entries]
    areas = coco_mask.area(masks) if masks else []
    return _Regions(masks, np.array(areas, dtype=np.int64))


def _intersections(found: _Regions, masks: list[dict[str, Any]]) -> Ints:
    """Common pixels (D, G): the share of a detection that a crowd covers, which the library has, times its area."""
    if not masks:
        return np.zeros((len(found.masks), 0), dtype=np.int64)
    shares = coco_mask.iou(found.masks, masks, [1] * len(masks))
    return np.rint(np.asarray(shares) * found.areas[:, None]).astype(np.int64)


def _overlap(found: _Regions, objects: _Regions, crowd: Bools, void: Region) -> tuple[Ints, Bools, NDArray[np.float64]]:
    """Of detections the object (D,) that each overlaps most, at which overlaps (D, T), and its share to ignore (D,)."""
    common = _intersections(found, objects.masks)
    if common.shape[1]:
        union = objects.areas[None] + found.areas[:, None] - common
        overlaps = common.astype(np.float64) / union
        best = overlaps.argmax(axis=1)
        levels = overlaps[np.arange(len(best)), best][:, None] > OVERLAPS
    else:
        best = np.zeros(len(found.masks), dtype=np.int64)
        levels = np.zeros((len(best), len(OVERLAPS)), dtype=bool)
    # A small group counts twice, as it does in the scripts.
    weights = crowd.astype(np.int64) + (objects.areas < MIN_REGION_PIXELS)
    pixels = (common * weights).sum(axis=1)
    if void is not None:
        pixels = pixels + _intersections(found, [dict(void)])[:, 0]
    return best, levels, pixels / found.areas


def _judge(
    scores: NDArray[np.float64], best: Ints, levels: Bools, share: NDArray[np.float64], counted: Bools
) -> tuple[Bools, Bools]:
    """Which detections (D, T) are matched, and which ignored: the best of each object that counts is its match.

    Others of the same object are false positives, as are those of no object, unless more of them than the overlap is to
    be ignored. What overlaps a group or a small object is ignored.
    """
    matched, ignored = np.zeros_like(levels), np.zeros_like(levels)
    for t in range(levels.shape[1]):
        taken = np.zeros(len(counted), dtype=bool)
        for d in np.argsort(-scores, kind="stable"):
            if not levels[d, t]:
                ignored[d, t] = share[d] > OVERLAPS[t]
            elif not counted[best[d]]:
                ignored[d, t] = True
            elif not taken[best[d]]:
                taken[best[d]] = matched[d, t] = True
    return matched, ignored
