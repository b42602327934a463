"""Files at a local path or at any file-system URI of pyarrow (s3://, gs://, hdfs://, file://), written whole or not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from maskray.platform.files.atomic import replaced_file


def open_folder(location: str | Path) -> tuple[Any, str]:
    """The pyarrow file system of a path or URI and the folder's path on it; ValueError where none fits the URI."""
    text = str(location)
    if "://" not in text:
        return fs.LocalFileSystem(), os.path.abspath(text)
    try:
        filesystem, path = fs.FileSystem.from_uri(text)
    except (pa.ArrowException, OSError, ImportError) as error:
        raise ValueError(f"{text}: no file system for this URI: {' '.join(str(error).split())}") from None
    return filesystem, path.rstrip("/")


def absolute_location(location: str | Path) -> str:
    """A path made absolute, so that processes with other working directories find it; a URI as it is."""
    text = str(location)
    return text.rstrip("/") if "://" in text else os.path.abspath(text)


def is_file(filesystem: Any, path: str) -> bool:
    """Whether a file stands at a path."""
    return bool(filesystem.get_file_info(path).type == fs.FileType.File)


def read_file(filesystem: Any, path: str) -> bytes:
    """The bytes of a file."""
    with filesystem.open_input_stream(path) as stream:
        return bytes(stream.read())


def write_whole(location: str | Path, content: str | bytes) -> None:
    """Write one file at a path or URI, text as UTF-8, whole or not at all."""
    filesystem, path = open_folder(location)
    write_file(filesystem, path, content.encode() if isinstance(content, str) else content)


def write_file(filesystem: Any, path: str, data: bytes) -> None:
    """Write a file so that it stands whole at its name or not at all: under another name, on disk, then renamed.

    An object store shows an upload only when it is complete, so there the detour is not taken.
    """
    if not isinstance(filesystem, fs.LocalFileSystem):
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)
        return
    with replaced_file(path) as temporary:
        temporary.write_bytes(data)
