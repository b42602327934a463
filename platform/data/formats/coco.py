"""COCO annotation files to records: images with their annotations, checked, with the label map and a digest."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from maskray.model.config import Category, LabelMap

Segmentation = list[list[float]] | dict[str, Any]


@dataclass(slots=True)
class Annotation:
    """One object: bbox is x y width height in pixels of the original image, area in square pixels.

    segmentation is a list of polygons [x0, y0, x1, y1, ...], or an RLE {"size": [h, w], "counts": list or text}, or
    None; keypoints are x, y, visibility of each in turn, or None; num_keypoints of them are labelled.
    """

    id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    iscrowd: int = 0
    segmentation: Segmentation | None = None
    keypoints: list[float] | None = None
    num_keypoints: int = 0


@dataclass(slots=True)
class ImageRecord:
    """One image and its objects; width and height in pixels as the annotation file states them."""

    image_id: int
    file_name: str
    width: int
    height: int
    annotations: list[Annotation] = field(default_factory=list)


@dataclass
class CocoDataset:
    """A whole annotation file: images by id, classes by category id, and the sha256 digest of the source."""

    labels: LabelMap
    images: list[ImageRecord]
    digest: str

    @property
    def num_annotations(self) -> int:
        """Annotations of all images, crowds included."""
        return sum(len(image.annotations) for image in self.images)


def read_dataset(annotations: str | Path, images: str | Path) -> CocoDataset:
    """Read a COCO annotation file and check that it is consistent; the images are not opened.

    Classes are the categories by increasing id, whatever gaps the ids have; images are ordered by id, those without
    annotations included. The digest covers the annotation file and the name and size in bytes of each image.
    ValueError naming file, image or annotation when the file is missing, is not COCO JSON, lacks a key, has an id
    twice, or refers to an image or a category that is not there. validate_dataset reports every problem instead.
    """
    path = Path(annotations)
    raw = read_bytes(path)
    tree = parse_json(path, raw)
    labels = read_labels(path, tree)
    records = _read_images(path, tree)
    _attach_annotations(path, tree, records, labels)
    ordered = [records[image_id] for image_id in sorted(records)]
    return CocoDataset(labels, ordered, digest_source(raw, ordered, Path(images)))


def read_bytes(path: Path) -> bytes:
    """The bytes of an annotation file; ValueError where it is missing or unreadable."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such annotation file") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None


def parse_json(path: Path, raw: bytes) -> dict[str, Any]:
    """The top level of a COCO file, with its three lists; ValueError naming what is missing."""
    try:
        tree = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: not a COCO annotation file: the top level is not an object")
    for key in ("images", "annotations", "categories"):
        if not isinstance(tree.get(key), list):
            raise ValueError(f"{path}: not a COCO annotation file: no list {key!r}")
        if not all(isinstance(entry, dict) for entry in tree[key]):
            raise ValueError(f"{path}: an entry of {key!r} is not an object")
    return tree


def read_labels(path: Path, tree: dict[str, Any]) -> LabelMap:
    """The categories by increasing id; ValueError where there are none, or one lacks id or name, or an id is twice."""
    for index, category in enumerate(tree["categories"]):
        if not is_integer(category.get("id")) or not isinstance(category.get("name"), str):
            raise ValueError(f"{path}: categories[{index}]: needs an integer id and a name")
    categories = sorted(tree["categories"], key=lambda category: category["id"])
    if not categories:
        raise ValueError(f"{path}: no categories")
    for before, after in itertools.pairwise(categories):
        if before["id"] == after["id"]:
            raise ValueError(f"{path}: category id {after['id']} stands twice")
    return LabelMap(categories=tuple(_read_category(path, entry) for entry in categories))


def _read_category(path: Path, entry: dict[str, Any]) -> Category:
    keypoints, skeleton = entry.get("keypoints") or (), entry.get("skeleton") or ()
    try:
        return Category(id=entry["id"], name=entry["name"], keypoints=keypoints, skeleton=skeleton)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("category", entry["id"], *first["loc"]))
        raise ValueError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from None


def digest_source(raw: bytes, images: list[ImageRecord], folder: Path) -> str:
    """sha256 over the annotation file and (name, size in bytes) of every image, -1 where one is missing."""
    digest = hashlib.sha256(raw)
    for image in images:
        try:
            size = (folder / image.file_name).stat().st_size
        except OSError:
            size = -1
        digest.update(f"{image.file_name}\0{size}\n".encode())
    return digest.hexdigest()


def _read_images(path: Path, tree: dict[str, Any]) -> dict[int, ImageRecord]:
    records: dict[int, ImageRecord] = {}
    for index, entry in enumerate(tree["images"]):
        for key in ("id", "width", "height"):
            if not is_integer(entry.get(key)):
                raise ValueError(f"{path}: images[{index}]: {key} is {entry.get(key)!r}, not an integer")
        if not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
            raise ValueError(f"{path}: image {entry['id']}: no file_name")
        if not is_inside(entry["file_name"]):
            raise ValueError(f"{path}: image {entry['id']}: {entry['file_name']!r} leads out of the images folder")
        if entry["width"] < 1 or entry["height"] < 1:
            raise ValueError(f"{path}: image {entry['id']}: size {entry['width']}x{entry['height']}")
        if entry["id"] in records:
            raise ValueError(f"{path}: image id {entry['id']} stands twice")
        records[entry["id"]] = ImageRecord(entry["id"], entry["file_name"], entry["width"], entry["height"])
    return records


def is_inside(file_name: str) -> bool:
    """Whether a file name of an annotation file stays below the images folder."""
    name = Path(file_name)
    return not name.is_absolute() and ".." not in name.parts


def _attach_annotations(path: Path, tree: dict[str, Any], records: dict[int, ImageRecord], labels: LabelMap) -> None:
    known = set(labels.category_ids)
    seen: set[int] = set()
    for index, entry in enumerate(tree["annotations"]):
        if not is_integer(entry.get("id")):
            raise ValueError(f"{path}: annotations[{index}]: no integer id")
        where = f"{path}: annotation {entry['id']}"
        if entry["id"] in seen:
            raise ValueError(f"{where}: the id stands twice")
        seen.add(entry["id"])
        if entry.get("image_id") not in records:
            raise ValueError(f"{where}: image id {entry.get('image_id')!r} is not among the images")
        if entry.get("category_id") not in known:
            raise ValueError(f"{where}: category id {entry.get('category_id')!r} is not among the categories")
        record = records[entry["image_id"]]
        record.annotations.append(_read_annotation(where, entry, record))


def _read_annotation(where: str, entry: dict[str, Any], record: ImageRecord) -> Annotation:
    bbox: Any = entry.get("bbox")
    if not is_numbers(bbox) or len(bbox) != 4:
        raise ValueError(f"{where}: bbox is {bbox!r}, not four numbers x y width height")
    area: Any = entry.get("area", bbox[2] * bbox[3])
    if not is_number(area):
        raise ValueError(f"{where}: area is {area!r}, not a number")
    if entry.get("iscrowd", 0) not in (0, 1):
        raise ValueError(f"{where}: iscrowd is {entry['iscrowd']!r}, not 0 or 1")
    segmentation: Any = entry.get("segmentation")
    problem = segmentation_problem(segmentation, record.height, record.width) or rle_text_problem(segmentation)
    if problem:
        raise ValueError(f"{where}: {problem}")
    keypoints: Any = entry.get("keypoints")
    if keypoints is not None and (not is_numbers(keypoints) or len(keypoints) % 3):
        raise ValueError(f"{where}: keypoints are not triples x y visibility")
    labelled = sum(visibility > 0 for visibility in keypoints[2::3]) if keypoints else 0
    return Annotation(
        id=entry["id"],
        category_id=entry["category_id"],
        bbox=(float(bbox[0]), float(bbox[1]), float(bbox[2]), float(bbox[3])),
        area=float(area),
        iscrowd=int(entry.get("iscrowd", 0)),
        segmentation=segmentation or None,
        keypoints=keypoints,
        num_keypoints=int(entry.get("num_keypoints", labelled)),
    )


def segmentation_problem(segmentation: Any, height: int, width: int) -> str | None:
    """What is wrong with a segmentation of an image of this size in pixels, or None: polygons or an RLE."""
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, list):
        for polygon in segmentation:
            if not is_numbers(polygon):
                return "a polygon is not a list of numbers"
            if len(polygon) < 6 or len(polygon) % 2:
                return f"a polygon has {len(polygon)} coordinates; at least 6 and an even number are needed"
        return None
    if not isinstance(segmentation, dict) or "counts" not in segmentation or "size" not in segmentation:
        return "segmentation is neither a list of polygons nor an RLE with size and counts"
    if list(segmentation["size"]) != [height, width]:
        return f"RLE size {segmentation['size']} is not [height, width] of its image [{height}, {width}]"
    counts = segmentation["counts"]
    if isinstance(counts, list):
        if not all(is_integer(count) and count >= 0 for count in counts) or sum(counts) != height * width:
            return f"RLE counts do not add up to {height * width} pixels"
    elif not isinstance(counts, str):
        return "RLE counts are neither a list nor text"
    return None


def rle_text_problem(segmentation: Any) -> str | None:
    """What is wrong with compressed counts, or None; pycocotools would leave pixels that they do not reach unset.

    A count is written in groups of five bits, low first, from the third on as the difference to the last but one.
    """
    if not isinstance(segmentation, dict) or not isinstance(segmentation["counts"], str):
        return None
    counts: list[int] = []
    value = shift = 0
    for character in segmentation["counts"]:
        group = ord(character) - 48
        if not 0 <= group < 64:
            return f"RLE counts hold {character!r}"
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (1 << shift) if group & 16 else 0
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    height, width = segmentation["size"]
    if shift or min(counts, default=-1) < 0 or sum(counts) != height * width:
        return f"RLE counts do not add up to {height * width} pixels"
    return None


def annotation_dicts(record: ImageRecord) -> list[dict[str, Any]]:
    """The annotations of an image as plain COCO dictionaries with image_id, for JSON."""
    return [asdict(annotation) | {"image_id": record.image_id} for annotation in record.annotations]


def is_integer(value: Any) -> bool:
    """Whether a JSON value is an integer; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number."""
    # of NaN every comparison is false
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def is_numbers(value: Any) -> bool:
    """Whether a JSON value is a list of finite numbers."""
    return isinstance(value, list | tuple) and all(is_number(item) for item in value)
