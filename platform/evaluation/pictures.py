"""Pictures of a report: an image once, and what was annotated and found in it as layers that the page draws over it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskray.model.config import LabelMap
from maskray.ops.diagnose_images import FOUND, IN_CROWD, MISSED, RIGHT, diagnose_images
from maskray.platform.data.decode import decode_row
from maskray.platform.data.manifest import Manifest
from maskray.platform.data.row_reader import read_rows
from maskray.platform.evaluation.diagnostics import SHOWN_SCORE
from maskray.platform.evaluation.error_costs import KINDS
from maskray.platform.evaluation.matching import gather_images, ignore_maskless
from maskray.platform.evaluation.outline_paths import mask_path, skeleton_path
from maskray.platform.evaluation.pages import data_uri
from maskray.platform.evaluation.rules import IouType
from maskray.platform.job.plain_text import shown_name

Entry = Mapping[str, Any]
MOST_SHAPES = 200  # of a picture
_VERDICTS = {number: name for name, number in KINDS.items()}
_FATES = {FOUND: "", MISSED: "missed"}


@dataclass(frozen=True)
class Picture:
    """An image as a JPEG inside the page, its size in pixels, and its shapes as the page's script reads them."""

    image_id: int
    file_name: str
    width: int
    height: int
    data: str
    shapes: list[dict[str, Any]]


def draw_pictures(
    manifest: Manifest, indices: Sequence[int], results: Sequence[Sequence[Entry]], iou_type: IouType
) -> list[Picture]:
    """Pictures of the rows of global indices, with the COCO results found in each.

    Errors are those of boxes, or of masks for segm; none of keypoints. Runs in a task of Ray, near the shards, so that
    no image is ever decoded in the driver.
    """
    return [_draw(manifest, index, found, iou_type) for index, found in zip(indices, results, strict=True)]


def _draw(manifest: Manifest, index: int, results: Sequence[Entry], iou_type: IouType) -> Picture:
    (row,) = read_rows(manifest, [index])
    image = decode_row(row)
    size = image.shape[:2]
    shapes = picture_shapes(json.loads(row["annotations"]), results, size, manifest.labels, iou_type)
    return Picture(row["image_id"], row["file_name"], size[1], size[0], data_uri(image), shapes)


def picture_shapes(
    annotations: Sequence[Entry], results: Sequence[Entry], size: tuple[int, int], labels: LabelMap, iou_type: IouType
) -> list[dict[str, Any]]:
    """Objects, and detections that are shown, large ones first: class index k, box, paths, score and error of each.

    size is height and width. An object that no detection finds has the error missed.
    """
    verdicts, fates = ({}, {}) if iou_type == "keypoints" else _judge(annotations, results, size, labels, iou_type)
    shapes = [_shape(one, size, labels) | {"error": fates.get(n, "")} for n, one in enumerate(annotations)]
    for n, one in enumerate(results):
        if one["score"] >= SHOWN_SCORE:
            scored = {"score": round(one["score"], 3), "error": verdicts.get(n, "")}
            shapes.append(_shape(one, size, labels) | scored)
    return sorted(shapes, key=lambda shape: -shape["box"][2] * shape["box"][3])[:MOST_SHAPES]


def _judge(
    annotations: Sequence[Entry], results: Sequence[Entry], size: tuple[int, int], labels: LabelMap, iou_type: IouType
) -> tuple[dict[int, str], dict[int, str]]:
    """The error of each detection and object by its place in the lists, empty where there is none."""
    truth = ignore_maskless(annotations) if iou_type == "segm" else annotations
    columns = gather_images([(0, size, truth, results)], labels.category_ids, iou_type)
    found = diagnose_images(iou_type, *columns[1:4])
    harmless = (found.verdicts == RIGHT) | (found.flags & IN_CROWD != 0)
    rows = zip(found.rows.tolist(), found.verdicts.tolist(), harmless.tolist())
    errors = {row: "" if fine else _VERDICTS[verdict] for row, verdict, fine in rows}
    return errors, {row: _FATES.get(fate, "") for row, fate in zip(found.gt_rows.tolist(), found.fates.tolist())}


def _shape(entry: Entry, size: tuple[int, int], labels: LabelMap) -> dict[str, Any]:
    index = labels.class_indices[entry["category_id"]]
    shape: dict[str, Any] = {"k": index, "box": np.round(entry["bbox"], 1).tolist()}
    if entry.get("iscrowd"):
        shape["crowd"] = 1
    if entry.get("segmentation"):
        shape["mask"] = mask_path(entry["segmentation"], *size)
    if entry.get("keypoints"):
        shape["points"] = skeleton_path(entry, labels.categories[index])
    return shape


def class_names(labels: LabelMap) -> list[str]:
    """Names as people read them."""
    return [shown_name(name) for name in labels.names]
