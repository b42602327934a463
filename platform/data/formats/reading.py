"""A folder or file of any format as a COCO tree and a checked data set: the table of formats, and how one is told.

All readers are maskray's own: docs/data.md says what was tried. datumaro renumbers categories, changes coordinates and
fixes versions of pyarrow and pandas; supervision renumbers ids, simplifies polygons and takes the parts of an object
apart. Each reader here is a page, and says in its docstring whose rules it follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maskray.platform.data.formats import coco_files, cvat, instance_masks, labelme, roboflow, voc, yolo
from maskray.platform.data.formats.annotated import AnnotatedFolder
from maskray.platform.data.formats.problem import one_line
from maskray.platform.data.formats.records import is_inside
from maskray.platform.data.formats.source_files import IMAGE_SUFFIXES, list_files
from maskray.platform.job.data_config import FilesSource

# Annotations up to this many and this large are read in about a second; a plan leaves more of them to the run.
COUNTED_FILES, COUNTED_BYTES = 4000, 16_000_000
COUNTED_SUFFIXES = (".json", ".xml", ".txt", ".yaml")
LONGEST_ERROR = 2000  # letters: the list of what every format looks for, and a path
MASK_FOLDERS = {"masks", "SegmentationObject"}


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
    if images is not None and need_images and not Path(images).is_dir():
        raise ValueError(f"{images}: no such folder of images")
    if images is None and not need_images and name == "coco":
        images = path.parent if path.is_file() else path
    try:
        found = FORMATS[name].read(path, split, None if images is None else Path(images))
        names = [entry.get("file_name") for entry in found.tree["images"] if isinstance(entry, dict)]
        known = [text for text in names if isinstance(text, str) and is_inside(text)]
        there = not known or any((found.images / text).is_file() for text in known)
    except OSError as error:
        raise ValueError(f"{one_line(str(error.filename or path))}: cannot be read: {error.strerror}") from None
    if need_images and not there:
        raise ValueError(f"{found.name}: none of its {len(names)} images is in {found.images} (first {known[0]})")
    return found


def read_files(source: FilesSource) -> AnnotatedFolder:
    """The same for the source of a job."""
    return read_annotated(source.path, source.format, source.split, source.images)


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
