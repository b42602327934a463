"""YOLO labels: a text file an image, a line an object: class and box, or class and polygon, in fractions of the image.

    data.yaml             path (of the data set), train, val, test (a folder of images, several, or a .txt list), names
    images/train/a.jpg    or train/images/a.jpg
    labels/train/a.txt    "0 0.5 0.5 0.2 0.1": class, middle and sides of a box; "0 x y x y x y ...": class, polygon

Read are Ultralytics' rules (docs.ultralytics.com/datasets): `images` in a path becomes `labels`; an image without a
label file has no objects; names are a list or a table by class. In place of data.yaml a classes.txt or obj.names gives
the classes. The lines of one file may mix boxes and polygons. Poses (kpt_shape) are not read. All paths stay below the
folder of data.yaml: what it says of other machines' folders is looked for there.
"""

from __future__ import annotations

import math
import re
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from maskray.platform.data.decode import image_file_size
from maskray.platform.data.formats.annotated import AnnotatedFolder, Findings, FoundImage, FoundObject
from maskray.platform.data.formats.outlines import box_object, polygons_object
from maskray.platform.data.formats.source_files import (
    IMAGE_SUFFIXES,
    MOST_SNIFFED,
    SPLIT_FOLDERS,
    has_file,
    list_files,
    read_names,
    read_text,
    read_yaml,
    sniff,
    split_folder,
    written_path,
)
from maskray.platform.machine.progress_bar import track

LOOKS_FOR = "data.yaml with names (or classes.txt, obj.names) and labels/*.txt"
NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt")
LABEL_LINE = re.compile(rb"\s*\d+(\s+[-+.\de]+){4,}\s")
MOST_CLASSES = 100_000
# Fractions beyond the image by more than this are pixels, or of another image; Ultralytics has the same limit.
TOLERANCE = 0.01

Roots = list[tuple[str | None, list[PurePosixPath]]]  # split, and its images by path from the data set's folder


def find(path: Path) -> str | None:
    """The file by which a folder (or a data.yaml itself) is known to hold YOLO labels, or None."""
    config = _config_file(path)
    if config is not None:
        return config.name
    if not path.is_dir():
        return None
    named = next((name for name in NAME_FILES if (path / name).is_file()), None)
    labels = (name for name in list_files(path, (".txt",)) if name.name not in NAME_FILES)
    if named and any(LABEL_LINE.match(sniff(path / name)) for name in islice(labels, MOST_SNIFFED)):
        return named
    return None


def splits(path: Path) -> tuple[str, ...]:
    """The splits that data.yaml, or the folders, name."""
    root, tree = _open(path)
    return tuple(split for split, _ in _images_by_split(root, tree, None, path.name) if split)


def read(path: Path, split: str | None, images: Path | None) -> AnnotatedFolder:
    """Read the images of a split, or of all, with their labels; sizes come from the image files.

    ValueError naming the file where classes or images are missing, or where no image has labels.
    """
    if images is not None:
        raise ValueError(f"{path}: YOLO labels lie beside their images: images cannot be another folder")
    root, tree = _open(path)
    names = _class_names(root, tree, path)
    if "kpt_shape" in tree:
        raise ValueError(f"{path}: poses (kpt_shape) are not read: boxes or polygons are needed")
    found = _images_by_split(root, tree, split, str(path))
    findings = Findings(str(path))
    # A data.yaml may name one folder for train and val alike.
    listed = list({name: part for part, files in reversed(found) for name in files}.items())
    labels = 0
    for name, part in track(listed, len(listed), "reading labels"):
        width, height = image_file_size(root / name)
        image = FoundImage(str(name), width, height, split=part)
        findings.images.append(image)
        label = _find_labels(root, name)
        if label is not None:
            labels += 1
            _read_labels(findings, image, label, names)
    if listed and not labels:
        wanted = label_path(listed[0][0])
        raise ValueError(f"{path}: none of {len(listed)} images has a label file (looked for {root / wanted})")
    return findings.finish("yolo", root, names)


def _config_file(path: Path) -> Path | None:
    if path.is_file():
        is_config = path.suffix.lower() in (".yaml", ".yml") and b"names" in sniff(path)
        return path if is_config else None
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (path / name).is_file():
            return path / name
    found = has_file(path, ".yaml") or has_file(path, ".yml")
    return found if found is not None and b"\nnames:" in b"\n" + sniff(found) else None


def _open(path: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of a data set and what its data.yaml holds, nothing without one."""
    config = _config_file(path)
    if config is None:
        return path, {}
    tree = read_yaml(config)
    if "names" not in tree and not any((config.parent / name).is_file() for name in NAME_FILES):
        raise ValueError(f"{config}: no key names: not the data.yaml of a YOLO data set")
    return config.parent, tree


def _class_names(root: Path, tree: dict[str, Any], path: Path) -> list[str]:
    names = tree.get("names")
    if names is None:
        file = next((root / name for name in NAME_FILES if (root / name).is_file()), None)
        if file is None:
            raise ValueError(f"{path}: no class names ({', '.join(NAME_FILES)})")
        return read_names(file)
    if isinstance(names, dict):
        if not names or sorted(map(str, names)) != sorted(map(str, range(len(names)))):
            raise ValueError(f"{path}: names are not those of the classes 0, 1, 2, ...")
        by_text = {str(index): name for index, name in names.items()}
        names = [by_text[str(index)] for index in range(len(by_text))]
    if not isinstance(names, list) or not 0 < len(names) <= MOST_CLASSES:
        raise ValueError(f"{path}: names are neither a list nor a table of class names")
    for name in names:
        if isinstance(name, bool) or not isinstance(name, str | int | float):
            raise ValueError(f"{path}: class name {name!r} is not text: write it in quotes")
    texts = [str(name).strip() for name in names]
    if len(set(texts)) != len(texts) or "" in texts:
        raise ValueError(f"{path}: a class name is empty, or stands twice, in names")
    return texts


def _images_by_split(root: Path, tree: dict[str, Any], split: str | None, told: str) -> Roots:
    """The images of each split, from data.yaml or else from the folders; of one split where it is named."""
    written = {name: tree[key] for name, keys in SPLIT_FOLDERS.items() for key in keys if tree.get(key)}
    if not written:
        for name in SPLIT_FOLDERS:
            folder = split_folder(root / "images", name) or split_folder(root, name)
            if folder is not None:
                written[name] = folder.relative_to(root).as_posix()
    if split is not None and split not in written:
        raise ValueError(
            f"{told}: no split {split!r}; there {'are' if written else 'is'} {', '.join(written) or 'none'}"
        )
    if not written:
        folder = root / "images" if (root / "images").is_dir() else root
        base = PurePosixPath(folder.relative_to(root).as_posix())
        return [(None, [base / name for name in list_files(folder, IMAGE_SUFFIXES)])]
    base = written_path(str(tree.get("path") or "."))
    chosen = written if split is None else {split: written[split]}
    return [(name, _images_of(root, base, name, value, told)) for name, value in chosen.items()]


def _images_of(root: Path, base: PurePosixPath, split: str, value: Any, told: str) -> list[PurePosixPath]:
    """The images of what data.yaml says of a split: a folder or a list in a file, or several of these."""
    images: list[PurePosixPath] = []
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, str):
            raise ValueError(f"{told}: {split}: {entry!r} is not a path")
        place = written_path(entry)
        # Of a data set that was made elsewhere the first folders may be those of another machine.
        tried = [base / place, place, *(PurePosixPath(*place.parts[skip:]) for skip in range(1, len(place.parts)))]
        known = next((one for one in tried if (root / one).exists()), None)
        if known is None:
            raise ValueError(f"{told}: {split}: no {entry} in {root}")
        if (root / known).is_dir():
            images += [known / name for name in list_files(root / known, IMAGE_SUFFIXES)]
        else:
            lines = [written_path(line.strip()) for line in read_text(root / known).splitlines() if line.strip()]
            images += [_existing(root, known.parent, line, told) for line in lines]
    return images


def _existing(root: Path, folder: PurePosixPath, name: PurePosixPath, told: str) -> PurePosixPath:
    tried = [name, folder / name, *(PurePosixPath(*name.parts[skip:]) for skip in range(1, len(name.parts)))]
    known = next((one for one in tried if one.parts and (root / one).is_file()), None)
    if known is None:
        raise ValueError(f"{told}: no image {name} in {root}")
    return known


def label_path(image: PurePosixPath) -> PurePosixPath:
    """The label file of an image: the last folder `images` of its path is `labels`; beside it where there is none."""
    label = image.with_suffix(".txt")
    at = [index for index, part in enumerate(label.parts[:-1]) if part == "images"]
    return PurePosixPath(*label.parts[: at[-1]], "labels", *label.parts[at[-1] + 1 :]) if at else label


def _find_labels(root: Path, image: PurePosixPath) -> Path | None:
    beside = image.with_suffix(".txt")
    tried = [label_path(image), beside, PurePosixPath("labels") / beside]
    return next((root / name for name in tried if (root / name).is_file()), None)


def _read_labels(findings: Findings, image: FoundImage, path: Path, names: list[str]) -> None:
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            values = line.split()
            findings.add_object(image, f"{path} line {number}", lambda: _read_object(values, image, names))  # noqa: B023


def _read_object(words: list[str], image: FoundImage, names: list[str]) -> FoundObject:
    """The object of a line; errors say nothing of the line itself, so that they can be counted."""
    try:
        index, *values = [float(word) for word in words]
    except ValueError:
        raise ValueError("a line that is not made of numbers") from None
    if not (index.is_integer() and 0 <= index < len(names)):
        raise ValueError("a class that is not among the names")
    if not all(map(math.isfinite, values)):
        raise ValueError("coordinates that are not finite numbers")
    if not all(-TOLERANCE <= value <= 1 + TOLERANCE for value in values):
        raise ValueError("coordinates that are not fractions of the image, from 0 to 1")
    category, size = names[int(index)], (image.height, image.width)
    if len(values) == 4:
        x, y = values[0] * image.width, values[1] * image.height
        half_width, half_height = values[2] * image.width / 2, values[3] * image.height / 2
        return box_object(category, x - half_width, y - half_height, x + half_width, y + half_height, size)
    if len(values) < 6 or len(values) % 2:
        raise ValueError("a line that is neither class and box nor class and polygon")
    scale = (image.width, image.height)
    return polygons_object(category, [[value * scale[i % 2] for i, value in enumerate(values)]], size)
