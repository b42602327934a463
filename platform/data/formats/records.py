"""What every format is read into: images with their objects, the label map, and what was odd on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from maskray.platform.data.formats.problem import Problem

if TYPE_CHECKING:  # files are evaluated without pydantic, which takes a tenth of a second to import
    from maskray.model.config import LabelMap

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
    """One image and its objects; width and height in pixels as the annotation file states them.

    ignore_region is an RLE of the pixels that nobody is asked about (Cityscapes: void), or None.
    """

    image_id: int
    file_name: str
    width: int
    height: int
    annotations: list[Annotation] = field(default_factory=list)
    ignore_region: dict[str, Any] | None = None


class LazyImages(Sequence[ImageRecord]):
    """Images that are made when they are asked for, each time anew: what a derived class says of one place."""

    def make(self, place: int) -> ImageRecord:
        """The image at a place, 0 to len - 1."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ImageRecord]: ...
    def __getitem__(self, index: int | slice) -> ImageRecord | Sequence[ImageRecord]:
        places = range(len(self))[index]
        return self.make(places) if isinstance(places, int) else [self.make(place) for place in places]


@dataclass
class CocoDataset:
    """A whole annotation file: images by id, classes by category id, and the sha256 digest of the source.

    Each time that an image of a large file is asked for it is read from the disk anew, with its objects.
    problems are all that was odd and read nevertheless, and the objects that were left out.
    """

    labels: LabelMap
    images: Sequence[ImageRecord]
    digest: str
    problems: Sequence[Problem] = ()

    @property
    def num_annotations(self) -> int:
        """Annotations of all images, crowds included."""
        return sum(len(image.annotations) for image in self.images)


def annotation_dicts(record: ImageRecord) -> list[dict[str, Any]]:
    """The annotations of an image as plain COCO dictionaries with image_id, for JSON."""
    return [_plain(annotation) | {"image_id": record.image_id} for annotation in record.annotations]


def _plain(annotation: Annotation) -> dict[str, Any]:
    return {name: getattr(annotation, name) for name in annotation.__slots__}


def is_inside(file_name: str) -> bool:
    """Whether a file name of an annotation file stays below the images folder."""
    name = Path(file_name)
    return not name.is_absolute() and ".." not in name.parts
