"""COCO annotation and results files as they come from anywhere: read, checked, and grouped by image for evaluation."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycocotools import mask as rle_masks

from maskray.model.config import LabelMap
from maskray.platform.data.formats.coco import decode_json, read_bytes, read_file
from maskray.platform.data.formats.json_values import is_number, is_pixels, read_id
from maskray.platform.data.formats.problem import VERDICT_WORDS, first_of_verdicts, shown
from maskray.platform.data.formats.records import ImageRecord, annotation_dicts
from maskray.platform.data.formats.segmentation import read_segmentation, segmentation_rle
from maskray.platform.evaluation.columns import warn_of_categories
from maskray.platform.evaluation.oks import keypoints_problem
from maskray.platform.evaluation.rules import IouType
from maskray.platform.job.data_config import MAX_BAD_ANNOTATIONS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GroundTruth:
    """An annotation file: (height, width) of every image id, annotations of every image id, ids of the categories."""

    path: Path
    image_sizes: dict[int, tuple[int, int]]
    annotations: dict[int, list[dict[str, Any]]]
    category_ids: tuple[int, ...]


def read_ground_truth(path: str | Path, iou_type: IouType) -> GroundTruth:
    """Read a COCO annotation file as every reader does (read_tree); ValueError naming image and annotation.

    What was read otherwise than it stands, and what was left out, is logged in one line.
    """
    path = Path(path)
    reading = read_file(path, None)
    labels = reading.accept(MAX_BAD_ANNOTATIONS)
    _check_objects(path, reading.images, labels, iou_type)
    for verdict, codes, first in first_of_verdicts(reading.problems, "dropped", "read"):
        logger.warning("%s: %s: %s; the first: %s", path, VERDICT_WORDS[verdict], codes, first)
    return GroundTruth(
        path,
        {record.image_id: (record.height, record.width) for record in reading.images},
        {record.image_id: annotation_dicts(record) for record in reading.images},
        labels.category_ids,
    )


def _check_objects(path: Path, images: Sequence[ImageRecord], labels: LabelMap, iou_type: IouType) -> None:
    """ValueError naming the first object that lacks what is compared: a mask, or COCO's 17 keypoints."""
    if iou_type == "segm":
        lacking = [(image, found) for image in images for found in image.annotations if found.segmentation is None]
        if lacking:
            image, found = lacking[0]
            total = sum(len(image.annotations) for image in images)
            raise ValueError(
                f"{path}: image {image.image_id}, annotation {found.id}: no segmentation, which segm needs "
                f"({len(lacking)} of {total} annotations)"
            )
    if iou_type == "keypoints":
        named = {category.id for category in labels.categories if category.keypoints} or set(labels.category_ids)
        for image in images:
            for found in image.annotations:
                missing = found.keypoints is None and found.category_id in named
                wrong = None if found.keypoints is None else keypoints_problem({"keypoints": found.keypoints}, "it")
                wrong = "no keypoints, which keypoints needs" if missing else wrong
                if wrong is not None:
                    raise ValueError(f"{path}: image {image.image_id}, annotation {found.id}: {wrong}")


def read_results(path: str | Path, ground_truth: GroundTruth, iou_type: IouType) -> dict[int, list[dict[str, Any]]]:
    """Read a COCO results file into detections by image id, in the order of the file.

    Boxes are taken from masks where the file has masks only. Detections of categories that the ground truth lacks do
    not count, as in pycocotools; their number is logged. ValueError naming the entry for anything else that is amiss.
    """
    path = Path(path)
    entries = decode_json(path, read_bytes(path))
    if not isinstance(entries, list):
        raise ValueError(f"{path}: not a COCO results file: the top level is not a list")
    detections: dict[int, list[dict[str, Any]]] = defaultdict(list)
    unknown = odd = 0
    for index, entry in enumerate(entries):
        where = f"{path}: result {index}"
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: is not an object")
        image_id, category_id = (_require_id(entry, key, where) for key in ("image_id", "category_id"))
        if image_id not in ground_truth.image_sizes:
            raise ValueError(f"{where}: image id {image_id} is not in {ground_truth.path}")
        if "score" not in entry:
            raise ValueError(f"{where}: no 'score'")
        if not is_number(entry["score"]):
            raise ValueError(f"{where}: score is {shown(entry['score'])}, not a number")
        odd += type(entry["image_id"]) is not int or type(entry["category_id"]) is not int
        found = {**entry, "image_id": image_id, "category_id": category_id}
        unknown += category_id not in ground_truth.category_ids
        detections[image_id].append(_read_region(found, ground_truth.image_sizes[image_id], iou_type, where))
    if odd:
        logger.warning("%s: %d of %d results have ids such as 1.0 or '1', read as 1", path, odd, len(entries))
    warn_of_categories(path, unknown, len(entries))
    return detections


def _require_id(entry: dict[str, Any], key: str, where: str) -> int:
    if key not in entry:
        raise ValueError(f"{where}: no {key!r}")
    known, odd = read_id(entry[key])
    if known is None or odd == "huge_id":
        raise ValueError(f"{where}: {key} is {shown(entry[key])}, not an integer of 64 bits")
    return known


def _read_region(entry: dict[str, Any], size: tuple[int, int], iou_type: IouType, where: str) -> dict[str, Any]:
    """A result with what overlaps are computed of: four numbers for bbox, a sound mask for segm, keypoints.

    size is (height, width) of its image in pixels. A box is made of the mask where the result has no other.
    """
    boxless = entry.get("bbox") is None
    if iou_type == "segm" or (iou_type == "bbox" and boxless and "segmentation" in entry):
        segmentation, findings = read_segmentation(entry.get("segmentation"), *size)
        if segmentation is None:
            missing = findings[0][0] == "no_segmentation"
            raise ValueError(f"{where}: {f'no segmentation, which {iou_type} needs' if missing else findings[0][1]}")
        entry["segmentation"] = segmentation
        if iou_type == "bbox":
            entry["bbox"] = rle_masks.toBbox(segmentation_rle(segmentation, *size)).tolist()
    if iou_type == "keypoints":
        if not is_pixels(entry.get("keypoints", [])):
            raise ValueError(f"{where}: keypoints are not a list of numbers")
        problem = keypoints_problem(entry, "it")
        if problem is not None:
            raise ValueError(f"{where}: {problem}")
        if boxless:
            entry.pop("bbox", None)
    if iou_type == "bbox" or (iou_type == "keypoints" and not boxless):
        bbox: Any = entry.get("bbox")
        if not is_pixels(bbox) or len(bbox) != 4:
            raise ValueError(f"{where}: bbox is {shown(bbox)}, not four numbers x y width height")
    return entry
