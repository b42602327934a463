"""LabelMe: a JSON file an image, beside it, with shapes of corners in pixels.

    a.jpg  a.json       {"imagePath": "a.jpg", "imageHeight": 480, "imageWidth": 640, "shapes": [
                          {"label": "cat", "shape_type": "polygon", "points": [[x, y], ...], "group_id": null}]}

The rules are labelme's own (utils/shape.py, examples/instance_segmentation/labelme2coco.py): shapes of a label and a
group_id are parts of one object; a rectangle has two opposite corners, a circle its middle and a point of it; a mask is
a PNG of what lies between two corners, both included. An ellipse, which tools of its kind write, has two opposite
corners of the box around it; a shape without a type is a polygon. Points and lines have no extent and are not read,
nor are __ignore__ and _background_. imageData, the image itself in the JSON, is not read: the file is needed.
Classes are those of classes.txt or labels.txt in the folder, else all labels by name, of all splits.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import os
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from maskray.platform.data.decode import DECODE_ERRORS, image_file_size
from maskray.platform.data.formats.annotated import (
    AnnotatedFolder,
    Findings,
    FoundImage,
    FoundObject,
    check_mask_size,
    check_size,
)
from maskray.platform.data.formats.json_values import is_pixels, is_whole
from maskray.platform.data.formats.outlines import (
    Polygon,
    Size,
    ellipse_polygon,
    mask_object,
    polygons_object,
    rectangle_polygon,
    union_object,
)
from maskray.platform.data.formats.source_files import (
    IMAGE_SUFFIXES,
    MOST_SNIFFED,
    SPLIT_FOLDERS,
    list_files,
    read_json,
    read_names,
    sniff,
    split_folder,
    written_path,
)
from maskray.platform.machine.progress_bar import track

LOOKS_FOR = "*.json with shapes and imagePath"
NAME_FILES = ("classes.txt", "labels.txt")
NO_OBJECTS = ("__ignore__", "_background_")
WITHOUT_EXTENT = {"point": "points", "points": "points", "line": "lines", "linestrip": "lines"}


def find(path: Path) -> str | None:
    """The first JSON of LabelMe in a folder, or a single one; None without."""
    if path.is_file():
        return path.name if _is_labelme(path) else None
    names = islice(list_files(path, (".json",)), MOST_SNIFFED)
    return next((str(name) for name in names if _is_labelme(path / name)), None)


def splits(path: Path) -> tuple[str, ...]:
    """Splits are folders of that name."""
    return tuple(split for split in SPLIT_FOLDERS if split_folder(path, split) is not None)


def read(path: Path, split: str | None, images: Path | None) -> AnnotatedFolder:
    """Read every JSON of LabelMe in a folder; others are passed over. An image that has none is not annotated.

    ValueError naming the JSON where it is damaged or its image is not there.
    """
    root = path.parent if path.is_file() else path
    chosen = root if split is None else split_folder(root, split)
    if chosen is None:
        raise ValueError(f"{path}: no folder of the split {split!r}")
    names = [PurePosixPath(path.name)] if path.is_file() else list(list_files(chosen, (".json",)))
    files = {chosen / name: None for name in names if _is_labelme(chosen / name)}
    findings = Findings(str(path))
    folder = images or root
    for file in track(files, len(files), "reading LabelMe"):
        findings.images.append(_read_file(findings, file, folder))
    listed = next((read_names(root / name) for name in NAME_FILES if (root / name).is_file()), None)
    used = {found.category: image.file_name for image in findings.images for found in image.objects}
    if listed is not None:
        classes = [name for name in listed if name not in NO_OBJECTS]
        for label in set(used) - set(classes):
            raise ValueError(f"{path}: {used[label]}: label {label!r} is not in the list of classes")
        return findings.finish("labelme", folder, classes)
    others = [] if chosen == root or path.is_file() else [root / name for name in list_files(root, (".json",))]
    for file in track(others, len(others), "reading labels"):
        if file not in files and _is_labelme(file):
            used |= dict.fromkeys(_labels_of(file), str(file))
    return findings.finish("labelme", folder, sorted(used) or None)


def _is_labelme(path: Path) -> bool:
    text = sniff(path)
    return b'"shapes"' in text and (b'"imagePath"' in text or b'"imageData"' in text)


def _read_file(findings: Findings, file: Path, folder: Path) -> FoundImage:
    tree = read_json(file)
    name = _image_name(tree, file, folder)
    width, height = tree.get("imageWidth"), tree.get("imageHeight")
    if not isinstance(width, int) or not isinstance(height, int):
        width, height = image_file_size(folder / name)
    image = FoundImage(str(name), width, height)
    check_size(str(file), image.width, image.height)
    shapes = tree.get("shapes")
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise ValueError(f"{file}: shapes are not a list of objects")
    objects: dict[Any, list[dict[str, Any]]] = {}
    for index, shape in enumerate(shapes):
        label, kind, group = shape.get("label"), shape.get("shape_type"), shape.get("group_id")
        if label in NO_OBJECTS:
            findings.leave_out("a shape that labels no object (__ignore__, _background_)", f"{file} shape {index}")
        elif isinstance(kind, str) and kind in WITHOUT_EXTENT:
            findings.leave_out(f"{WITHOUT_EXTENT[kind]}, which have no extent", f"{file} shape {index}")
        else:
            joined = is_whole(group) and isinstance(label, str)
            objects.setdefault((label, group) if joined else index, []).append(shape)
    for number, parts in enumerate(objects.values()):
        findings.add_object(image, f"{file} object {number}", lambda: _build(parts, (image.height, image.width)))  # noqa: B023
    return image


def _labels_of(file: Path) -> set[str]:
    """The labels of objects in a JSON that is not of the split."""
    shapes = read_json(file).get("shapes")
    found = [shape for shape in shapes if isinstance(shape, dict)] if isinstance(shapes, list) else []
    labels = [shape.get("label") for shape in found if str(shape.get("shape_type")) not in WITHOUT_EXTENT]
    return {label.strip() for label in labels if isinstance(label, str) and label.strip()} - set(NO_OBJECTS)


def _image_name(tree: dict[str, Any], file: Path, folder: Path) -> PurePosixPath:
    """The image of a JSON below the images folder: where imagePath says, else of that name beside, or elsewhere."""
    text = tree.get("imagePath")
    if not isinstance(text, str) or not text:
        raise ValueError(f"{file}: no imagePath")
    written = written_path(text)
    beside = file.parent.relative_to(folder) if file.parent.is_relative_to(folder) else Path()
    straight = Path(os.path.normpath(beside / text.replace("\\", "/")))
    places = [beside, Path(), Path("images"), Path("img"), Path("JPEGImages")]
    tried = [] if straight.is_absolute() or ".." in straight.parts else [straight]
    tried += [place / name for place in places for name in (written, written.name)]
    tried += [place / f"{file.stem}{suffix}" for place in places[:2] for suffix in IMAGE_SUFFIXES]
    found = next((name for name in tried if name.parts and (folder / name).is_file()), None)
    if found is None:
        inside = " (imageData in the JSON is not read: save the image beside it)" if tree.get("imageData") else ""
        raise ValueError(f"{file}: its image {text} is not in {folder}{inside}")
    return PurePosixPath(found.as_posix())


def _build(shapes: list[dict[str, Any]], size: Size) -> FoundObject:
    """The object of the shapes that are its parts; errors name no place, so that they can be counted."""
    label = shapes[0].get("label")
    if not isinstance(label, str) or not label.strip():
        raise ValueError("a shape without a label")
    category = label.strip()
    masks = [shape for shape in shapes if shape.get("shape_type") == "mask"]
    polygons = [_polygon(shape) for shape in shapes if shape.get("shape_type") != "mask"]
    if not masks:
        return polygons_object(category, polygons, size)
    parts = [mask_object(category, *_mask(shape, size), size) for shape in masks]
    if polygons:
        parts.append(polygons_object(category, polygons, size))
    return union_object(parts, size)


def _polygon(shape: dict[str, Any]) -> Polygon:
    kind, points = shape.get("shape_type") or "polygon", _points(shape)
    if kind in ("polygon", "rotation", "quadrilateral"):  # X-AnyLabeling's turned rectangle has its four corners
        return [float(value) for point in points for value in point]
    if kind == "rectangle" and len(points) == 4:
        return [float(value) for point in points for value in point]
    if kind not in ("rectangle", "circle", "ellipse"):
        raise ValueError("a shape of an unknown type")
    if len(points) != 2:
        raise ValueError(f"a {kind} that has not two points")
    (x0, y0), (x1, y1) = points
    if kind == "rectangle":
        return rectangle_polygon(x0, y0, x1, y1)
    if kind == "circle":
        radius = math.hypot(x1 - x0, y1 - y0)
        return ellipse_polygon(x0, y0, radius, radius)
    return ellipse_polygon((x0 + x1) / 2, (y0 + y1) / 2, abs(x1 - x0) / 2, abs(y1 - y0) / 2)


def _points(shape: dict[str, Any]) -> list[list[float]]:
    points = shape.get("points")
    if not isinstance(points, list) or not all(is_pixels(point) and len(point) == 2 for point in points):
        raise ValueError("points that are not pairs of numbers")
    # A whole number of JSON has any length; beyond this none is of an image.
    if any(abs(value) > 1e9 for point in points for value in point):
        raise ValueError("a shape far outside its image")
    return points


def _mask(shape: dict[str, Any], size: Size) -> tuple[Any, tuple[int, int]]:
    """The pixels of a mask and the column and row of its first one."""
    points, text = _points(shape), shape.get("mask")
    if len(points) != 2 or not isinstance(text, str):
        raise ValueError("a mask without its two corners or its pixels")
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as image:
            check_mask_size(*image.size, size)
            mask = np.asarray(image.convert("L")) != 0
    except (*DECODE_ERRORS, binascii.Error):
        raise ValueError("a mask that is no PNG in base64") from None
    return mask, (round(min(points[0][0], points[1][0])), round(min(points[0][1], points[1][1])))
