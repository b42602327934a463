"""Every problem of a COCO data set, found in one pass: codes, counts and where; nothing is printed or changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskray.platform.data.decode import decode_image, image_size
from maskray.platform.data.formats.coco import decode_json, read_bytes
from maskray.platform.data.formats.coco_tree import Reading, read_tree, tree_problem
from maskray.platform.data.formats.problem import VERDICTS, Problem, count_codes
from maskray.platform.data.formats.records import Annotation, ImageRecord
from maskray.platform.data.formats.repair import Repair, repair_tree
from maskray.platform.data.formats.segmentation import mask_area, segmentation_box
from maskray.platform.job.data_config import MAX_BAD_ANNOTATIONS
from maskray.platform.machine.progress_bar import track

# COCO's own boxes stick out by fractions of a pixel and its areas are of polygons, not of masks; these tolerances
# pass its official annotations.
BOX_PIXELS, BOX_FRACTION = 3.0, 0.05
AREA_PIXELS, AREA_FRACTION = 40.0, 0.15


@dataclass
class ValidationReport:
    """What was found and how much was examined; images without annotations are no problem.

    problems come in the order of reading. refusal is the one line with which every reader refuses the data, None where
    they are taken. repair is the file as it should be, where it was asked for and can be made.
    """

    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    refusal: str | None = None
    repair: Repair | None = None

    @property
    def problem_counts(self) -> dict[str, int]:
        """How many problems there are of each code."""
        return count_codes(self.problems)

    @property
    def is_clean(self) -> bool:
        """Whether everything is read as it stands or as what it plainly means, so that nobody need look at it."""
        return self.refusal is None and all(VERDICTS[code] == "read" for code in self.problem_counts)


def validate_dataset(
    annotations: str | Path,
    images: str | Path,
    check_images: bool = True,
    max_bad_annotations: float = MAX_BAD_ANNOTATIONS,
    repair: bool = False,
) -> ValidationReport:
    """Examine an annotation file and, unless check_images is false, decode every image; stops at no problem.

    Objects are read as training reads them (read_tree), then boxes and areas are compared with their masks. With repair
    the report has the repaired file. ValueError only where the file is missing or not COCO JSON at all, so that there
    is nothing to examine.
    """
    path = Path(annotations)
    tree = decode_json(path, read_bytes(path))
    wrong = tree_problem(tree)
    if wrong is not None:
        raise ValueError(f"{path}: {wrong}")
    return validate_tree(str(path), tree, images, check_images, max_bad_annotations, repair)


def validate_tree(
    name: str,
    tree: dict[str, Any],
    images: str | Path,
    check_images: bool = True,
    max_bad_annotations: float = MAX_BAD_ANNOTATIONS,
    repair: bool = False,
) -> ValidationReport:
    """validate_dataset of a tree with the three lists of COCO, which messages call `name`."""
    reading = read_tree(name, tree, images)
    report = ValidationReport(refusal=reading.refusal(max_bad_annotations))
    report.problems = list(reading.problems)
    for image in reading.images:
        report.problems += [problem for found in image.annotations for problem in _mask_problems(found, image)]
    if check_images:
        of_files = list(_image_problems(reading.images, Path(images)))
        report.problems += of_files
        if report.refusal is None and of_files:
            report.refusal = f"{name}: {len(of_files)} unreadable images, 0 may be left out (data.max_bad_images): " + (
                "; ".join(problem.line for problem in of_files[:3])
            )
    report.counts = _count(reading, tree, check_images)
    if repair:
        report.repair = repair_tree(tree, reading, report.problems)
    return report


def _count(reading: Reading, tree: dict[str, Any], check_images: bool) -> dict[str, int]:
    segmentations = [entry.get("segmentation") for entry in tree["annotations"] if isinstance(entry, dict)]
    objects = [annotation for image in reading.images for annotation in image.annotations]
    return {
        "images": len(tree["images"]),
        "images without annotations": sum(not image.annotations for image in reading.images),
        "images decoded": len(reading.images) if check_images else 0,
        "annotations": len(tree["annotations"]),
        "annotations read": len(objects),
        "crowds": sum(annotation.iscrowd for annotation in objects),
        "polygon segmentations": sum(isinstance(item, list) and bool(item) for item in segmentations),
        "RLE segmentations": sum(isinstance(item, dict) for item in segmentations),
        "categories": len(tree["categories"]),
    }


def _mask_problems(annotation: Annotation, image: ImageRecord) -> Iterator[Problem]:
    """Box and area of an object against its mask."""
    segmentation = annotation.segmentation
    if segmentation is None:
        return
    extent = segmentation_box(segmentation, image.height, image.width)
    if not _is_near(annotation.bbox, extent):
        rounded = [round(value, 1) for value in extent]
        message = f"bbox {list(annotation.bbox)} is not the box {rounded} of the segmentation"
        yield Problem("box_segmentation_mismatch", message, image.image_id, annotation.id)
    area = mask_area(segmentation, image.height, image.width)
    # of a crowd COCO states the sum of polygons that overlap
    if not annotation.iscrowd and abs(annotation.area - area) > AREA_PIXELS + AREA_FRACTION * area:
        message = f"area is {annotation.area:g}, the segmentation covers {area:.0f}"
        yield Problem("area_mismatch", message, image.image_id, annotation.id)


def _is_near(bbox: tuple[float, float, float, float], extent: tuple[float, float, float, float]) -> bool:
    ours, theirs = ((x, y, x + w, y + h) for x, y, w, h in (bbox, extent))
    allowed = BOX_PIXELS + BOX_FRACTION * max(extent[2], extent[3])
    return all(abs(a - b) <= allowed for a, b in zip(ours, theirs))


def _image_problems(images: list[ImageRecord], folder: Path) -> Iterator[Problem]:
    """Decode every image, in threads: Pillow releases the interpreter lock."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = pool.map(lambda image: _image_problem(image, folder), images)
        for problem in track(found, len(images), "decoding images"):
            if problem is not None:
                yield problem


def _image_problem(image: ImageRecord, folder: Path) -> Problem | None:
    path = folder / image.file_name
    if os.path.exists(path) and not path.is_file():  # a device would be read without end
        return Problem("unreadable_image", f"{image.file_name}: it is no file", image.image_id)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Problem("missing_file", f"{image.file_name} is not in {folder}", image.image_id)
    except OSError as error:
        return Problem("unreadable_image", f"{image.file_name}: {error.strerror}", image.image_id)
    code = "unreadable_image"
    try:
        image_size(data)
        code = "size_mismatch"
        image_size(data, (image.width, image.height))
        code = "unreadable_image"
        decode_image(data)
    except ValueError as error:
        return Problem(code, f"{image.file_name}: {error}", image.image_id)
    return None
