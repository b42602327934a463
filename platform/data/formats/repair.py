"""A COCO tree as it should be: what the reader took as meant written out, what it left out gone, all else as it was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from maskray.model.config import Category
from maskray.platform.data.formats.coco_tree import Reading
from maskray.platform.data.formats.json_values import is_number, read_id
from maskray.platform.data.formats.problem import Problem
from maskray.platform.data.formats.records import Annotation, ImageRecord

# What is wrong with one image alone: it can be left out with its objects.
OF_IMAGES = frozenset(["missing_file", "unreadable_image", "size_mismatch"])
_LEFT_AS_IT_IS = frozenset(["no_segmentation"])


@dataclass(frozen=True)
class Repair:
    """The repaired tree (None where only a person can say what was meant), and a line for everything changed."""

    tree: dict[str, Any] | None
    changes: tuple[str, ...]


def repair_tree(tree: dict[str, Any], reading: Reading, problems: Sequence[Problem]) -> Repair:
    """The tree of a reading repaired; problems are those of the reading and those that were found in the image files.

    Keys that the reader does not know stay. Reading the repaired tree finds nothing to read otherwise or to leave out.
    """
    unreadable = {problem.image_id for problem in problems if problem.code in OF_IMAGES}
    hopeless = [problem for problem in problems if problem.verdict == "refused" and problem.code not in OF_IMAGES]
    if hopeless or reading.labels is None:
        return Repair(None, tuple(f"cannot be repaired: {problem}" for problem in hopeless))
    changes = [f"{_action(problem)}: {problem}" for problem in problems if _is_change(problem)]
    images = [
        _repair_image(tree["images"][index], record)
        for index, record in zip(reading.kept_images, reading.images)
        if record.image_id not in unreadable
    ]
    objects = {found.id: (image, found) for image in reading.images for found in image.annotations}
    annotations = []
    for index in reading.kept_annotations:
        entry = tree["annotations"][index]
        image, annotation = objects[_id_of(entry)]
        if image.image_id not in unreadable:
            annotations.append(_repair_annotation(entry, annotation, image))
    lost = sum(len(image.annotations) for image in reading.images if image.image_id in unreadable)
    if unreadable:
        changes.append(f"left out: {lost} annotations of {len(unreadable)} images that cannot be read")
    categories = {category.id: category for category in reading.labels.categories}
    return Repair(
        {
            **tree,
            "images": images,
            "annotations": annotations,
            "categories": [_repair_category(entry, categories[_id_of(entry)]) for entry in tree["categories"]],
        },
        tuple(changes),
    )


def _is_change(problem: Problem) -> bool:
    return problem.verdict in ("read", "dropped", "refused") and problem.code not in _LEFT_AS_IT_IS


def _action(problem: Problem) -> str:
    return "changed" if problem.verdict == "read" else "left out"


def _id_of(entry: dict[str, Any]) -> int:
    known, _ = read_id(entry["id"])
    assert known is not None
    return known


def _repair_image(entry: dict[str, Any], record: ImageRecord) -> dict[str, Any]:
    return {
        **entry,
        "id": record.image_id,
        "file_name": record.file_name,
        "width": record.width,
        "height": record.height,
    }


def _repair_annotation(entry: dict[str, Any], annotation: Annotation, image: ImageRecord) -> dict[str, Any]:
    repaired = {
        **entry,
        "id": annotation.id,
        "image_id": image.image_id,
        "category_id": annotation.category_id,
        "iscrowd": annotation.iscrowd,
        "segmentation": annotation.segmentation or [],
    }
    # numbers that were sound stay as they were written
    if not _same(entry.get("bbox"), annotation.bbox):
        repaired["bbox"] = list(annotation.bbox)
    if not _same([entry.get("area")], [annotation.area]):
        repaired["area"] = annotation.area
    if "num_keypoints" in entry:
        repaired["num_keypoints"] = annotation.num_keypoints
    return repaired


def _same(value: Any, numbers: Iterable[float]) -> bool:
    return isinstance(value, list) and all(map(is_number, value)) and value == list(numbers)


def _repair_category(entry: dict[str, Any], category: Category) -> dict[str, Any]:
    repaired = {**entry, "id": category.id, "name": category.name}
    if entry.get("skeleton"):
        repaired["skeleton"] = [list(pair) for pair in category.skeleton]
    return repaired
