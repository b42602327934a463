"""Roboflow's COCO export: a folder a split, with images and one JSON in it.

    train/_annotations.coco.json  train/a.jpg     valid/...     test/...

Its category 0 is only the name of the others' group: where no object has it, it is left out. Categories are those of
all splits by name, so that train and val agree.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskray.platform.data.formats.annotated import AnnotatedFolder
from maskray.platform.data.formats.coco import parse_entries, read_bytes
from maskray.platform.data.formats.joining import Part, join_trees
from maskray.platform.data.formats.source_files import SPLIT_FOLDERS

FILE_NAME = "_annotations.coco.json"
LOOKS_FOR = f"{FILE_NAME} in the folder, or in train, valid, test"


def find(path: Path) -> str | None:
    """The JSON of the first split, or of a single folder; None without."""
    files = _files(path)
    return str(files[0][1].relative_to(path) if path.is_dir() else path.name) if files else None


def splits(path: Path) -> tuple[str, ...]:
    """The splits that have a folder with a JSON."""
    return tuple(split for split, _ in _files(path) if split is not None)


def read(path: Path, split: str | None, images: Path | None) -> AnnotatedFolder:
    """Read a split, or all of them with file names such as train/a.jpg.

    ValueError naming the file where it is not COCO JSON, or where a split is not there.
    """
    root = path.parent if path.is_file() else path
    if images is not None:
        raise ValueError(f"{path}: in Roboflow's layout images lie beside their JSON: images cannot be another folder")
    files = _files(path)
    if not files:
        raise ValueError(f"{path}: no {FILE_NAME} in it, nor in train, valid or test")
    if split is not None and split not in [name for name, _ in files]:
        raise ValueError(f"{path}: no {FILE_NAME} of the split {split!r}")
    parts = []
    for name, file in files:
        tree = parse_entries(file, read_bytes(file))
        parts.append(Part(str(file), tree, "" if file.parent == root else f"{file.parent.name}/", name))
    tree, _ = join_trees(parts)
    tree = _without_group(tree)
    if split is not None:
        tree["images"] = [entry for entry in tree["images"] if entry.get("split") == split]
        kept = {entry["id"] for entry in tree["images"]}
        tree["annotations"] = [entry for entry in tree["annotations"] if entry["image_id"] in kept]
    return AnnotatedFolder(str(path), "roboflow", tree, root)


def _files(path: Path) -> list[tuple[str | None, Path]]:
    if path.is_file():
        return [(None, path)] if path.name == FILE_NAME else []
    named = [(split, path / name / FILE_NAME) for split, names in SPLIT_FOLDERS.items() for name in names]
    files: list[tuple[str | None, Path]] = [(split, file) for split, file in named if file.is_file()]
    return files or ([(None, path / FILE_NAME)] if (path / FILE_NAME).is_file() else [])


def _without_group(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree without the categories that are only the group of others and have no object."""
    groups = {entry.get("supercategory") for entry in tree["categories"] if isinstance(entry.get("supercategory"), str)}
    used = {entry["category_id"] for entry in tree["annotations"]}
    kept = [
        entry
        for entry in tree["categories"]
        if entry["id"] in used or entry["name"] not in groups or entry.get("supercategory") == entry["name"]
    ]
    return tree | {"categories": kept or tree["categories"]}
