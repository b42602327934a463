"""Annotations and detections of images, as COCO's dictionaries have them, to the columns that are matched.

Letters: N images.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.ops.coco_masks import MaskColumns, gather_masks
from maskray.ops.match_images import RegionColumns
from maskray.platform.data.formats.segmentation import segmentation_rle
from maskray.platform.evaluation.oks import (
    NUM_KEYPOINTS,
    detection_area,
    keypoints_problem,
    labelled_points,
    num_labelled,
)
from maskray.platform.evaluation.rules import IouType

logger = logging.getLogger(__name__)
Entries = Sequence[Mapping[str, Any]]


def gather_objects(
    images: Sequence[Entries], image_ids: Sequence[int], sizes: NDArray[np.int64], ids: NDArray[np.int64], kind: IouType
) -> RegionColumns:
    """Annotations of N images, sizes (N, 2) height and width, as columns; ids are the known categories, ascending.

    ValueError naming the image where an object lacks what `kind` needs.
    """
    rows = _Rows(images, image_ids, ids, kind, "an annotation")
    crowd = rows.column(lambda entry: bool(entry.get("iscrowd", 0)), bool)
    ignored = crowd.copy()
    if kind == "keypoints":
        ignored |= rows.column(lambda entry: num_labelled(entry) == 0, bool)
    return RegionColumns(
        offsets=rows.offsets,
        rows=np.arange(len(rows.entries)),
        classes=rows.classes,
        boxes=rows.table(lambda entry: entry.get("bbox") or (0, 0, 0, 0) if kind == "segm" else entry["bbox"], 4),
        areas=rows.column(lambda entry: entry["area"], np.float64),
        crowd=crowd,
        ignored=ignored,
        keypoints=rows.table(lambda entry: labelled_points(entry).reshape(-1), 3 * NUM_KEYPOINTS)
        if kind == "keypoints"
        else None,
        masks=rows.masks(sizes) if kind == "segm" else None,
    )


def gather_detections(
    images: Sequence[Entries], image_ids: Sequence[int], sizes: NDArray[np.int64], ids: NDArray[np.int64], kind: IouType
) -> RegionColumns:
    """COCO results of N images as columns, as gather_objects; the area is that of the box, or of the mask for segm.

    ValueError naming the image where a score is no finite number too.
    """
    rows = _Rows(images, image_ids, ids, kind, "a detection")
    scores = rows.column(lambda entry: entry["score"], np.float64)
    if not np.isfinite(scores).all():
        image_id = rows.image_of(int(np.flatnonzero(~np.isfinite(scores))[0]))
        raise ValueError(f"image {image_id}: a detection has a score that is not a finite number")
    masks = rows.masks(sizes) if kind == "segm" else None
    boxes = rows.table(lambda entry: entry["bbox"] if kind == "bbox" else (0, 0, 0, 0), 4)
    areas = boxes[:, 2] * boxes[:, 3]
    if kind == "keypoints":
        areas = rows.column(detection_area, np.float64)
    return RegionColumns(
        offsets=rows.offsets,
        rows=np.arange(len(rows.entries)),
        classes=rows.classes,
        boxes=boxes,
        areas=areas if masks is None else masks.areas,
        scores=scores,
        keypoints=rows.table(_places, 2 * NUM_KEYPOINTS) if kind == "keypoints" else None,
        masks=masks,
    )


def class_indices(category_ids: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int32]:
    """Where each category stands among the known ids, ascending; -1 for what is not known."""
    if len(ids) == 0:
        return np.full(len(category_ids), -1, dtype=np.int32)
    at = np.searchsorted(ids, category_ids)
    at[at == len(ids)] = 0
    return np.where(ids[at] == category_ids, at, -1).astype(np.int32)


def warn_of_categories(path: Path, unknown: int, total: int) -> None:
    """Log how many results are of categories that the ground truth lacks, if any."""
    if unknown:
        logger.warning("%s: %d of %d results have a category id that the ground truth lacks", path, unknown, total)


class _Rows:
    """The entries of known categories of all images, one after the other."""

    def __init__(
        self, images: Sequence[Entries], image_ids: Sequence[int], ids: NDArray[np.int64], kind: IouType, what: str
    ) -> None:
        self._image_ids = image_ids
        for image_id, entries in zip(image_ids, images):
            _check_regions(image_id, entries, kind, what)
        known = set(ids.tolist())
        kept = [[entry for entry in entries if entry["category_id"] in known] for entries in images]
        self.entries = [entry for entries in kept for entry in entries]
        self.offsets = np.cumsum([0, *map(len, kept)])
        self.classes = class_indices(self.column(lambda entry: entry["category_id"], np.int64), ids)

    def image_of(self, row: int) -> int:
        return self._image_ids[int(np.searchsorted(self.offsets, row, side="right")) - 1]

    def column(self, value: Callable[[Mapping[str, Any]], Any], dtype: Any) -> NDArray[Any]:
        return np.array([value(entry) for entry in self.entries], dtype=dtype)

    def table(self, values: Callable[[Mapping[str, Any]], Any], width: int) -> NDArray[np.float64]:
        return self.column(values, np.float64).reshape(-1, width)

    def masks(self, sizes: NDArray[np.int64]) -> MaskColumns:
        of_rows = np.repeat(sizes, np.diff(self.offsets), axis=0)
        texts = [
            _as_text(entry["segmentation"], *size) for entry, size in zip(self.entries, of_rows.tolist(), strict=True)
        ]
        return gather_masks(texts, of_rows)


def _places(entry: Mapping[str, Any]) -> list[float]:
    """x and y of the keypoints of a detection, without their scores."""
    return [value for number, value in enumerate(entry["keypoints"]) if number % 3 != 2]


def _as_text(segmentation: Any, height: int, width: int) -> Any:
    """Polygons as they are, run lengths as text."""
    if isinstance(segmentation, list) or not isinstance(segmentation["counts"], list):
        return segmentation
    return segmentation_rle(segmentation, height, width)


def _check_regions(image_id: int, entries: Entries, kind: IouType, what: str) -> None:
    if kind == "segm" and not all(entry.get("segmentation") for entry in entries):
        raise ValueError(f"image {image_id}: {what} has no segmentation, which segm needs")
    if kind == "keypoints":
        for problem in filter(None, (keypoints_problem(entry, what) for entry in entries)):
            raise ValueError(f"image {image_id}: {problem}")
