"""The one reading of COCO trees: any JSON value to the data that are sound in it, and everything that is not.

Validation, shards, checks before a run and ground truth of evaluation all go through read_tree, so that they are of one
mind. Other formats are made into such a tree first.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from maskray.model.config import Category, LabelMap
from maskray.platform.data.formats.coco_annotation import count_from_one, is_fraction, read_object
from maskray.platform.data.formats.file_names import name_inside
from maskray.platform.data.formats.json_values import read_id, read_whole
from maskray.platform.data.formats.problem import Problem, one_line, refusal, shown
from maskray.platform.data.formats.records import Annotation, ImageRecord
from maskray.platform.data.formats.segmentation import read_segmentation

LISTS = ("images", "annotations", "categories")
MOST_PIXELS = 2**31 - 1  # of an image; masks are counted in 32 bits, and no decoder goes that far


@dataclass
class Reading:
    """What was found in a COCO tree that messages call `name`.

    images are in the order of the file, each with its sound objects; kept says of which entries of `images` and
    `annotations` they were made, in that order. labels is None where the categories are not sound.
    """

    name: str
    labels: LabelMap | None = None
    images: list[ImageRecord] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    num_annotations: int = 0
    kept_images: array[int] = field(default_factory=lambda: array("q"))
    kept_annotations: array[int] = field(default_factory=lambda: array("q"))

    def refusal(self, max_bad_annotations: float) -> str | None:
        """Why these data cannot be used, as one line; None where they can."""
        return refusal(self.name, self.problems, self.num_annotations, max_bad_annotations)

    def accept(self, max_bad_annotations: float) -> LabelMap:
        """The label map; ValueError where these data cannot be used."""
        reason = self.refusal(max_bad_annotations)
        if reason is not None or self.labels is None:
            raise ValueError(reason or f"{self.name}: no categories")
        return self.labels


def tree_problem(tree: Any) -> str | None:
    """Why a tree is none of COCO at all, or None."""
    if not isinstance(tree, dict):
        return "not a COCO annotation file: the top level is not an object"
    for key in LISTS:
        if not isinstance(tree.get(key), list):
            return f"not a COCO annotation file: no list {key!r}"
    return None


def read_tree(name: str, tree: Any, images: str | Path | None) -> Reading:
    """Read a COCO tree, any JSON value; raises nothing and opens no image. name is how messages call it.

    images is the folder that the file names start at; None asks for no file names, as evaluation of results does.
    """
    reading = Reading(name)
    wrong = tree_problem(tree)
    if wrong is not None:
        reading.problems.append(Problem("not_coco", wrong))
        return reading
    reader = TreeReader(reading, None if images is None else Path(images))
    reader.read_categories(tree["categories"])
    reader.read_images(tree["images"])
    reader.read_annotations(tree["annotations"])
    return reading


def _append(image: ImageRecord, annotation: Annotation) -> None:
    image.annotations.append(annotation)


class TreeReader:
    """Fills a reading, list by list: categories, images, annotations. keep is told each sound object of an image."""

    def __init__(
        self, reading: Reading, folder: Path | None, keep: Callable[[ImageRecord, Annotation], None] = _append
    ) -> None:
        self._reading = reading
        self._folder = folder
        self._keep = keep
        self._categories: dict[int, Category | None] = {}  # None: the id is known, the category is not sound
        self._images: dict[int, ImageRecord | None] = {}
        self._files: dict[str, int] = {}
        self._annotation_ids: set[int] = set()
        self._tiny: list[tuple[ImageRecord, Annotation]] = []  # boxes within the first pixel

    def _note(self, code: str, message: str, image_id: int | None = None, annotation_id: int | None = None) -> None:
        self._reading.problems.append(Problem(code, message, image_id, annotation_id))

    def read_categories(self, entries: list[Any]) -> None:
        """Read the list of categories."""
        for index, entry in enumerate(entries):
            self._read_category(index, entry)
        sound = [category for category in self._categories.values() if category is not None]
        if not entries:
            self._note("no_categories", "no categories")
        for name, number in Counter(category.name for category in sound).items():
            if number > 1:
                self._note("same_category_name", f"{number} categories are called {shown(name)}")
        if sound and len(sound) == len(entries):
            self._reading.labels = LabelMap(categories=tuple(sorted(sound, key=lambda category: category.id)))

    def _read_category(self, index: int, entry: Any) -> None:
        category_id, odd = read_id(entry.get("id")) if isinstance(entry, dict) else (None, None)
        name: Any = entry.get("name") if category_id is not None else None
        if isinstance(name, int | float) and not isinstance(name, bool):
            self._note("name_as_number", f"categories[{index}]: the name is the number {shown(name)}")
            name = shown(name)
        if category_id is None or not isinstance(name, str):
            self._note("bad_category", f"categories[{index}]: needs an integer id and a name")
            if category_id is not None:
                self._categories.setdefault(category_id, None)
            return
        if odd is not None:
            self._note(odd, f"category id {shown(entry['id'])}{' is beyond 64 bits' * (odd == 'huge_id')}")
        if category_id in self._categories:
            self._note("duplicate_category_id", f"category id {category_id} stands twice")
            return
        self._categories[category_id] = None if odd == "huge_id" else self._build_category(category_id, name, entry)

    def _build_category(self, category_id: int, name: str, entry: dict[str, Any]) -> Category | None:
        keypoints, skeleton = entry.get("keypoints") or (), entry.get("skeleton") or ()
        try:
            moved = count_from_one(keypoints, skeleton)
            category = Category(id=category_id, name=name, keypoints=keypoints, skeleton=moved)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in ("category", category_id, *first["loc"]))
            self._note("bad_category", one_line(f"{where}: {first['msg'].removeprefix('Value error, ')}"))
            return None
        if moved is not skeleton:
            self._note("skeleton_from_zero", f"category {category_id}: its skeleton counts keypoints from 0")
        return category

    def read_images(self, entries: Iterable[Any]) -> None:
        """Read the entries of the list of images."""
        index = -1
        for index, entry in enumerate(entries):
            record = self._read_image(index, entry)
            if record is not None:
                self._images[record.image_id] = record
                self._reading.images.append(record)
                self._reading.kept_images.append(index)
        if index < 0:
            self._note("no_images", "no images")

    def _read_image(self, index: int, entry: Any) -> ImageRecord | None:
        where = f"images[{index}]"
        if not isinstance(entry, dict):
            self._note("missing_key", f"{where}: an entry of 'images' is not an object")
            return None
        image_id, odd = read_id(entry.get("id"))
        if image_id is None:
            self._note("missing_key", f"{where}: id is {shown(entry.get('id'))}, not an integer")
            return None
        if image_id in self._images:
            self._note("duplicate_image_id", f"image id {image_id} stands twice", image_id)
            return None
        self._images[image_id] = None
        if odd is not None:
            self._note(odd, f"image id {shown(entry['id'])}{' is beyond 64 bits' * (odd == 'huge_id')}", image_id)
        size = self._read_size(entry, image_id)
        file_name = self._read_file_name(entry.get("file_name"), image_id)
        if size is None or file_name is None or odd == "huge_id":
            return None
        return ImageRecord(image_id, file_name, *size, ignore_region=self._read_region(entry, image_id, *size))

    def _read_size(self, entry: dict[str, Any], image_id: int) -> tuple[int, int] | None:
        width, height = read_whole(entry.get("width")), read_whole(entry.get("height"))
        for key, side in (("width", width), ("height", height)):
            if side is None:
                self._note("missing_key", f"{key} is {shown(entry.get(key))}, not an integer", image_id)
        if width is None or height is None:
            return None
        if width < 1 or height < 1 or width * height > MOST_PIXELS:
            self._note("missing_key", f"size {shown(width)}x{shown(height)}", image_id)
            return None
        if type(entry["width"]) is not int or type(entry["height"]) is not int:
            self._note("size_as_float", f"size {entry['width']}x{entry['height']}", image_id)
        return width, height

    def _read_region(self, entry: dict[str, Any], image_id: int, width: int, height: int) -> dict[str, Any] | None:
        """The pixels of an image that do not count: an RLE, which most files have not."""
        value = entry.get("ignore_region")
        if value is None:
            return None
        region, findings = read_segmentation(value, height, width)
        if isinstance(region, dict):
            return region
        told = findings[0][1] if findings else "polygons"
        self._note("bad_ignore_region", f"ignore_region is no RLE of the image: {told}", image_id)
        return None

    def _read_file_name(self, name: Any, image_id: int) -> str | None:
        if self._folder is None:
            return name if isinstance(name, str) else ""
        if not isinstance(name, str) or not name:
            self._note("missing_key", "no file_name", image_id)
            return None
        if "\0" in name or any("\ud800" <= character <= "\udfff" for character in name):
            self._note("missing_key", f"{shown(name)} is no name of a file", image_id)
            return None
        inside, odd = name_inside(name, self._folder)
        if inside is None:
            self._note("outside_folder", f"{shown(name)} leads out of the images folder", image_id)
            return None
        if odd is not None:
            self._note(odd, f"{shown(name)} read as {shown(inside)}", image_id)
        if inside in self._files:
            self._note("same_file", f"{shown(inside)} is the file of image {self._files[inside]} too", image_id)
        self._files.setdefault(inside, image_id)
        return inside

    def read_annotations(self, entries: Iterable[Any]) -> None:
        """Read the entries of the list of annotations."""
        for index, entry in enumerate(entries):
            self._reading.num_annotations += 1
            if self._read_annotation(index, entry):
                self._reading.kept_annotations.append(index)
        self._judge_fractions()

    def _read_annotation(self, index: int, entry: Any) -> bool:
        """Whether the entry became an object of its image."""
        if not isinstance(entry, dict):
            self._note("bad_entry", f"annotations[{index}] is {shown(entry)}, not an object")
            return False
        annotation_id, odd = read_id(entry.get("id"))
        image_id, odd_image = read_id(entry.get("image_id"))
        category_id, odd_category = read_id(entry.get("category_id"))
        if annotation_id is None:
            self._note("missing_id", f"annotations[{index}]: no integer id", image_id)
            return False
        if annotation_id in self._annotation_ids:
            self._note("duplicate_annotation_id", "the id stands twice", image_id, annotation_id)
            return False
        self._annotation_ids.add(annotation_id)
        if image_id not in self._images:
            message = f"image id {shown(entry.get('image_id'))} is not among the images"
            self._note("dangling_image_id", message, None, annotation_id)
        if category_id not in self._categories:
            message = f"category id {shown(entry.get('category_id'))} is not among the categories"
            self._note("dangling_category_id", message, image_id, annotation_id)
        if odd == "huge_id":
            self._note(odd, f"annotation id {annotation_id} is beyond 64 bits", image_id, annotation_id)
            return False
        for odd_id in sorted({odd, odd_image, odd_category} - {None, "huge_id"}, key=str):
            ids = ", ".join(shown(entry.get(key)) for key in ("id", "image_id", "category_id"))
            self._note(str(odd_id), f"ids {ids}", image_id, annotation_id)
        image = None if image_id is None else self._images.get(image_id)
        category = None if category_id is None else self._categories.get(category_id)
        if image is None or category is None:  # told already, and enough to refuse all
            return False
        annotation, findings = read_object(entry, annotation_id, category, image)
        self._reading.problems.extend(
            Problem(code, message, image.image_id, annotation_id)
            for code, message in findings[: None if annotation else 1]
        )
        if annotation is None:
            return False
        self._keep(image, annotation)
        if is_fraction(annotation, image):
            self._tiny.append((image, annotation))
        return True

    def _judge_fractions(self) -> None:
        """Tell boxes within the first pixel: most of them being so, the file states fractions of the image."""
        total = len(self._reading.kept_annotations)
        if self._tiny and 2 * len(self._tiny) > total:
            image, first = self._tiny[0]
            message = (
                f"bbox {list(first.bbox)} lies within one pixel of {image.width}x{image.height}, as {len(self._tiny)} "
                f"of {total} do: coordinates are fractions of the image, not pixels"
            )
            self._note("normalized_coordinates", message, image.image_id, first.id)
            return
        for image, found in self._tiny:
            message = f"bbox {list(found.bbox)} lies within one pixel of the image"
            self._note("small_coordinates", message, image.image_id, found.id)
