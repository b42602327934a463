"""CVAT for images 1.1: one XML of all images, with shapes in pixels; the images beside it or in images/.

    annotations.xml         <image name="a.jpg" width="640" height="480">
    images/a.jpg              <polygon label="cat" points="1.0,2.0;3.5,2.0;..." group_id="1" occluded="0"/>
                              <box label="cat" xtl="1" ytl="2" xbr="9" ybr="8" rotation="30"/>
                              <ellipse label="cat" cx="5" cy="5" rx="3" ry="2" rotation="30"/>
                              <mask label="cat" left="2" top="3" width="4" height="2" rle="3, 2, 3"/>

The format is that of docs.cvat.ai/docs/other/xml_format; as in CVAT's own export to COCO, shapes of one label and one
group_id are parts of one object, and a box has no mask unless it is turned. A box in a group with other shapes is the
box of their object (datumaro writes it so), several are objects of their own. Counts of a mask run along its rows and
begin with what is not of it. Points, lines, cuboids, skeletons and tags are not read. occluded stays in the tree.
Classes are the labels of the task in its order. Splits are the subsets of a project, or files of their own: train.xml
and val.xml.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from maskray.platform.data.formats.annotated import (
    AnnotatedFolder,
    Findings,
    FoundImage,
    FoundObject,
    check_mask_size,
    check_size,
)
from maskray.platform.data.formats.outlines import (
    Size,
    box_object,
    ellipse_polygon,
    mask_object,
    polygons_object,
    rectangle_polygon,
    union_object,
)
from maskray.platform.data.formats.source_files import SPLIT_FOLDERS, has_file, read_xml, sniff, written_path

LOOKS_FOR = "annotations.xml of CVAT for images"
SHAPES = ("polygon", "box", "ellipse", "mask")
NOT_READ = ("points", "polyline", "cuboid", "skeleton", "tag")


def find(path: Path) -> str | None:
    """The XML of CVAT in a folder, or a single one; None without."""
    file = path if path.is_file() else path / "annotations.xml"
    if not file.is_file():
        other = has_file(path, ".xml")
        file = file if other is None else other
    return file.name if file.suffix.lower() == ".xml" and b"<annotations" in sniff(file) else None


def splits(path: Path) -> tuple[str, ...]:
    """The subsets of a project that are named like splits, or where there are several files, the names of these."""
    files = _xml_files(path)
    named = {file.stem.lower() for file in files}
    if len(files) == 1:
        named = {entry.get("subset", "").lower() for entry in read_xml(files[0]).iter("image")}
    return tuple(split for split, names in SPLIT_FOLDERS.items() if named & set(names))


def read(path: Path, split: str | None, images: Path | None) -> AnnotatedFolder:
    """Read the images of the XML, of a subset where a split is named; of several files, the one named like the split.

    ValueError where several could be meant; naming the file where it is of another kind (a video's tracks), or an
    image of it is damaged.
    """
    file, split = _choose(path, split)
    root = read_xml(file)
    if root.tag != "annotations":
        raise ValueError(f"{file}: its root is <{root.tag}>, not <annotations> of CVAT for images")
    if root.find("track") is not None:
        raise ValueError(f"{file}: tracks of a video are not read: export the task as 'CVAT for images 1.1'")
    folder = images or file.parent
    findings = Findings(str(file))
    for entry in root.iter("image"):
        subset = entry.get("subset", "").lower()
        if split is None or subset in SPLIT_FOLDERS[split]:
            findings.images.append(_read_image(findings, entry, file, folder, _split_of(subset)))
    if not findings.images and split is not None:
        raise ValueError(f"{file}: no image of a subset {split!r}")
    labels = [label.findtext("name", "").strip() for label in root.iterfind("meta//labels/label")]
    declared = [name for name in labels if name] or None
    used = {found.category for image in findings.images for found in image.objects}
    if declared is not None and used - set(declared):
        raise ValueError(f"{file}: label {min(used - set(declared))!r} is not among the labels of the task")
    return findings.finish("cvat", folder, declared)


def _xml_files(path: Path) -> list[Path]:
    """The path itself, or the files of CVAT in a folder; where there is none, what its error is to be about."""
    if path.is_file():
        return [path]
    files = [file for file in sorted(path.glob("*.xml")) if b"<annotations" in sniff(file)]
    return files or [has_file(path, ".xml") or path / "annotations.xml"]


def _choose(path: Path, split: str | None) -> tuple[Path, str | None]:
    """The file to read, and the subset of it: a file that is named like the split is whole the split."""
    files = _xml_files(path)
    if len(files) == 1:
        return files[0], split
    named = [file for file in files if split is not None and file.stem.lower() in SPLIT_FOLDERS[split]]
    if len(named) != 1:
        told = ", ".join(file.name for file in files[:6])
        raise ValueError(f"{path}: several files of CVAT ({told}): name one of them, or a split")
    return named[0], None


def _split_of(subset: str) -> str | None:
    return next((split for split, names in SPLIT_FOLDERS.items() if subset in names), None)


def _read_image(findings: Findings, entry: Element, file: Path, folder: Path, split: str | None) -> FoundImage:
    name = entry.get("name", "")
    where = f"{file}: image {name!r}"
    if not written_path(name).parts:
        raise ValueError(f"{file}: an image has no name")
    try:
        width, height = int(entry.get("width", "")), int(entry.get("height", ""))
    except ValueError:
        raise ValueError(f"{where}: width and height are not whole numbers") from None
    check_size(where, width, height)
    image = FoundImage(_file_name(name, entry.get("subset", ""), folder), width, height, split=split)
    objects: dict[Any, list[Element]] = {}
    for index, shape in enumerate(entry):
        group = shape.get("group_id", "0")
        if shape.tag in SHAPES:
            key = index if group in ("", "0") else (shape.get("label"), group)
            objects.setdefault(key, []).append(shape)
        elif shape.tag in NOT_READ:
            findings.leave_out(f"<{shape.tag}>, which is not read", f"{where} shape {index}")
        else:
            findings.leave_out(f"<{shape.tag[:40]}>, which is unknown", f"{where} shape {index}")
    for number, shapes in enumerate(part for group in objects.values() for part in _apart(group)):
        findings.add_object(image, f"{where} object {number}", lambda: _build(shapes, (height, width)))  # noqa: B023
    return image


def _file_name(name: str, subset: str, folder: Path) -> str:
    """Where the image lies below the folder: as named, or in images/, or in images/SUBSET/."""
    written = written_path(name)
    tried = [written, "images" / written, PurePosixPath("images", *written_path(subset).parts, *written.parts)]
    return str(next((one for one in tried if (folder / one).is_file()), written))


def _apart(shapes: list[Element]) -> list[list[Element]]:
    """The shapes of a group by object: a box is one of its own, or where others are with it, the box of that object."""
    boxes = [shape for shape in shapes if _is_plain_box(shape)]
    others = [shape for shape in shapes if not _is_plain_box(shape)]
    if others and len(boxes) == 1:
        return [others + boxes]
    return [[box] for box in boxes] + ([others] if others else [])


def _is_plain_box(shape: Element) -> bool:
    return shape.tag == "box" and shape.get("rotation", "0").strip("0.") == ""


def _build(shapes: list[Element], size: Size) -> FoundObject:
    """The object of the shapes that are its parts; errors name no place, so that they can be counted."""
    category = (shapes[0].get("label") or "").strip()
    if not category:
        raise ValueError("a shape without a label")
    aside = {"occluded": True} if any(shape.get("occluded") == "1" for shape in shapes) else {}
    stated = None
    if _is_plain_box(shapes[-1]):
        x0, y0, x1, y1 = (_number(shapes[-1], key) for key in ("xtl", "ytl", "xbr", "ybr"))
        stated = box_object(category, x0, y0, x1, y1, size, aside)
        shapes = shapes[:-1]
        if not shapes:
            return stated
    masks = [mask_object(category, *_mask(shape, size), size, aside) for shape in shapes if shape.tag == "mask"]
    polygons = [POLYGONS[shape.tag](shape) for shape in shapes if shape.tag != "mask"]
    parts = masks + ([polygons_object(category, polygons, size, aside)] if polygons else [])
    found = parts[0] if len(parts) == 1 else union_object(parts, size)
    return found if stated is None else replace(found, bbox=stated.bbox)


def _number(shape: Element, key: str, default: float | None = None) -> float:
    text = shape.get(key)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not abs(value) < 1e9:
        raise ValueError(f"a <{shape.tag}> without a number {key}")
    return value


def _corners(shape: Element) -> list[float]:
    try:
        pairs = [point.split(",") for point in shape.get("points", "").split(";")]
        return [float(value) for x, y in pairs for value in (x, y)]
    except ValueError:
        raise ValueError("a <polygon> whose points are not pairs of numbers") from None


def _rectangle(shape: Element) -> list[float]:
    x0, y0, x1, y1 = (_number(shape, key) for key in ("xtl", "ytl", "xbr", "ybr"))
    return rectangle_polygon(x0, y0, x1, y1, _number(shape, "rotation", 0.0))


def _ellipse(shape: Element) -> list[float]:
    x, y, radius_x, radius_y = (_number(shape, key) for key in ("cx", "cy", "rx", "ry"))
    return ellipse_polygon(x, y, radius_x, radius_y, _number(shape, "rotation", 0.0))


POLYGONS: dict[str, Callable[[Element], list[float]]] = {
    "polygon": _corners,
    "box": _rectangle,
    "ellipse": _ellipse,
}


def _mask(shape: Element, size: Size) -> tuple[Any, tuple[int, int]]:
    """The pixels of a mask and the column and row of its first one."""
    left, top, width, height = (int(_number(shape, key)) for key in ("left", "top", "width", "height"))
    check_mask_size(width, height, size)
    try:
        counts = [int(count) for count in shape.get("rle", "").split(",")]
    except ValueError:
        raise ValueError("a <mask> whose rle is not made of whole numbers") from None
    if min(counts) < 0 or sum(counts) != width * height:
        raise ValueError("a <mask> whose rle does not add up to its width x height")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(height, width), (left, top)
