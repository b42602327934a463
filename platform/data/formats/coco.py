"""COCO annotation files to records: images with their annotations, checked, with the label map and a digest."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskray.model.config import LabelMap
from maskray.platform.data.formats.coco_stream import read_streamed
from maskray.platform.data.formats.coco_tree import LISTS, Reading, read_tree, tree_problem
from maskray.platform.data.formats.json_entries import NotStreamableError, stream_lists
from maskray.platform.data.formats.records import Annotation, CocoDataset, ImageRecord, annotation_dicts
from maskray.platform.job.data_config import MAX_BAD_ANNOTATIONS

STREAMED_BYTES = 2**25  # read whole it takes up to thirty times as much memory

__all__ = ["Annotation", "CocoDataset", "ImageRecord", "annotation_dicts", "read_dataset", "read_file"]


def read_dataset(
    annotations: str | Path, images: str | Path, max_bad_annotations: float = MAX_BAD_ANNOTATIONS
) -> CocoDataset:
    """Read a COCO annotation file and check that it is consistent; the images are not opened.

    Classes are the categories by increasing id, whatever gaps the ids have; images are ordered by id, those without
    annotations included. The digest covers the annotation file and the name and size in bytes of each image.
    ValueError of one line naming file, image and annotation where the file is missing, is not COCO JSON, or holds what
    VERDICTS (problem.py) refuses; objects that cannot be read are left out up to max_bad_annotations
    (allowed_annotations). The problems of the dataset tell them, and what was read as what it plainly means.
    Of a file beyond STREAMED_BYTES the objects stay on the disk (coco_stream.py).
    """
    path = Path(annotations)
    if is_large(path):
        try:
            return _stream_dataset(path, Path(images), max_bad_annotations)
        except NotStreamableError:
            pass  # reading it whole tells what is wrong with it
    raw = read_bytes(path)
    return build_dataset(read_tree(str(path), decode_json(path, raw), images), images, raw, max_bad_annotations)


def read_image_entries(path: Path) -> Any:
    """What stands under `images` in a COCO file, of which nothing else is looked at; None where nothing does.

    ValueError where the file is missing or not JSON.
    """
    if is_large(path):
        try:
            return [entry for _, entry in stream_lists(path, ("images",))]
        except NotStreamableError:
            pass  # as above
    tree = decode_json(path, read_bytes(path))
    return tree.get("images") if isinstance(tree, dict) else None


def is_large(path: Path) -> bool:
    """Whether a COCO file is better read entry by entry."""
    return path.is_file() and path.stat().st_size > STREAMED_BYTES


def _stream_dataset(path: Path, images: Path, max_bad_annotations: float) -> CocoDataset:
    try:
        reading, streamed = read_streamed(str(path), path, images)
        labels = reading.accept(max_bad_annotations)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        return CocoDataset(labels, streamed, _add_images(digest, streamed.without_objects, images), reading.problems)
    except OSError as error:
        place = tempfile.gettempdir()
        raise ValueError(f"{path}: cannot be read, or its objects not be kept in {place}: {error.strerror}") from None


def build_dataset(reading: Reading, images: str | Path, source: bytes, max_bad_annotations: float) -> CocoDataset:
    """The dataset of a reading, its digest made of the bytes of its source; ValueError where it is refused."""
    labels = reading.accept(max_bad_annotations)
    ordered = sorted(reading.images, key=lambda record: record.image_id)
    return CocoDataset(labels, ordered, _add_images(hashlib.sha256(source), ordered, Path(images)), reading.problems)


def dataset_of_tree(
    name: str, tree: Any, images: str | Path, max_bad_annotations: float = MAX_BAD_ANNOTATIONS
) -> CocoDataset:
    """A dataset of a COCO tree that another format was made into; name is how messages call it. As read_dataset."""
    source = json.dumps(tree, sort_keys=True).encode()
    return build_dataset(read_tree(name, tree, images), images, source, max_bad_annotations)


def read_file(annotations: str | Path, images: str | Path | None) -> Reading:
    """Everything that is in a COCO annotation file, right or wrong; ValueError where it is missing or not JSON."""
    path = Path(annotations)
    return read_tree(str(path), decode_json(path, read_bytes(path)), images)


def read_bytes(path: Path) -> bytes:
    """The bytes of an annotation file; ValueError where it is missing or unreadable."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such annotation file") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None


def decode_json(path: Path, raw: bytes) -> Any:
    """The value of a JSON file in UTF-8, UTF-16 or UTF-32, with a byte order mark or without; ValueError naming it."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None


def parse_json(path: Path, raw: bytes) -> dict[str, Any]:
    """The top level of a COCO file, with its three lists; ValueError naming what is missing."""
    tree = decode_json(path, raw)
    wrong = tree_problem(tree)
    if wrong is not None:
        raise ValueError(f"{path}: {wrong}")
    return dict(tree)


def parse_entries(path: Path, raw: bytes) -> dict[str, Any]:
    """The same where every entry of the three lists is an object; ValueError naming the list where one is not."""
    tree = parse_json(path, raw)
    for key in LISTS:
        if not all(isinstance(entry, dict) for entry in tree[key]):
            raise ValueError(f"{path}: an entry of {key!r} is not an object")
    return tree


def read_labels(path: Path, tree: dict[str, Any]) -> LabelMap:
    """The categories by increasing id; ValueError where there are none, or one lacks id or name, or an id is twice."""
    images = [{"id": 0, "width": 1, "height": 1}]  # the categories alone are asked for
    return read_tree(str(path), {"images": images, "annotations": [], "categories": tree["categories"]}, None).accept(0)


def _add_images(digest: Any, images: Iterable[ImageRecord], folder: Path) -> str:
    """The digest of a source: what its annotation file gave, and (name, size in bytes) of images, -1 where missing."""
    for image in images:
        try:
            size = (folder / image.file_name).stat().st_size
        except OSError:
            size = -1
        digest.update(f"{image.file_name}\0{size}\n".encode())
    return str(digest.hexdigest())
