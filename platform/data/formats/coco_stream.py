"""A COCO annotation file read entry by entry: its objects wait on the disk until the image they belong to is asked for.

In memory stay the images with their sizes and names, and some hundred bytes an object (its id, its place on the disk).
"""

from __future__ import annotations

import json
import os
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from maskray.platform.data.formats.coco_tree import LISTS, Reading, TreeReader
from maskray.platform.data.formats.json_entries import stream_lists
from maskray.platform.data.formats.records import Annotation, ImageRecord, LazyImages


class StreamedImages(LazyImages):
    """The images by id, each built when it is asked for, with its objects from a temporary file that nobody else sees.

    without_objects are the same images with no objects. The file goes with this object, and stays in this process.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="maskray-objects-")  # noqa: SIM115 - as long as the images
        self.without_objects: list[ImageRecord] = []
        self._owners = array("q")  # of each object the id of its image
        self._ends = array("q")
        self._first = np.zeros(1, np.int64)
        self._order = np.zeros(0, np.int64)

    def add(self, image: ImageRecord, annotation: Annotation) -> None:
        """Put an object of an image away."""
        fields = [getattr(annotation, name) for name in Annotation.__slots__]
        data = json.dumps(fields, separators=(",", ":")).encode()
        self._file.write(data)
        self._owners.append(image.image_id)
        self._ends.append((self._ends[-1] if self._ends else 0) + len(data))

    def close(self, records: Sequence[ImageRecord]) -> None:
        """Say what the images are; no object is added from here on."""
        self._file.flush()
        self.without_objects = sorted(records, key=lambda record: record.image_id)
        owners = np.frombuffer(self._owners, np.int64) if self._owners else np.zeros(0, np.int64)
        self._order = np.argsort(owners, kind="stable")
        ids = np.array([record.image_id for record in self.without_objects], np.int64)
        self._first = np.append(np.searchsorted(owners[self._order], ids), len(owners))

    def __len__(self) -> int:
        return len(self.without_objects)

    def make(self, place: int) -> ImageRecord:
        """The image at a place, with its objects read."""
        objects = self._order[self._first[place] : self._first[place + 1]]
        return replace(self.without_objects[place], annotations=[self._read(number) for number in objects.tolist()])

    def _read(self, number: int) -> Annotation:
        start = self._ends[number - 1] if number else 0
        data = os.pread(self._file.fileno(), self._ends[number] - start, start)
        id, category_id, bbox, *rest = json.loads(data)
        return Annotation(id, category_id, tuple(bbox), *rest)


def read_streamed(name: str, path: Path, images: Path) -> tuple[Reading, StreamedImages]:
    """What read_tree finds in a file, and its images; those of the reading have no objects.

    The file is gone through three times, for its categories, images and annotations, which may stand in any order.
    NotStreamableError where it is none of this form: it has to be read whole. OSError where it cannot be read.
    """
    reading = Reading(name)
    streamed = StreamedImages()
    reader = TreeReader(reading, images, streamed.add)
    # the first time to the end of the file, whatever stands there
    reader.read_categories([entry for found, entry in stream_lists(path, LISTS) if found == "categories"])
    reader.read_images(_entries(path, "images"))
    reader.read_annotations(_entries(path, "annotations"))
    streamed.close(reading.images)
    return reading, streamed


def _entries(path: Path, key: str) -> Iterator[Any]:
    """The entries of one list; the file is not read further than to the next one."""
    begun = False
    for found, entry in stream_lists(path, LISTS):
        if found == key:
            begun = True
            yield entry
        elif begun:
            return
