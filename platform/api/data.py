"""A data set in Python, read from any format: its classes, and its images with their objects."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from maskray.platform.api.objects import Objects

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from maskray.platform.data.formats.reading import ReadFolder
    from maskray.platform.data.formats.records import ImageRecord


class Data:
    """A data set whose annotations were read; read_data makes it.

    `name` is what messages call it, `format` what it was read as, `folder` where its images lie.
    """

    def __init__(self, found: ReadFolder) -> None:
        """Of what a reader found."""
        self.name = found.name
        self.format = found.format
        self.folder = found.images
        self._dataset = found.dataset
        self._left_out = found.left_out

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by their ids."""
        return self._dataset.labels.names

    @property
    def images(self) -> Images:
        """The images in the order of their ids, each with its objects; a part of them is a list: images[:10]."""
        return Images(self)

    @property
    def problems(self) -> list[str]:
        """What was odd and read nevertheless, and what was left out, a line each; most data sets have none."""
        return [str(one) for one in (*self._left_out, *self._dataset.problems)]

    @property
    def annotations(self) -> list[dict[str, Any]]:
        """All annotations as in a COCO file, whatever the format was."""
        return [entry for image in self.images for entry in image.to_coco()]

    def to_coco(self) -> dict[str, Any]:
        """The data set as the tree of a COCO file: images, annotations and categories."""
        images = [
            {"id": one.image_id, "file_name": one.file_name, "width": one.width, "height": one.height}
            for one in self._dataset.images
        ]
        categories = [one.model_dump(mode="json") for one in self._dataset.labels.categories]
        return {"images": images, "annotations": self.annotations, "categories": categories}

    def __iter__(self) -> Iterator[Objects]:
        return iter(self.images)

    def __len__(self) -> int:
        return len(self._dataset.images)

    def __repr__(self) -> str:
        return f"<{self.name}, {self.format}: {len(self)} images, {len(self.classes)} classes>"

    def _objects(self, record: ImageRecord) -> Objects:
        from maskray.platform.data.formats.records import annotation_dicts

        path, size = self.folder / record.file_name, (record.height, record.width)
        return Objects(
            annotation_dicts(record),
            self._dataset.labels,
            record.image_id,
            size,
            partial(_read, path, size),
            path,
            not record.annotations or any(one.segmentation for one in record.annotations),
            max((len(one.keypoints or ()) // 3 for one in record.annotations), default=0),
        )


class Images(Sequence[Objects]):
    """The images of a data set; each is made when it is asked for, and its file read when its pixels are."""

    def __init__(self, data: Data) -> None:
        """Of a data set."""
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Objects]:
        return (self._data._objects(record) for record in self._data._dataset.images)

    @overload
    def __getitem__(self, index: int) -> Objects: ...
    @overload
    def __getitem__(self, index: slice) -> list[Objects]: ...
    def __getitem__(self, index: int | slice) -> Objects | list[Objects]:
        records = self._data._dataset.images
        if isinstance(index, slice):
            return [self._data._objects(record) for record in records[index]]
        return self._data._objects(records[index])


def read_data(
    source: str | os.PathLike[str],
    *,
    format: str = "auto",
    split: str | None = None,
    images: str | os.PathLike[str] | None = None,
) -> Data:
    """Read a data set of any format as `maskray data` does: COCO, YOLO, LabelMe, CVAT, VOC, Roboflow, LVIS, masks.

    source is a folder or an annotation file. format auto finds out which it is; split is train, val or test, None all
    there is; images is the folder of the images, where they lie elsewhere. The images are not opened. ValueError of one
    line where the source is not there, of no known format, or damaged beyond what may be left out.
    """
    from maskray.platform.data.formats.reading import read_checked

    return Data(read_checked(Path(source), format, split, None if images is None else Path(images)))


def _read(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The pixels of a file in the frame of its annotations, as training and evaluation decode them."""
    from maskray.platform.data.decode import decode_image

    try:
        return decode_image(path.read_bytes(), size=(size[1], size[0]))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def synthesize(
    folder: str | os.PathLike[str],
    num_images: int,
    *,
    seed: int = 0,
    height: int = 192,
    width: int = 256,
    max_objects: int = 8,
    split: str = "train",
    classes: Sequence[str] = (),
) -> Data:
    """Draw images of shapes with exact masks, as `maskray data synthesize`, and read them: data to try things on.

    The images are written to folder/split, their annotations to folder/annotations/instances_<split>.json. height and
    width are in pixels, at least 64; classes are some of circle, square, triangle, star, ring, cross and crescent, none
    is all and person. The same arguments give the same images; where they are drawn already they are only read.
    ValueError where others are.
    """
    from maskray.platform.data.synthetic.dataset import synthesize as draw

    paths = draw(Path(folder), num_images, seed, height, width, max_objects, split, classes=classes)
    return read_data(paths.annotations, images=paths.images)
