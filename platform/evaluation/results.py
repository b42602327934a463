"""COCO annotation and results files as they come from anywhere: read, checked, and grouped by image for evaluation."""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle_masks

from maskray.platform.data.formats.coco import is_numbers, parse_json, read_bytes, segmentation_problem
from maskray.platform.evaluation.oks import keypoints_problem
from maskray.platform.evaluation.rules import IouType

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GroundTruth:
    """An annotation file: (height, width) of every image id, annotations of every image id, ids of the categories."""

    path: Path
    image_sizes: dict[int, tuple[int, int]]
    annotations: dict[int, list[dict[str, Any]]]
    category_ids: tuple[int, ...]


def read_ground_truth(path: str | Path, iou_type: IouType) -> GroundTruth:
    """Read a COCO annotation file; ValueError naming what is missing, malformed or refers to nothing."""
    path = Path(path)
    tree = parse_json(path, read_bytes(path))
    sizes: dict[int, tuple[int, int]] = {}
    for index, image in enumerate(tree["images"]):
        _require(image, ("id", "height", "width"), f"{path}: images[{index}]")
        if image["id"] in sizes:
            raise ValueError(f"{path}: image id {image['id']} stands twice")
        sizes[image["id"]] = (image["height"], image["width"])
    for index, category in enumerate(tree["categories"]):
        _require(category, ("id",), f"{path}: categories[{index}]")
    category_ids = tuple(sorted({category["id"] for category in tree["categories"]}))
    annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for index, annotation in enumerate(tree["annotations"]):
        where = f"{path}: annotations[{index}]"
        _require(annotation, ("image_id", "category_id", "bbox", "area"), where)
        if annotation["image_id"] not in sizes:
            raise ValueError(f"{where}: image id {annotation['image_id']!r} is not among the images")
        if annotation["category_id"] not in category_ids:
            raise ValueError(f"{where}: category id {annotation['category_id']!r} is not among the categories")
        if iou_type == "keypoints" and "keypoints" not in annotation:
            raise ValueError(f"{where}: no keypoints, which keypoints needs")
        _check_region(annotation, sizes[annotation["image_id"]], iou_type, where)
        annotations[annotation["image_id"]].append(annotation)
    return GroundTruth(path, sizes, annotations, category_ids)


def read_results(path: str | Path, ground_truth: GroundTruth, iou_type: IouType) -> dict[int, list[dict[str, Any]]]:
    """Read a COCO results file into detections by image id, in the order of the file.

    Boxes are taken from masks where the file has masks only. Detections of categories that the ground truth lacks do
    not count, as in pycocotools; their number is logged. ValueError naming the entry for anything else that is amiss.
    """
    path = Path(path)
    entries = _read_list(path)
    detections: dict[int, list[dict[str, Any]]] = defaultdict(list)
    unknown = 0
    for index, entry in enumerate(entries):
        where = f"{path}: result {index}"
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: is not an object")
        _require(entry, ("image_id", "category_id", "score"), where)
        if entry["image_id"] not in ground_truth.image_sizes:
            raise ValueError(f"{where}: image id {entry['image_id']!r} is not in {ground_truth.path}")
        if not _is_number(entry["score"]):
            raise ValueError(f"{where}: score is {entry['score']!r}, not a number")
        size = ground_truth.image_sizes[entry["image_id"]]
        if iou_type == "bbox" and "bbox" not in entry and "segmentation" in entry:
            _check_region(entry, size, "segm", where)
            entry = entry | {"bbox": rle_masks.toBbox(entry["segmentation"]).tolist()}
        _check_region(entry, size, iou_type, where)
        unknown += entry["category_id"] not in ground_truth.category_ids
        detections[entry["image_id"]].append(entry)
    if unknown:
        logger.warning(
            "%s: %d of %d results have a category id that the ground truth lacks", path, unknown, len(entries)
        )
    return detections


def rle_problem(rle: dict[str, Any], image_size: tuple[int, int]) -> str | None:
    """What is wrong with a compressed RLE for an image of this height and width, or None.

    The C code of pycocotools reads and writes beyond its memory where the text is cut short or the runs do not add up,
    so what comes from a file is decoded here first (the format is that of cocoapi's maskApi.c, rleFrString).
    """
    if list(rle["size"]) != list(image_size):
        return f"RLE size {rle['size']} is not [height, width] of its image {list(image_size)}"
    try:
        digits = np.frombuffer(rle["counts"].encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        return "RLE counts hold letters that are not ASCII"
    if digits.size == 0 or (digits < 0).any() or (digits > 63).any() or digits[-1] & 32:
        return "RLE counts are cut short or hold letters that do not belong there"
    ends = np.flatnonzero((digits & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:
        return "an RLE count is too large"
    position = np.arange(digits.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((digits & 31) << (5 * position), starts)
    values -= np.where(digits[ends] & 16, np.int64(1) << (5 * lengths), 0)
    runs = values.copy()  # from the fourth on, a run is stored as the difference to the one two before it
    runs[1::2] = np.cumsum(values[1::2])
    runs[2::2] = np.cumsum(values[2::2])
    if (runs < 0).any() or runs.sum() != image_size[0] * image_size[1]:
        return f"RLE counts do not add up to the {image_size[0] * image_size[1]} pixels of its image"
    return None


def _read_list(path: Path) -> list[Any]:
    try:
        entries = json.loads(read_bytes(path))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(entries, list):
        raise ValueError(f"{path}: not a COCO results file: the top level is not a list")
    return entries


def _require(entry: dict[str, Any], keys: tuple[str, ...], where: str) -> None:
    """Keys that have to be there; those that are identifiers or sizes have to be integers."""
    for key in keys:
        if key not in entry:
            raise ValueError(f"{where}: no {key!r}")
        value = entry[key]
        if key.endswith(("id", "height", "width")) and (not isinstance(value, int) or isinstance(value, bool)):
            raise ValueError(f"{where}: {key} is {value!r}, not an integer")


def _check_region(entry: dict[str, Any], image_size: tuple[int, int], iou_type: IouType, where: str) -> None:
    """What overlaps are computed of: four numbers for bbox, polygons or a sound RLE for segm, keypoints."""
    if iou_type == "bbox" or (iou_type == "keypoints" and "bbox" in entry):
        bbox = entry.get("bbox")
        if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_number(value) for value in bbox):
            raise ValueError(f"{where}: bbox is {bbox!r}, not four numbers x y width height")
    if iou_type == "keypoints":
        _check_keypoints(entry, where)
    if iou_type != "segm":
        return
    segmentation = entry.get("segmentation")
    if not segmentation:
        raise ValueError(f"{where}: no segmentation, which segm needs")
    problem = segmentation_problem(segmentation, *image_size)
    if problem is None and isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        problem = rle_problem(segmentation, image_size)
    if problem is not None:
        raise ValueError(f"{where}: {problem}")


def _check_keypoints(entry: dict[str, Any], where: str) -> None:
    if not is_numbers(entry.get("keypoints", [])):
        raise ValueError(f"{where}: keypoints are not a list of numbers")
    problem = keypoints_problem(entry, "it")
    if problem is not None:
        raise ValueError(f"{where}: {problem}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
