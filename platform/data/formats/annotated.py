"""What the readers of this folder find, and how it becomes a COCO tree: ids in a fixed order, nothing lost unsaid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskray.platform.data.formats.records import Segmentation, is_inside

# Damaged objects are left out and counted up to this many, and beyond them up to this part of all objects.
MOST_DAMAGED, MOST_DAMAGED_PART = 10, 0.01
# What Pillow refuses as a decompression bomb; a stated size beyond it would only fill the memory with masks.
MOST_PIXELS = 178_956_970


@dataclass(slots=True)
class FoundObject:
    """One object: bbox x y width height and area in pixels; segmentation as in COCO, [] where there is a box alone.

    aside is what the format says beyond that (occluded, difficult, ...): it stays in the tree, training reads none.
    """

    category: str
    bbox: tuple[float, float, float, float]
    area: float
    segmentation: Segmentation = field(default_factory=list)
    aside: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class FoundImage:
    """One image, its name relative to the images folder, its size in pixels, its objects, its split if it is in one.

    ignore_region is an RLE as in ImageRecord, or None.
    """

    file_name: str
    width: int
    height: int
    objects: list[FoundObject] = field(default_factory=list)
    split: str | None = None
    ignore_region: dict[str, Any] | None = None


@dataclass(frozen=True)
class LeftOut:
    """Objects that were not taken, all for one reason; where is the first of them."""

    reason: str
    count: int
    where: str

    def __str__(self) -> str:
        return f"{self.count} x {self.reason}; first {self.where}"


@dataclass(frozen=True)
class AnnotatedFolder:
    """A data set of any format as a COCO tree beside the one folder that its file names start in.

    The tree has images (with "split" where the format knows one), annotations and categories.
    """

    name: str
    format: str
    tree: dict[str, Any]
    images: Path
    left_out: tuple[LeftOut, ...] = ()


class Findings:
    """Collects the images of one source, and counts what of it is not taken."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.images: list[FoundImage] = []
        self._left_out: dict[str, LeftOut] = {}
        self._damaged = 0

    def leave_out(self, reason: str, where: str) -> None:
        """Count what this reader does not read: whole, but of a kind that has no mask."""
        before = self._left_out.get(reason, LeftOut(reason, 0, where))
        self._left_out[reason] = LeftOut(reason, before.count + 1, before.where)

    def add_object(self, image: FoundImage, where: str, build: Callable[[], FoundObject]) -> None:
        """Give an image the object that `build` makes; a ValueError of it is a damaged object, left out and counted."""
        try:
            image.objects.append(build())
        except ValueError as error:
            self._damaged += 1
            self.leave_out(str(error), where)

    def finish(self, format: str, folder: Path, categories: Sequence[str] | None = None) -> AnnotatedFolder:
        """The tree: images by name, their objects as found, categories as given or else by name, ids from 1.

        ValueError where there is no image, no category, an image twice or of an impossible size, a name that leads
        out of the folder, more damaged objects than may be left out, or none left.
        """
        taken = sum(len(image.objects) for image in self.images)
        self._check_left_out(taken)
        if not self.images:
            raise ValueError(f"{self.name}: no images")
        used = {found.category for image in self.images for found in image.objects}
        names = sorted(used) if categories is None else list(dict.fromkeys(categories))
        if not names:
            raise ValueError(f"{self.name}: no object, and no list of classes: nothing to learn")
        ids = {name: index for index, name in enumerate(names, start=1)}
        tree: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        tree["categories"] = [{"id": index, "name": name} for name, index in ids.items()]
        before = None
        for image_id, image in enumerate(sorted(self.images, key=lambda image: image.file_name), start=1):
            self._check_image(image, before)
            before = image.file_name
            entry = {"id": image_id, "file_name": image.file_name, "width": image.width, "height": image.height}
            more = {"split": image.split, "ignore_region": image.ignore_region}
            tree["images"].append(entry | {key: value for key, value in more.items() if value is not None})
            for found in image.objects:
                tree["annotations"].append(_annotation(found, len(tree["annotations"]) + 1, image_id, ids))
        return AnnotatedFolder(self.name, format, tree, folder, tuple(self._left_out.values()))

    def _check_left_out(self, taken: int) -> None:
        if not self._left_out:
            return
        worst = max(self._left_out.values(), key=lambda one: one.count)
        if self._damaged > max(MOST_DAMAGED, MOST_DAMAGED_PART * (taken + self._damaged)):
            raise ValueError(f"{self.name}: {self._damaged} of {taken + self._damaged} objects are damaged: {worst}")
        if not taken:
            raise ValueError(f"{self.name}: no object can be taken: {worst}")

    def _check_image(self, image: FoundImage, before: str | None) -> None:
        if image.file_name == before:
            raise ValueError(f"{self.name}: {image.file_name} is annotated twice")
        check_size(f"{self.name}: {image.file_name}", image.width, image.height)
        if not is_inside(image.file_name):
            raise ValueError(f"{self.name}: {image.file_name!r} leads out of the images folder")


def _annotation(found: FoundObject, annotation_id: int, image_id: int, ids: dict[str, int]) -> dict[str, Any]:
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": ids[found.category],
        "bbox": list(found.bbox),
        "area": found.area,
        "iscrowd": 0,
        "segmentation": found.segmentation,
    } | found.aside


def check_mask_size(width: int, height: int, image_size: tuple[int, int]) -> None:
    """ValueError where a mask of one object is far larger than its image (height, width), which is all it can cover."""
    if width < 1 or height < 1 or width > 2 * image_size[1] + 1 or height > 2 * image_size[0] + 1:
        raise ValueError("a mask larger than its image")


def check_size(where: str, width: int, height: int) -> None:
    """ValueError where a stated size in pixels is none that an image can have."""
    if width < 1 or height < 1 or width * height > MOST_PIXELS:
        raise ValueError(f"{where}: size {width}x{height} is not that of an image")
