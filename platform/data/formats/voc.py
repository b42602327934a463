"""Pascal VOC: an XML of boxes an image, and where there is one a PNG in which each object has a number of its own.

    Annotations/a.xml           <object><name>cat</name><bndbox><xmin>48</xmin>...<ymax>371</ymax></bndbox></object>
    JPEGImages/a.jpg            (or images/, or beside the XML)
    SegmentationObject/a.png    0 background, 1, 2, ... objects, 255 their border
    ImageSets/Main/train.txt    names of a split; of ImageSets/Segmentation where that is all there is

The rules are the development kit's: pixels are numbered from 1 and xmax is of the box, so xmin 48, xmax 50 are three
pixels. Tools that write VOC often count edges from 0 (xmin 0, or fractions): where any box of the set does, all are
taken so. A number of the PNG is the object whose box overlaps its own most, one to one, at an IoU of at least 0.5; the
box stays that of the XML. Classes are those of classes.txt, else all of the set by name. Parts and poses are not read;
difficult and truncated stay in the tree. A list itself may be the path, ImageSets/Segmentation/train.txt for those that
have masks: its images are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

from maskray.platform.data.decode import image_file_size
from maskray.platform.data.formats.annotated import AnnotatedFolder, Findings, FoundImage, FoundObject
from maskray.platform.data.formats.label_images import read_label_image, take_apart
from maskray.platform.data.formats.outlines import Size, box_object, mask_object
from maskray.platform.data.formats.source_files import (
    IMAGE_SUFFIXES,
    MOST_SNIFFED,
    SPLIT_FOLDERS,
    list_files,
    read_names,
    read_text,
    read_xml,
    sniff,
    split_folder,
    written_path,
)
from maskray.platform.machine.progress_bar import track

LOOKS_FOR = "Annotations/*.xml (or *.xml beside the images) of Pascal VOC"
FOLDERS = ("JPEGImages", "images", "Images", ".")
BORDER = (255, 0xE0E0C0)  # as palette index and as the colour it has there
LEAST_IOU = 0.5
MOST_PAIRS = 4_000_000  # of boxes and masks of an image, each of which is compared
Corners = tuple[float, float, float, float]


@dataclass
class _Box:
    """One object of an XML: corners as they are written."""

    category: str
    corners: Corners
    where: str
    aside: dict[str, Any]


@dataclass
class _Sheet:
    """One XML: its image, and its objects before it is known how the set counts pixels."""

    image: FoundImage
    stem: str
    boxes: list[_Box] = field(default_factory=list)


def find(path: Path) -> str | None:
    """The first XML of VOC in a folder, or a single one, or a list of ImageSets; None without."""
    if path.is_file():
        return path.name if _is_voc(path) or is_list(path) else None
    for folder in ("Annotations", "annotations", ".", *(name for names in SPLIT_FOLDERS.values() for name in names)):
        if (path / folder).is_dir():
            names = sorted((path / folder).glob("*.xml"))[:MOST_SNIFFED]
            first = next((name for name in names if _is_voc(name)), None)
            if first is not None:
                return str(first.relative_to(path))
    return None


def splits(path: Path) -> tuple[str, ...]:
    """The lists of ImageSets, or else folders, that are named like splits."""
    return tuple(
        split for split in SPLIT_FOLDERS if _list_file(path, split) is not None or split_folder(path, split) is not None
    )


def read(path: Path, split: str | None, images: Path | None) -> AnnotatedFolder:
    """Read every XML of a set, of those that a list names where it is the path, or a split is asked for.

    Classes are those of the whole set also then, so that train and val agree. ValueError naming the file where one is
    damaged or of another kind.
    """
    root = path.parents[2] if is_list(path) else path.parent if path.is_file() else path
    folder = images or root
    files = [path] if path.suffix.lower() == ".xml" else [root / name for name in list_files(root, (".xml",))]
    files = [file for file in files if _is_voc(file)]
    findings = Findings(str(path))
    sheets = [_read_sheet(findings, file, root, folder) for file in track(files, len(files), "reading VOC")]
    if not sheets:
        raise ValueError(f"{path}: no XML of Pascal VOC")
    boxes = [box for sheet in sheets for box in sheet.boxes]
    from_zero = any(value != int(value) or min(box.corners) < 1 for box in boxes for value in box.corners)
    named = next((read_names(root / name) for name in ("classes.txt",) if (root / name).is_file()), None)
    classes = sorted({box.category for box in boxes}) if named is None else named
    lost = {box.category for box in boxes} - set(classes)
    if lost:
        raise ValueError(f"{path}: {min(lost)!r} is not in classes.txt")
    if is_list(path):
        sheets = _of_list(findings, sheets, path)
    elif split is not None:
        sheets = _of_split(findings, sheets, path, split)
    for sheet in track(sheets, len(sheets), "reading masks"):
        _add_objects(findings, sheet, root, from_zero)
        findings.images.append(sheet.image)
    return findings.finish("voc", folder, classes)


def is_list(path: Path) -> bool:
    """Whether a path is a list of ImageSets: what it names lies two folders above."""
    return path.suffix.lower() == ".txt" and len(path.parents) > 2 and path.parents[1].name == "ImageSets"


def _is_voc(path: Path) -> bool:
    return path.suffix.lower() == ".xml" and re.search(rb"<annotation[ >]", sniff(path)) is not None


def _read_sheet(findings: Findings, file: Path, root: Path, folder: Path) -> _Sheet:
    tree = read_xml(file)
    if tree.tag != "annotation":
        raise ValueError(f"{file}: its root is <{tree.tag}>, not <annotation> of Pascal VOC")
    name = _image_name(tree, file, root, folder)
    try:
        width, height = int(tree.findtext("size/width", "")), int(tree.findtext("size/height", ""))
    except ValueError:
        width = height = 0
    if width < 1 or height < 1:  # as some tools write where they do not know
        width, height = image_file_size(folder / name)
    sheet = _Sheet(FoundImage(str(name), width, height), file.stem)
    for index, entry in enumerate(tree.iterfind("object")):
        where = f"{file} object {index}"
        category = entry.findtext("name", "").strip()
        try:
            texts = [entry.findtext(f"bndbox/{key}", "") for key in ("xmin", "ymin", "xmax", "ymax")]
            x0, y0, x1, y1 = (float(text) for text in texts)
        except ValueError:
            category = ""
            x0 = y0 = x1 = y1 = 0.0
        if not category or not all(abs(value) < 1e9 for value in (x0, y0, x1, y1)):
            findings.add_object(sheet.image, where, _refuse)
            continue
        flags = {key: True for key in ("difficult", "truncated") if entry.findtext(key, "").strip() == "1"}
        sheet.boxes.append(_Box(category, (x0, y0, x1, y1), where, flags))
    return sheet


def _refuse() -> FoundObject:
    raise ValueError("an <object> without a name or four numbers in its <bndbox>")


def _image_name(tree: Element, file: Path, root: Path, folder: Path) -> PurePosixPath:
    """Where the image lies below the images folder: in JPEGImages or images, or beside its XML."""
    written = written_path(tree.findtext("filename", "").strip() or file.stem)
    beside = file.parent.relative_to(root).as_posix()
    stems = [PurePosixPath(file.stem).with_suffix(suffix) for suffix in IMAGE_SUFFIXES] if written.name else []
    tried = [PurePosixPath(place, name) for name in (written, *stems) for place in (*FOLDERS, beside)]
    found = next((name for name in tried if (folder / name).is_file()), None)
    return tried[0] if found is None else found


def _list_file(path: Path, split: str) -> Path | None:
    # Main names every image, Segmentation those with masks: what is not told is not left out.
    folders = ("ImageSets/Main", "ImageSets/Segmentation", "ImageSets")
    tried = [path / folder / f"{name}.txt" for folder in folders for name in SPLIT_FOLDERS[split]]
    return next((file for file in tried if file.is_file()), None)


def _of_split(findings: Findings, sheets: list[_Sheet], path: Path, split: str) -> list[_Sheet]:
    file, folder = _list_file(path, split), split_folder(path, split)
    if file is not None:
        found = _of_list(findings, sheets, file)
    elif folder is not None:
        found = [sheet for sheet in sheets if sheet.image.file_name.startswith(f"{folder.name}/")]
        if not found:
            raise ValueError(f"{folder}: none of its images has an XML")
    else:
        raise ValueError(f"{path}: no split {split!r}: neither ImageSets/Main/{split}.txt nor a folder {split}")
    for sheet in found:
        sheet.image.split = split
    return found


def _of_list(findings: Findings, sheets: list[_Sheet], file: Path) -> list[_Sheet]:
    """The sheets that a list names; names without one are told."""
    stems = {line.split()[0] for line in read_text(file).splitlines() if line.split()}
    found = [sheet for sheet in sheets if sheet.stem in stems]
    if not found:
        raise ValueError(f"{file}: none of its images has an XML")
    for stem in sorted(stems - {sheet.stem for sheet in found}):
        findings.leave_out("an image of the list without an XML", f"{file}: {stem}")
    return found


def _add_objects(findings: Findings, sheet: _Sheet, root: Path, from_zero: bool) -> None:
    image = sheet.image
    size = (image.height, image.width)
    boxes = [box if from_zero else _from_one(box) for box in sheet.boxes]
    masks = _match_masks(findings, root / "SegmentationObject" / f"{sheet.stem}.png", size, boxes)
    for index, box in enumerate(boxes):
        mask = masks.get(index)
        findings.add_object(image, box.where, lambda: _build(box, mask, size))  # noqa: B023


def _build(box: _Box, mask: FoundObject | None, size: Size) -> FoundObject:
    found = box_object(box.category, *box.corners, size=size, aside=box.aside)
    if mask is not None:
        found.segmentation, found.area = mask.segmentation, mask.area
    return found


def _from_one(box: _Box) -> _Box:
    """The same box with edges from 0 in place of numbers of pixels from 1."""
    x0, y0, x1, y1 = box.corners
    return _Box(box.category, (x0 - 1, y0 - 1, x1, y1), box.where, box.aside)


def _match_masks(findings: Findings, file: Path, size: Size, boxes: list[_Box]) -> dict[int, FoundObject]:
    """The mask of each box that one overlaps enough, best pairs first; masks and boxes that stay alone are counted."""
    if not file.is_file():
        return {}
    numbers = read_label_image(file)
    if numbers.shape != size:
        raise ValueError(f"{file}: {numbers.shape[1]}x{numbers.shape[0]} pixels, its image has {size[1]}x{size[0]}")
    for border in BORDER:
        numbers[numbers == border] = 0
    masks = [mask_object("", mask, corner, size) for _, mask, corner in take_apart(numbers)]
    if len(boxes) * len(masks) > MOST_PAIRS:
        raise ValueError(f"{file}: {len(masks)} masks and {len(boxes)} boxes are more than an image can have")
    pairs = [(_iou(box.corners, mask), i, j) for i, box in enumerate(boxes) for j, mask in enumerate(masks)]
    matched: dict[int, FoundObject] = {}
    used: set[int] = set()
    for overlap, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if overlap >= LEAST_IOU and i not in matched and j not in used:
            matched[i] = masks[j]
            used.add(j)
    for _ in range(len(masks) - len(used)):
        findings.leave_out("a mask of SegmentationObject that no box fits", str(file))
    return matched


def _iou(corners: Corners, mask: FoundObject) -> float:
    x, y, width, height = mask.bbox
    across = min(corners[2], x + width) - max(corners[0], x)
    down = min(corners[3], y + height) - max(corners[1], y)
    if across <= 0 or down <= 0:
        return 0.0
    own = (corners[2] - corners[0]) * (corners[3] - corners[1])
    return across * down / (own + width * height - across * down)
