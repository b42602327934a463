"""A folder or file of any format as a COCO tree and a checked data set: the table of formats, and how one is told.

All readers are maskray's own: docs/data.md says what was tried. datumaro renumbers categories, changes coordinates and
fixes versions of pyarrow and pandas; supervision renumbers ids, simplifies polygons and takes the parts of an object
apart. Each reader here is a page, and says in its docstring whose rules it follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskray.platform.data.formats import cityscapes, coco_files, cvat, instance_masks, labelme, roboflow, voc, yolo
from maskray.platform.data.formats.annotated import AnnotatedFolder, LeftOut
from maskray.platform.data.formats.coco import dataset_of_tree, read_dataset
from maskray.platform.data.formats.problem import one_line
from maskray.platform.data.formats.records import CocoDataset, is_inside
from maskray.platform.data.formats.source_files import IMAGE_SUFFIXES, list_files
from maskray.platform.job.data_config import MAX_BAD_ANNOTATIONS, FilesSource

# Annotations up to this many and this large are read in about a second; a plan leaves more of them to the run.
COUNTED_FILES, COUNTED_BYTES = 4000, 16_000_000
COUNTED_SUFFIXES = (".json", ".xml", ".txt", ".yaml")
LONGEST_ERROR = 2000  # letters: the list of what every format looks for, and a path
MASK_FOLDERS = {"masks", "SegmentationObject", "gtFine"}


@dataclass(frozen=True)
class Format:
    """How a format is known, which splits a source of it has, how it is read, and the files that it looks for."""

    find: Callable[[Path], str | None]
    splits: Callable[[Path], tuple[str, ...]]
    read: Callable[[Path, str | None, Path | None], AnnotatedFolder]
    looks_for: str


FORMATS: dict[str, Format] = {
    "roboflow": Format(roboflow.find, roboflow.splits, roboflow.read, roboflow.LOOKS_FOR),
    "yolo": Format(yolo.find, yolo.splits, yolo.read, yolo.LOOKS_FOR),
    "cvat": Format(cvat.find, cvat.splits, cvat.read, cvat.LOOKS_FOR),
    "voc": Format(voc.find, voc.splits, voc.read, voc.LOOKS_FOR),
    "cityscapes": Format(cityscapes.find, cityscapes.splits, cityscapes.read, cityscapes.LOOKS_FOR),
    "instance_masks": Format(instance_masks.find, instance_masks.splits, instance_masks.read, instance_masks.LOOKS_FOR),
    "coco": Format(coco_files.find, coco_files.splits, coco_files.read, coco_files.LOOKS_FOR),
    "lvis": Format(coco_files.find_lvis, coco_files.splits, coco_files.read_lvis, coco_files.LVIS_LOOKS_FOR),
    "labelme": Format(labelme.find, labelme.splits, labelme.read, labelme.LOOKS_FOR),
}


def detect_format(path: str | Path) -> str:
    """The name of the format that a folder or file is in.

    ValueError where nothing is there; where it is of no known format, with the files that were looked for; and where
    it is of several, with the file that tells each.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    try:
        found = {name: evidence for name, one in FORMATS.items() if (evidence := one.find(path)) is not None}
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if not found and path.suffix.lower() in (".zip", ".tar", ".gz", ".rar", ".7z"):
        raise ValueError(f"{path}: a packed file: unpack it and name the folder")
    if not found:
        looked_for = "; ".join(f"{name}: {one.looks_for}" for name, one in FORMATS.items())
        raise ValueError(f"{path}: no annotations of a known format. Looked for {looked_for}")
    if len(found) > 1:
        told = ", ".join(f"{name} ({evidence})" for name, evidence in found.items())
        raise ValueError(f"{path}: annotations of several formats: {told}. Say which: format")
    return next(iter(found))


def list_splits(path: str | Path, format: str = "auto") -> tuple[str, ...]:
    """The splits (train, val, test) that a source has and `read_annotated` takes; empty where it is one whole."""
    return FORMATS[_format_name(Path(path), format)].splits(Path(path))


def _format_name(path: Path, format: str, images: str | Path | None = None) -> str:
    if format == "auto":
        try:
            return detect_format(path)
        except ValueError:
            if images is None or not path.is_file() or path.suffix.lower() != ".json":
                raise
            return "coco"  # a JSON file beside a folder of images: what is wrong with it is told as of such a file
    if format not in FORMATS:
        raise ValueError(f"format {format!r} is none of auto, {', '.join(FORMATS)}")
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    return format


def read_annotated(
    path: str | Path,
    format: str = "auto",
    split: str | None = None,
    images: str | Path | None = None,
    need_images: bool = True,
) -> AnnotatedFolder:
    """A folder or file as a COCO tree; format and split as in FilesSource, images where they lie elsewhere.

    need_images false is for who looks at annotations alone: the images of a COCO file need not be anywhere.
    ValueError, in one line whatever names the files hold, where it is of no format or damaged, or where none of its
    images is there. What the tree itself may have wrong (it can be a file of COCO) is found by dataset_of_tree and by
    validation.
    """
    try:
        return _read_annotated(Path(path), format, split, images, need_images)
    except ValueError as error:
        raise ValueError(one_line(str(error), LONGEST_ERROR)) from error


def _read_annotated(
    path: Path, format: str, split: str | None, images: str | Path | None, need_images: bool
) -> AnnotatedFolder:
    name = _format_name(path, format, images)
    if need_images:
        _check_folder(images)
    if images is None and not need_images and name == "coco":
        images = path.parent if path.is_file() else path
    try:
        found = FORMATS[name].read(path, split, None if images is None else Path(images))
        if need_images:
            entries = [entry for entry in found.tree["images"] if isinstance(entry, dict)]
            _check_images(found.name, found.images, (entry.get("file_name") for entry in entries), len(entries))
    except OSError as error:
        raise ValueError(f"{one_line(str(error.filename or path))}: cannot be read: {error.strerror}") from None
    return found


def _check_folder(images: str | Path | None) -> None:
    if images is not None and not Path(images).is_dir():
        raise ValueError(f"{images}: no such folder of images")


def _check_images(name: str, images: Path, file_names: Iterable[Any], number: int) -> None:
    """ValueError where none of the images of a source is in their folder; looks no further than the first that is."""
    first = None
    for text in file_names:
        if isinstance(text, str) and is_inside(text):
            if (images / text).is_file():
                return
            first = first or text
    if first is not None:
        raise ValueError(f"{name}: none of its {number} images is in {images} (first {first})")


def read_files(source: FilesSource) -> AnnotatedFolder:
    """The same for the source of a job."""
    return read_annotated(source.path, source.format, source.split, source.images)


@dataclass(frozen=True)
class ReadFolder:
    """A checked data set, the format and the name it was found by, its images folder, and what was not taken."""

    name: str
    format: str
    dataset: CocoDataset
    images: Path
    left_out: tuple[LeftOut, ...] = ()


def read_checked(
    path: str | Path,
    format: str = "auto",
    split: str | None = None,
    images: str | Path | None = None,
    max_bad_annotations: float = MAX_BAD_ANNOTATIONS,
) -> ReadFolder:
    """read_annotated and dataset_of_tree in one; the objects of a large COCO file do not come into memory."""
    place = Path(path)
    name = _format_name(place, format, images)
    if name == "coco":
        _check_folder(images)
        try:
            large = coco_files.find_large(place, split, None if images is None else Path(images))
        except (ValueError, OSError):
            large = None  # reading it whole tells why
        if large is not None:
            dataset = read_dataset(*large, max_bad_annotations)
            names = (image.file_name for image in dataset.images)
            _check_images(str(large[0]), large[1], names, len(dataset.images))
            return ReadFolder(str(large[0]), name, dataset, large[1])
    found = read_annotated(path, name, split, images)
    dataset = dataset_of_tree(found.name, found.tree, found.images, max_bad_annotations)
    return ReadFolder(found.name, found.format, dataset, found.images, found.left_out)


def is_small(source: FilesSource) -> bool:
    """Whether a job's source is read in about a second; ValueError where it is of no known format."""
    path = Path(source.path)
    if source.format == "auto":
        _format_name(path, source.format, source.images)
    if voc.is_list(path):
        path = path.parents[2]
    files = [path] if path.is_file() else [path / name for name in list_files(path, COUNTED_SUFFIXES + IMAGE_SUFFIXES)]
    read = [file for file in files if file.suffix.lower() in COUNTED_SUFFIXES or MASK_FOLDERS & set(file.parts)]
    return len(files) <= COUNTED_FILES and sum(file.stat().st_size for file in read) <= COUNTED_BYTES
