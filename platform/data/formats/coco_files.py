"""COCO JSON found in a folder, and the images that belong to it; LVIS, which is COCO without file names.

    annotations/instances_train2017.json     train2017/a.jpg
    or one JSON (any name) in the folder     beside it, or in images/

Of several JSON files the split names one (its name, and no other's, has the split in it; instances_... goes before
others). The images folder is the first of the usual ones in which an image of the file lies: beside the JSON, images/,
a folder named like the split or as the JSON ends, in its folder or the one above.

LVIS names an image by coco_url alone, of which the last two parts are folder and file (train2017/000000000009.jpg).
neg_category_ids and not_exhaustive_category_ids stay in the tree, for an evaluation that knows them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from maskray.platform.data.formats.annotated import AnnotatedFolder
from maskray.platform.data.formats.coco import is_large, parse_json, read_bytes
from maskray.platform.data.formats.coco_tree import LISTS
from maskray.platform.data.formats.json_entries import NotStreamableError, stream_lists
from maskray.platform.data.formats.records import is_inside
from maskray.platform.data.formats.source_files import SPLIT_FOLDERS, sniff, written_path

LOOKS_FOR = "*.json (or annotations/*.json) with images, annotations and categories"
LVIS_LOOKS_FOR = "the same with coco_url in place of file_name (LVIS)"
TRIED_IMAGES = 50


def find(path: Path) -> str | None:
    """The first JSON in COCO format of a folder, or a single one; None without."""
    return next((str(file.relative_to(path) if file != path else file.name) for file in _files(path, False)), None)


def find_lvis(path: Path) -> str | None:
    """The same for LVIS."""
    return next((str(file.relative_to(path) if file != path else file.name) for file in _files(path, True)), None)


def splits(path: Path) -> tuple[str, ...]:
    """The splits that names of JSON files have in them."""
    files = [file for lvis in (False, True) for file in _files(path, lvis)]
    return tuple(split for split in SPLIT_FOLDERS if any(_names_split(file, split) for file in files))


def read(path: Path, split: str | None, images: Path | None) -> AnnotatedFolder:
    """Read the COCO file of a folder, or a single one.

    ValueError where several could be meant, where none is of the split, or where no images are found.
    """
    file = _choose(path, split, lvis=False)
    tree = parse_json(file, read_bytes(file))
    return AnnotatedFolder(str(file), "coco", tree, _images_folder(file, tree, images))


def find_large(path: Path, split: str | None, images: Path | None) -> tuple[Path, Path] | None:
    """The COCO file of a folder, or a single one, and its images folder, where it is better read entry by entry."""
    file = _choose(path, split, lvis=False)
    if not is_large(file):
        return None
    try:
        entries = (entry for key, entry in stream_lists(file, LISTS) if key == "images")
        named = list(itertools.islice(entries, TRIED_IMAGES))
    except NotStreamableError:
        return None
    return file, _images_folder(file, {"images": named}, images)


def read_lvis(path: Path, split: str | None, images: Path | None) -> AnnotatedFolder:
    """Read an LVIS file; file names are the last two parts of coco_url, or the last where images lie in one folder."""
    file = _choose(path, split, lvis=True)
    tree = parse_json(file, read_bytes(file))
    tree["images"] = [entry for entry in tree["images"] if isinstance(entry, dict)]
    for entry in tree["images"]:
        url = entry.get("coco_url")
        if "file_name" not in entry and isinstance(url, str):
            entry["file_name"] = str(PurePosixPath(*written_path(url).parts[-2:]))
    short = [entry | {"file_name": written_path(str(entry.get("file_name"))).name} for entry in tree["images"]]
    try:
        folder = _images_folder(file, tree, images)
    except ValueError:
        folder = _images_folder(file, tree | {"images": short}, images)
        tree["images"] = short
    return AnnotatedFolder(str(file), "lvis", tree, folder)


def _files(path: Path, lvis: bool) -> Iterator[Path]:
    """JSON files in COCO format: the path itself, or those in the folder and in annotations/."""
    places = [path] if path.is_file() else []
    for folder in (path, path / "annotations"):
        if folder.is_dir():
            places += sorted(file for file in folder.iterdir() if file.suffix.lower() == ".json")
    for file in places:
        text = sniff(file) if file.is_file() and not file.name.startswith((".", "_annotations.coco")) else b""
        keys = sum(key in text for key in (b'"images"', b'"annotations"', b'"categories"'))
        is_lvis = b'"neg_category_ids"' in text or (b'"coco_url"' in text and b'"file_name"' not in text)
        # The third list may lie between the parts that are looked at.
        if keys >= 2 and is_lvis == lvis and b'"shapes"' not in text:
            yield file


def _names_split(file: Path, split: str) -> bool:
    return any(name in file.stem.lower() for name in SPLIT_FOLDERS[split])


def _choose(path: Path, split: str | None, lvis: bool) -> Path:
    files = [path] if path.is_file() else list(_files(path, lvis))
    if not files:
        raise ValueError(f"{path}: no JSON file in COCO format")
    if split is not None:
        files = [file for file in files if _names_split(file, split)]
        if not files:
            raise ValueError(f"{path}: no JSON file has the split {split!r} in its name (maskray data split makes two)")
    instances = [file for file in files if "instances" in file.stem.lower()]
    chosen = files if len(files) == 1 else instances
    if len(chosen) != 1:
        names = ", ".join(file.name for file in files[:6])
        raise ValueError(f"{path}: several COCO files ({names}): name one of them, or a split")
    return chosen[0]


def _images_folder(file: Path, tree: dict[str, Any], images: Path | None) -> Path:
    """The folder in which images of a tree lie; an image that is nowhere is the business of who reads it."""
    named = (entry.get("file_name") for entry in tree["images"] if isinstance(entry, dict))
    names = [name for name in itertools.islice(named, TRIED_IMAGES) if isinstance(name, str) and is_inside(name)]
    ending = file.stem.split("_")[-1]
    split = [name for names in SPLIT_FOLDERS.values() for name in names if name in file.stem.lower()]
    parts = ["", "images", ending, f"images/{ending}", *split, *(f"images/{name}" for name in split), "data", "img"]
    if images is not None:
        return images
    folders = list(dict.fromkeys(base / part for base in (file.parent, file.parent.parent) for part in parts))
    for folder in folders:
        if any((folder / name).is_file() for name in names):
            return folder
    if not names:
        return file.parent
    tried = f"{file.parent}, in images or {ending} there, or in the folder above"
    raise ValueError(f"{file}: its image {names[0]} is not in {tried}: name the folder of the images")
