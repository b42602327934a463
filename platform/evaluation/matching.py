"""Detections of images against their ground truth: the part of COCO evaluation that runs where the prediction is made.

Letters: N images, D detections, G ground-truth objects, A area ranges, T IoU thresholds, C categories with objects.
Source: pycocotools 2.0.11, cocoeval.py (COCOeval.evaluateImg); metrics made of these parts are equal to its metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.ops.match_images import RegionColumns, match_images, pack_levels, unpack_levels
from maskray.platform.evaluation.columns import Entries, class_indices, gather_detections, gather_objects
from maskray.platform.evaluation.oks import COCO_SIGMAS
from maskray.platform.evaluation.protocols import COCO, Protocol
from maskray.platform.evaluation.rules import RULES, IouType

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
IMAGES_AT_ONCE = 512  # of keypoints, whose similarities lie in memory for so many images


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


@dataclass(frozen=True)
class MatchColumns:
    """The same of N images, 28 bytes a detection: those of image n are counts[n] of all, in the order of the images.

    category_ids (K,) ascending are what classes (D,) int32 and gt_classes (C,) are indices of; matched and ignored (D,)
    are levels as ops/match_images.py has them; gt_counts (N,) categories with objects of each image, gt_objects (C, A).
    """

    iou_type: IouType
    category_ids: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    counts: NDArray[np.int64]
    classes: NDArray[np.int32]
    scores: NDArray[np.float64]
    matched: NDArray[np.uint64]
    ignored: NDArray[np.uint64]
    gt_counts: NDArray[np.int64]
    gt_classes: NDArray[np.int32]
    gt_objects: NDArray[np.int64]

    def images(self) -> list[ImageMatches]:
        """Each image of its own, in the order of the columns."""
        num_areas = self.gt_objects.shape[1]
        matched, ignored = (
            unpack_levels(levels, num_areas, len(IOU_THRESHOLDS)) for levels in (self.matched, self.ignored)
        )
        ends, gt_ends = np.cumsum(self.counts), np.cumsum(self.gt_counts)
        found = []
        for n, image_id in enumerate(self.image_ids.tolist()):
            of, gt = slice(ends[n] - self.counts[n], ends[n]), slice(gt_ends[n] - self.gt_counts[n], gt_ends[n])
            categories, gt_categories = self.category_ids[self.classes[of]], self.category_ids[self.gt_classes[gt]]
            parts = (categories, self.scores[of], matched[of], ignored[of], gt_categories, self.gt_objects[gt])
            found.append(ImageMatches(image_id, self.iou_type, *parts))
        return found


def match_columns(
    image_ids: NDArray[np.int64],
    sizes: NDArray[np.int64],
    objects: RegionColumns,
    detections: RegionColumns,
    category_ids: NDArray[np.int64],
    iou_type: IouType,
    protocol: Protocol = COCO,
) -> MatchColumns:
    """Match N images of sizes (N, 2) height and width; classes of the columns are indices of category_ids."""
    rules = protocol.rules[iou_type]
    areas = np.array(list(rules.areas.values()))
    step = IMAGES_AT_ONCE if iou_type == "keypoints" else max(len(image_ids), 1)
    found = [
        match_images(
            protocol.kind(iou_type),
            sizes[start : start + step],
            of_images(objects, start, start + step),
            of_images(detections, start, start + step),
            areas,
            IOU_THRESHOLDS,
            rules.limits[-1],
            COCO_SIGMAS,
        )
        for start in range(0, max(len(image_ids), 1), step)
    ]
    joined = {name: np.concatenate([getattr(part, name) for part in found]) for name in vars(found[0])}
    rows = joined.pop("rows")
    assert detections.scores is not None
    return MatchColumns(
        iou_type=iou_type,
        category_ids=category_ids,
        image_ids=image_ids,
        classes=detections.classes[rows],
        scores=detections.scores[rows],
        **joined,
    )


def match_entries(
    images: Sequence[tuple[int, tuple[int, int], Entries, Entries]], category_ids: Sequence[int], iou_type: IouType
) -> MatchColumns:
    """Match images given as (image id, (height, width), ground truth, detections); see match_image."""
    return match_columns(*gather_images(images, category_ids, iou_type), iou_type)


def gather_images(
    images: Sequence[tuple[int, tuple[int, int], Entries, Entries]], category_ids: Sequence[int], iou_type: IouType
) -> tuple[NDArray[np.int64], NDArray[np.int64], RegionColumns, RegionColumns, NDArray[np.int64]]:
    """The first five arguments of match_columns, of images given as for match_entries."""
    ids = np.array(sorted(set(category_ids)), dtype=np.int64)
    image_ids = [int(image[0]) for image in images]
    sizes = np.array([image[1] for image in images], dtype=np.int64).reshape(-1, 2)
    objects = gather_objects([image[2] for image in images], image_ids, sizes, ids, iou_type)
    detections = gather_detections([image[3] for image in images], image_ids, sizes, ids, iou_type)
    return np.array(image_ids, dtype=np.int64), sizes, objects, detections, ids


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
    when a score is not a finite number, or a mask is missing for segm or none of the image, or 17 keypoints for
    keypoints.
    """
    (found,) = match_entries([(image_id, image_size, ground_truth, detections)], category_ids, iou_type).images()
    return found


def join_images(images: Sequence[ImageMatches], category_ids: Sequence[int], iou_type: IouType) -> MatchColumns:
    """The parts of single images as columns, in the order given; their categories are among category_ids."""
    ids = np.array(sorted(set(category_ids)), dtype=np.int64)
    shape = (0, len(RULES[iou_type].areas), len(IOU_THRESHOLDS))
    empty, none = np.zeros(0, dtype=np.int64), np.zeros(shape, dtype=bool)
    return MatchColumns(
        iou_type=iou_type,
        category_ids=ids,
        image_ids=np.array([image.image_id for image in images], dtype=np.int64),
        counts=np.array([len(image.scores) for image in images], dtype=np.int64),
        classes=class_indices(np.concatenate([empty, *(image.categories for image in images)]), ids),
        scores=np.concatenate([np.zeros(0), *(image.scores for image in images)]),
        matched=pack_levels(np.concatenate([none, *(image.matched for image in images)])),
        ignored=pack_levels(np.concatenate([none, *(image.ignored for image in images)])),
        gt_counts=np.array([len(image.gt_categories) for image in images], dtype=np.int64),
        gt_classes=class_indices(np.concatenate([empty, *(image.gt_categories for image in images)]), ids),
        gt_objects=np.concatenate([np.zeros(shape[:2], dtype=np.int64), *(image.gt_counts for image in images)]),
    )


def concatenate(parts: Sequence[MatchColumns]) -> MatchColumns:
    """Parts of one IoU type and the same categories, at least one, one after the other."""
    first = parts[0]
    if any(part.iou_type != first.iou_type for part in parts):
        raise ValueError(f"matches of several IoU types, not of {first.iou_type} alone")
    if not all(np.array_equal(part.category_ids, first.category_ids) for part in parts):
        raise ValueError(f"matches of {first.iou_type} with different categories")
    if len(parts) == 1:
        return first
    names = [name for name in vars(first) if name not in ("iou_type", "category_ids")]
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return MatchColumns(iou_type=first.iou_type, category_ids=first.category_ids, **joined)


def in_image_order(matches: MatchColumns) -> MatchColumns:
    """The same images by ascending id."""
    if not (np.diff(matches.image_ids) < 0).any():
        return matches
    order = np.argsort(matches.image_ids, kind="stable")
    rows, gt_rows = moved_rows(matches.counts, order), moved_rows(matches.gt_counts, order)
    names = {"image_ids": order, "counts": order, "gt_counts": order, "gt_classes": gt_rows, "gt_objects": gt_rows}
    names |= dict.fromkeys(("classes", "scores", "matched", "ignored"), rows)
    return replace(matches, **{name: getattr(matches, name)[chosen] for name, chosen in names.items()})


def moved_rows(counts: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of all images, counts[n] of each, where the images are taken in another order."""
    moved = counts[order]
    starts = (np.cumsum(counts) - counts)[order]
    return np.repeat(starts - (np.cumsum(moved) - moved), moved) + np.arange(moved.sum())


def ignore_maskless(annotations: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Ground truth for segm where objects without a mask neither count nor harm: their boxes are taken for crowds."""
    return [one if one.get("segmentation") else {**one, **_box_as_crowd(one["bbox"])} for one in annotations]


def _box_as_crowd(bbox: Sequence[float]) -> dict[str, Any]:
    x, y, width, height = bbox
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    return {"segmentation": [corners], "iscrowd": 1}


def of_images(columns: RegionColumns, first: int, last: int) -> RegionColumns:
    """The same columns with the images first .. last - 1 alone; nothing is copied."""
    return RegionColumns(**{**vars(columns), "offsets": columns.offsets[first : last + 1]})
