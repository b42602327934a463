"""Files to evaluate as columns: by the quick reader where they are plain, else by the one that knows what may be odd.

Letters: N images.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.ops.coco_masks import NO_MASK
from maskray.ops.match_images import RegionColumns
from maskray.ops.read_coco import has_odd_polygons, plain_masks, read_plain_annotations, read_plain_results
from maskray.platform.data.formats.coco_annotation import LEAST_EDGE
from maskray.platform.data.formats.json_values import LARGEST_ID
from maskray.platform.evaluation.columns import class_indices, gather_detections, gather_objects, warn_of_categories
from maskray.platform.evaluation.oks import NUM_KEYPOINTS
from maskray.platform.evaluation.rules import IouType

Columns = dict[str, NDArray[Any]]
LONGEST_NAME = 100  # of a category or keypoint that is plain


@dataclass(frozen=True)
class TruthColumns:
    """Ground truth of N images by ascending id, sizes (N, 2) height and width; category_ids ascending."""

    path: Path
    image_ids: NDArray[np.int64]
    sizes: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    objects: RegionColumns


def read_truth_columns(path: str | Path, iou_type: IouType) -> TruthColumns:
    """An annotation file; ValueError and what is logged as read_ground_truth."""
    path = Path(path)
    plain = _read_plain_truth(path, iou_type)
    if plain is not None:
        return plain
    from maskray.platform.evaluation.results import read_ground_truth

    truth = read_ground_truth(path, iou_type)
    image_ids = sorted(truth.image_sizes)
    sizes = np.array([truth.image_sizes[i] for i in image_ids], dtype=np.int64).reshape(-1, 2)
    ids = np.array(truth.category_ids, dtype=np.int64)
    annotations = [truth.annotations.get(i, []) for i in image_ids]
    objects = gather_objects(annotations, image_ids, sizes, ids, iou_type)
    return TruthColumns(path, np.array(image_ids, dtype=np.int64), sizes, ids, objects)


def read_result_columns(path: str | Path, truth: TruthColumns, iou_type: IouType) -> RegionColumns:
    """A results file, its images and classes those of the truth; ValueError and what is logged as read_results."""
    path = Path(path)
    plain = _read_plain_results(path, truth, iou_type)
    if plain is not None:
        return plain
    from maskray.platform.evaluation.results import GroundTruth, read_results

    image_ids = truth.image_ids.tolist()
    image_sizes = {i: (height, width) for i, (height, width) in zip(image_ids, truth.sizes.tolist())}
    known = GroundTruth(truth.path, image_sizes, {}, tuple(truth.category_ids.tolist()))
    found = read_results(path, known, iou_type)
    detections = [found.get(i, []) for i in image_ids]
    return gather_detections(detections, image_ids, truth.sizes, truth.category_ids, iou_type)


def _read_plain_truth(path: Path, iou_type: IouType) -> TruthColumns | None:
    """None where anything is odd, were it only that it cannot be read: the other reader tells it."""
    try:
        raw = path.read_bytes()
    except OSError:
        return None
    columns = read_plain_annotations(raw, iou_type == "segm", NUM_KEYPOINTS)
    if columns is None:
        return None
    begin, end = columns["categories"].tolist()
    keypoints_of = _read_categories(raw[begin:end])
    order = np.argsort(columns["image_ids"], kind="stable")
    image_ids, sizes = columns["image_ids"][order], columns["image_sizes"][order]
    if keypoints_of is None or len(image_ids) == 0 or not _all_differ(image_ids) or not _all_differ(columns["ids"]):
        return None
    ids = np.array(sorted(keypoints_of), dtype=np.int64)
    images, classes = class_indices(columns["image_of"], image_ids), class_indices(columns["category_ids"], ids)
    if (images < 0).any() or (classes < 0).any() or not _is_sound(columns, sizes[images], keypoints_of, iou_type):
        return None
    crowd = columns["iscrowd"].astype(bool)
    offsets, rows = _by_image(images, len(image_ids))
    objects = RegionColumns(offsets, rows, classes, columns["boxes"], columns["areas"], crowd=crowd, ignored=crowd)
    if iou_type == "segm":
        objects = replace(objects, masks=plain_masks(columns))
    if iou_type == "keypoints":
        points = np.zeros((len(crowd), 3 * NUM_KEYPOINTS))
        points[columns["labelled"] >= 0] = columns["keypoints"]
        objects = replace(objects, keypoints=points, ignored=crowd | (columns["labelled"] <= 0))
    return TruthColumns(path, image_ids, sizes, ids, objects)


def _read_plain_results(path: Path, truth: TruthColumns, iou_type: IouType) -> RegionColumns | None:
    try:
        with path.open("rb") as file:
            columns = read_plain_results(file, iou_type, NUM_KEYPOINTS)
    except OSError:
        return None
    if columns is None:
        return None
    images = class_indices(columns["image_ids"], truth.image_ids)
    if (images < 0).any() or (iou_type == "segm" and not np.array_equal(columns["sizes"], truth.sizes[images])):
        return None
    classes = class_indices(columns["category_ids"], truth.category_ids)
    warn_of_categories(path, int(np.count_nonzero(classes < 0)), len(classes))
    offsets, rows = _by_image(images, len(truth.image_ids))
    boxes, scores = columns["boxes"], columns["scores"]
    if iou_type == "segm":
        masks = plain_masks(columns)
        empty = np.broadcast_to(np.zeros(4), (len(scores), 4))
        return RegionColumns(offsets, rows, classes, empty, masks.areas, scores, masks=masks)
    areas = boxes[:, 2] * boxes[:, 3]
    keypoints = columns["keypoints"] if iou_type == "keypoints" else None
    return RegionColumns(offsets, rows, classes, boxes, areas, scores, keypoints=keypoints)


def _read_categories(text: bytes) -> dict[int, int] | None:
    """How many keypoints each category names; None where anything about them is odd."""
    try:
        categories = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(categories, list) or not all(map(_is_plain_category, categories)):
        return None
    ids, names = {entry["id"] for entry in categories}, {entry["name"] for entry in categories}
    if not len(ids) == len(names) == len(categories) or not ids:
        return None
    return {entry["id"]: len(entry.get("keypoints") or ()) for entry in categories}


def _is_plain_category(entry: Any) -> bool:
    """Whether an entry is what any reader takes as it stands: LabelMap's rules, with letters and lengths to spare."""
    if not isinstance(entry, dict) or type(entry.get("id")) is not int or abs(entry["id"]) > LARGEST_ID:
        return False
    keypoints, skeleton = entry.get("keypoints", []), entry.get("skeleton", [])
    if not isinstance(keypoints, list) or not isinstance(skeleton, list) or len(keypoints) > NUM_KEYPOINTS:
        return False
    if not all(map(_is_plain_name, (entry.get("name"), *keypoints))) or len(set(keypoints)) < len(keypoints):
        return False
    pairs = [pair for pair in skeleton if isinstance(pair, list) and len(pair) == 2]
    ends = [end for pair in pairs for end in pair]
    joins = all(type(end) is int and 1 <= end <= len(keypoints) for end in ends)
    return joins and len(pairs) == len(skeleton) <= LONGEST_NAME


def _is_plain_name(name: Any) -> bool:
    return isinstance(name, str) and name.isascii() and name.isprintable() and 0 < len(name) <= LONGEST_NAME


def _is_sound(columns: Columns, sizes: NDArray[np.int64], keypoints_of: dict[int, int], iou_type: IouType) -> bool:
    """Whether the objects, of images of these sizes, are what every reader would read in the same way."""
    x, y, width, height = columns["boxes"].T
    in_first_pixel = (x >= 0) & (y >= 0) & (x + width <= 1) & (y + height <= 1) & (sizes.min(axis=1) >= LEAST_EDGE)
    has_text = columns["lengths"] >= 0
    if in_first_pixel.any() or not np.array_equal(columns["sizes"][has_text], sizes[has_text]):
        return False
    if (columns["lengths"] > NO_MASK).any() and has_odd_polygons(plain_masks(columns), sizes):
        return False
    has_points = columns["labelled"] >= 0
    if has_points.any() and not set(keypoints_of.values()) <= {0, NUM_KEYPOINTS}:
        return False
    if iou_type != "keypoints":
        return True
    named = [category for category, count in keypoints_of.items() if count] or list(keypoints_of)
    return bool(has_points[np.isin(columns["category_ids"], named)].all())


def _by_image(images: NDArray[np.int32], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets (count + 1,) and rows in the order of the images, those of one image in the order of the file."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(images, minlength=count))]).astype(np.int64)
    return offsets, np.argsort(images, kind="stable")


def _all_differ(values: NDArray[np.int64]) -> bool:
    ordered = np.sort(values)
    return not bool((ordered[1:] == ordered[:-1]).any())
