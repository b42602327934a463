"""Files of annotation tools read with care: bounded sizes, no XML entities, no YAML aliases, names kept inside.

What stands in them was written by others: each function ends in a value or in a ValueError of one line with the file.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import yaml

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
SPLIT_FOLDERS = {"train": ("train",), "val": ("valid", "val", "validation"), "test": ("test",)}
MOST_JSON_BYTES = 2_000_000_000
MOST_XML_BYTES = 400_000_000
MOST_TEXT_BYTES = 50_000_000
MOST_YAML_BYTES = 1_000_000
MOST_XML_DEPTH, MOST_YAML_DEPTH = 50, 20
MOST_FOLDER_DEPTH, MOST_FILES = 12, 5_000_000
MOST_SNIFFED = 1000  # files of a folder that are looked into for its format
SNIFFED_BYTES = 200_000
LONGEST_PATH = 4096  # letters; no system has longer ones


def read_file(path: Path, most_bytes: int) -> bytes:
    """The bytes of a file; ValueError where it is missing, unreadable or larger."""
    try:
        size = path.stat().st_size
        if size > most_bytes:
            raise ValueError(f"{path}: {size} bytes are more than the {most_bytes} that are read of such a file")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without byte order mark."""
    try:
        return read_file(path, MOST_TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not text in UTF-8") from None


def read_names(path: Path) -> list[str]:
    """Class names, one a line; ValueError where there is none or one stands twice."""
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not names:
        raise ValueError(f"{path}: no class names")
    if len(set(names)) != len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise ValueError(f"{path}: class {twice!r} stands twice")
    return names


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    try:
        tree = json.loads(read_file(path, MOST_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        told = str(error)
        raise ValueError(told if told.startswith(f"{path}: ") else f"{path}: not JSON: {told}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: its top level is not an object")
    return tree


def read_yaml(path: Path) -> dict[str, Any]:
    """Keys and values of a YAML file; aliases, with which a few lines hold billions of entries, are refused."""
    text = read_file(path, MOST_YAML_BYTES)
    try:
        depth = 0
        for event in yaml.parse(text):
            # the parser's time grows with the square of the depth
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_YAML_DEPTH:
                raise ValueError("lists or mappings are nested too deeply")
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("aliases (*name) are not read")
        tree = yaml.safe_load(text)
    # a tag such as !!bool before a word lets the loader end in whatever its look-up ends in
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: not keys and values")
    return tree


def read_xml(path: Path) -> Element:
    """The root of an XML file; a document type, which alone can declare entities, is refused in any encoding."""
    data = read_file(path, MOST_XML_BYTES)
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MOST_XML_DEPTH:
            raise ValueError("elements are nested too deeply")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: Any) -> None:
        raise ValueError("a document type or an entity (<!DOCTYPE, <!ENTITY) is not read")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise ValueError(f"{path}: not XML that can be read: {error}") from None
    return builder.close()


def sniff(path: Path) -> bytes:
    """The first and last bytes of a file, from which its kind can be told; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(SNIFFED_BYTES)
            file.seek(max(len(head), os.fstat(file.fileno()).st_size - SNIFFED_BYTES))
            return (head + file.read()).replace(b"\0", b"")  # of UTF-16 what ASCII it holds
    except OSError:
        return b""


def list_files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[PurePosixPath]:
    """Files with these endings below a folder, sorted, relative to it; hidden ones and loops of links are left out.

    ValueError where there are millions.
    """
    found: list[PurePosixPath] = []
    seen: set[str] = set()
    visited = 0
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        relative = Path(place).relative_to(folder)
        if real in seen or len(relative.parts) > MOST_FOLDER_DEPTH:
            folders.clear()
            continue
        seen.add(real)
        visited += len(names)
        if visited > MOST_FILES:
            raise ValueError(f"{folder}: more than {MOST_FILES} files: name the folder of the data alone")
        folders[:] = [name for name in sorted(folders) if not name.startswith((".", "__MACOSX"))]
        found += [
            PurePosixPath(relative.as_posix(), name)
            for name in names
            if name.lower().endswith(suffixes) and not name.startswith(".")
        ]
    yield from sorted(found)


def has_file(folder: Path, suffix: str) -> Path | None:
    """The first file of a folder with this ending, by name; None where there is none, or no folder."""
    if not folder.is_dir():
        return None
    names = sorted(path.name for path in folder.iterdir() if path.name.lower().endswith(suffix))
    return next((folder / name for name in names if not name.startswith(".")), None)


def written_path(text: str) -> PurePosixPath:
    """A path as a tool wrote it, on Windows or elsewhere, without what leads up: only names that lead down are left.

    What is longer than any path names no file; the end of it is left, as the time of readers grows with its square.
    """
    path = PureWindowsPath(text[-LONGEST_PATH:])  # reads both kinds of slashes
    parts = [part for part in path.parts if part not in (path.anchor, "..", ".")]
    return PurePosixPath(*parts)


def split_folder(folder: Path, split: str | None) -> Path | None:
    """The folder of a split (train; valid, val or validation; test) in a folder, or None where there is none."""
    names = SPLIT_FOLDERS.get(split or "", ())
    return next((folder / name for name in names if (folder / name).is_dir()), None)
