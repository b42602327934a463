"""Every problem of a COCO data set, found in one pass: codes, counts and where; nothing is printed or changed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from maskray.platform.data.decode import decode_image, image_size
from maskray.platform.data.formats.coco import (
    is_inside,
    is_integer,
    is_number,
    is_numbers,
    parse_json,
    read_bytes,
    rle_text_problem,
    segmentation_problem,
)
from maskray.platform.data.outlines import decode_rle
from maskray.platform.machine.progress_bar import track

# COCO's own boxes stick out by fractions of a pixel and its areas are of polygons, not of masks; these tolerances
# pass its official annotations.
OUTSIDE_PIXELS = 1.0
BOX_PIXELS, BOX_FRACTION = 3.0, 0.05
AREA_PIXELS, AREA_FRACTION = 40.0, 0.15


@dataclass(frozen=True)
class Problem:
    """One mistake: its code, the image and annotation id where it has them, and one line that says what it is."""

    code: str
    message: str
    image_id: int | None = None
    annotation_id: int | None = None

    def __str__(self) -> str:
        where = [f"{name} {value}" for name, value in (("image", self.image_id), ("annotation", self.annotation_id))]
        known = [part for part in where if not part.endswith("None")]
        return f"{self.code}: {', '.join(known)}{': ' if known else ''}{self.message}"


@dataclass
class ValidationReport:
    """The problems in the order of the file, and how much was examined; images without annotations are no problem."""

    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def problem_counts(self) -> dict[str, int]:
        """How many problems there are of each code."""
        return dict(Counter(problem.code for problem in self.problems))


def validate_dataset(annotations: str | Path, images: str | Path, check_images: bool = True) -> ValidationReport:
    """Examine an annotation file and, unless check_images is false, decode every image; stops at no problem.

    ValueError only where the file is missing or not COCO JSON at all, so that there is nothing to examine.
    """
    path = Path(annotations)
    tree = parse_json(path, read_bytes(path))
    report = ValidationReport()
    categories = _check_ids(report, tree["categories"], "category")
    known = _check_ids(report, tree["images"], "image")
    _check_ids(report, tree["annotations"], "annotation")
    sized = {key: entry for key, entry in known.items() if _check_image(report, entry)}
    for entry in tree["annotations"]:
        report.problems.extend(_annotation_problems(entry, known, sized, categories))
    if check_images:
        report.problems.extend(_image_problems(list(sized.values()), Path(images)))
    with_objects = {entry.get("image_id") for entry in tree["annotations"] if is_integer(entry.get("image_id"))}
    segmentations = [entry.get("segmentation") for entry in tree["annotations"]]
    report.counts = {
        "images": len(tree["images"]),
        "images without annotations": len(set(known) - with_objects),
        "images decoded": len(sized) if check_images else 0,
        "annotations": len(tree["annotations"]),
        "crowds": sum(entry.get("iscrowd") == 1 for entry in tree["annotations"]),
        "polygon segmentations": sum(isinstance(item, list) and bool(item) for item in segmentations),
        "RLE segmentations": sum(isinstance(item, dict) for item in segmentations),
        "categories": len(tree["categories"]),
    }
    return report


def _check_ids(report: ValidationReport, entries: list[dict[str, Any]], kind: str) -> dict[int, dict[str, Any]]:
    """The entries by id; reports ids that are missing or stand twice."""
    by_id: dict[int, dict[str, Any]] = {}
    for index, entry in enumerate(entries):
        if not is_integer(entry.get("id")):
            report.problems.append(Problem("missing_key", f"{kind} number {index} has no integer id"))
        elif entry["id"] in by_id:
            ids = {"image_id": entry["id"]} if kind == "image" else {}
            ids |= {"annotation_id": entry["id"]} if kind == "annotation" else {}
            report.problems.append(Problem(f"duplicate_{kind}_id", f"{kind} id {entry['id']} stands twice", **ids))
        else:
            by_id[entry["id"]] = entry
            if kind == "category" and not isinstance(entry.get("name"), str):
                report.problems.append(Problem("missing_key", f"category {entry['id']} has no name"))
    return by_id


def _check_image(report: ValidationReport, entry: dict[str, Any]) -> bool:
    """Whether an image entry has a usable name and size; reports what it lacks."""
    problems = [
        Problem("missing_key", f"{key} is {entry.get(key)!r}, not a positive integer", entry["id"])
        for key in ("width", "height")
        if not is_integer(entry.get(key)) or entry[key] < 1
    ]
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        problems.append(Problem("missing_key", "no file_name", entry["id"]))
    elif not is_inside(name):
        problems.append(Problem("outside_folder", f"{name!r} leads out of the images folder", entry["id"]))
    report.problems.extend(problems)
    return not problems


def _annotation_problems(
    entry: dict[str, Any],
    known: dict[int, dict[str, Any]],
    sized: dict[int, dict[str, Any]],
    categories: dict[int, dict[str, Any]],
) -> Iterator[Problem]:
    image_id: Any = entry.get("image_id")
    annotation_id: Any = entry.get("id")

    def problem(code: str, message: str) -> Problem:
        return Problem(
            code,
            message,
            image_id if is_integer(image_id) else None,
            annotation_id if is_integer(annotation_id) else None,
        )

    category_id = entry.get("category_id")
    if not is_integer(category_id) or category_id not in categories:
        yield problem("dangling_category_id", f"category id {category_id!r} is not among the categories")
    image = sized.get(image_id) if is_integer(image_id) else None
    if not is_integer(image_id) or image_id not in known:
        yield problem("dangling_image_id", f"image id {image_id!r} is not among the images")
    if entry.get("iscrowd", 0) not in (0, 1):
        yield problem("bad_iscrowd", f"iscrowd is {entry['iscrowd']!r}, not 0 or 1")
    for code, message in (*_keypoint_problems(entry, categories), *_geometry_problems(entry, image)):
        yield problem(code, message)


def _keypoint_problems(entry: dict[str, Any], categories: dict[int, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    keypoints: Any = entry.get("keypoints")
    if keypoints is None:
        return
    if not is_numbers(keypoints) or len(keypoints) % 3:
        yield "keypoints_length", "keypoints are not triples x y visibility"
        return
    category_id: Any = entry.get("category_id")
    names: Any = categories.get(category_id, {}).get("keypoints") if is_integer(category_id) else None
    if isinstance(names, list) and 3 * len(names) != len(keypoints):
        yield "keypoints_length", f"{len(keypoints) // 3} keypoints, its category names {len(names)}"
    labelled = sum(visibility > 0 for visibility in keypoints[2::3])
    if entry.get("num_keypoints", labelled) != labelled:
        yield "keypoints_count", f"num_keypoints is {entry['num_keypoints']}, {labelled} are labelled"


def _geometry_problems(entry: dict[str, Any], image: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Box, area and segmentation of an annotation, by themselves and against each other."""
    bbox: Any = entry.get("bbox")
    boxed = is_numbers(bbox) and len(bbox) == 4
    if not boxed:
        yield "bad_bbox", f"bbox is {bbox!r}, not four numbers x y width height"
    elif bbox[2] <= 0 or bbox[3] <= 0:
        yield "zero_area", f"bbox {bbox} has no area"
    elif image is not None and _is_outside(bbox, image["width"], image["height"]):
        yield "box_outside_image", f"bbox {bbox} leaves the image of {image['width']}x{image['height']}"
    if image is None:
        return
    segmentation = entry.get("segmentation")
    wrong = segmentation_problem(segmentation, image["height"], image["width"]) or rle_text_problem(segmentation)
    if wrong:
        yield ("rle_mismatch" if isinstance(segmentation, dict) else "bad_segmentation"), wrong
        return
    if not segmentation:
        return
    extent, area = _measure(segmentation, image["height"], image["width"])
    if boxed and not _is_near(bbox, extent):
        rounded = [round(value, 1) for value in extent]
        yield "box_segmentation_mismatch", f"bbox {bbox} is not the box {rounded} of the segmentation"
    stated: Any = entry.get("area")
    if stated is None:
        yield "missing_key", "no area"
    elif not is_number(stated) or (
        # of a crowd COCO states the sum of polygons that overlap
        not entry.get("iscrowd") and abs(stated - area) > AREA_PIXELS + AREA_FRACTION * area
    ):
        yield "area_mismatch", f"area is {stated}, the segmentation covers {area:.0f}"


def _is_outside(bbox: list[float], width: int, height: int) -> bool:
    x, y, box_width, box_height = bbox
    beyond = max(-x, -y, x + box_width - width, y + box_height - height)
    return beyond > OUTSIDE_PIXELS


def _measure(segmentation: Any, height: int, width: int) -> tuple[list[float], float]:
    """Box x y width height and area in pixels of a segmentation."""
    if isinstance(segmentation, dict):
        mask = decode_rle(segmentation)
        rows, columns = np.nonzero(mask)
        if len(rows) == 0:
            return [0.0, 0.0, 0.0, 0.0], 0.0
        left, top = float(columns.min()), float(rows.min())
        return [left, top, float(columns.max()) + 1 - left, float(rows.max()) + 1 - top], float(len(rows))
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in segmentation]).astype(float)
    low, high = points.min(axis=0), points.max(axis=0)
    merged = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    return [*low.tolist(), *(high - low).tolist()], float(coco_mask.area(merged))


def _is_near(bbox: list[float], extent: list[float]) -> bool:
    ours, theirs = ((x, y, x + w, y + h) for x, y, w, h in (bbox, extent))
    allowed = BOX_PIXELS + BOX_FRACTION * max(extent[2], extent[3])
    return all(abs(a - b) <= allowed for a, b in zip(ours, theirs))


def _image_problems(images: list[dict[str, Any]], folder: Path) -> Iterator[Problem]:
    """Decode every image, in threads: Pillow releases the interpreter lock."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = pool.map(lambda entry: _image_problem(entry, folder), images)
        for problem in track(found, len(images), "decoding images"):
            if problem is not None:
                yield problem


def _image_problem(entry: dict[str, Any], folder: Path) -> Problem | None:
    try:
        data = (folder / entry["file_name"]).read_bytes()
    except FileNotFoundError:
        return Problem("missing_file", f"{entry['file_name']} is not in {folder}", entry["id"])
    except OSError as error:
        return Problem("unreadable_image", f"{entry['file_name']}: {error.strerror}", entry["id"])
    code = "unreadable_image"
    try:
        image_size(data)
        code = "size_mismatch"
        image_size(data, (entry["width"], entry["height"]))
        code = "unreadable_image"
        decode_image(data)
    except ValueError as error:
        return Problem(code, f"{entry['file_name']}: {error}", entry["id"])
    return None
