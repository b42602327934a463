"""Which pictures of one data set are in another too: the same bytes, or a file of the same name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from maskray.platform.data.formats.coco import read_image_entries
from maskray.platform.data.formats.reading import is_small, read_files
from maskray.platform.data.manifest import Manifest, read_manifest
from maskray.platform.data.preparation import ReadSource
from maskray.platform.data.unlabelled import list_images
from maskray.platform.files.storage import open_folder
from maskray.platform.job.data_config import (
    FilesSource,
    ImagesSource,
    ShardSource,
    SyntheticSource,
    UnlabelledSource,
)
from maskray.platform.machine.progress_bar import track

MOST_LISTED = 10


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture: its name in its data set, its size in bytes (-1 where the file is missing) and where its bytes are.

    digest is the SHA-256 of the bytes where they are in no file of their own.
    """

    name: str
    size: int
    path: Path | None = None
    digest: str | None = None


def pictures_of(read: ReadSource) -> list[Picture]:
    """The pictures of a source that was read, in its order; those of shards are read whole."""
    if read.dataset is not None:
        return pictures_of_files([image.file_name for image in read.dataset.images], Path(read.images))
    assert read.manifest is not None
    return pictures_of_shards(read.manifest)


def pictures_known_early(source: UnlabelledSource, most_bytes: int | None = None) -> list[Picture] | None:
    """The pictures of a source before it is read whole, or drawn: none of synthetic ones, which are like no others.

    None where annotations, or shards, are not here or have more bytes than that. ValueError where they are damaged.
    """
    if isinstance(source, SyntheticSource):
        return []
    if isinstance(source, ImagesSource):
        return pictures_of_files(*list_images(source)) if Path(source.path).exists() else None
    if isinstance(source, ShardSource):
        if "://" not in source.path and not Path(source.path).is_dir():
            return None
        manifest = read_manifest(source.path)
        size = sum(shard.bytes for shard in manifest.shards)
        return None if most_bytes is not None and size > most_bytes else pictures_of_shards(manifest)
    if isinstance(source, FilesSource):
        if not Path(source.path).exists() or (most_bytes is not None and not is_small(source)):
            return None
        found = read_files(source)
        return pictures_of_files(_names(found.tree["images"]), found.images)
    path = Path(source.annotations)
    if not path.is_file() or (most_bytes is not None and path.stat().st_size > most_bytes):
        return None
    return pictures_of_files(_names(read_image_entries(path)), Path(source.images))


def _names(entries: Any) -> list[str]:
    """File names in the list of images of a COCO file; what is wrong with others is told by who reads it."""
    named = (entry.get("file_name") for entry in entries or () if isinstance(entry, dict))
    return [name for name in named if isinstance(name, str)]


def pictures_of_files(names: Sequence[str], folder: Path) -> list[Picture]:
    """Those of files in a folder, of which only the sizes are looked at."""
    found = []
    for name in names:
        try:
            size = (folder / name).stat().st_size
        except (OSError, ValueError):
            size = -1
        found.append(Picture(name, size, folder / name))
    return found


def pictures_of_shards(manifest: Manifest) -> list[Picture]:
    """Those of all rows; ValueError naming a shard that cannot be read."""
    filesystem, folder = open_folder(manifest.location)
    found = []
    for shard in track(manifest.shards, len(manifest.shards), "comparing pictures"):
        try:
            file = pq.ParquetFile(f"{folder}/{shard.name}", filesystem=filesystem)
            for batch in file.iter_batches(batch_size=64, columns=["file_name", "image"]):
                for name, data in zip(batch["file_name"].to_pylist(), batch["image"].to_pylist(), strict=True):
                    found.append(Picture(name, len(data), digest=hashlib.sha256(data).hexdigest()))
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{manifest.location}/{shard.name}: cannot be read: {reason}") from None
    return found


def find_same(pictures: Sequence[Picture], others: Sequence[Picture], by_name: bool) -> list[int]:
    """Positions of the pictures that are among the others too, rising: of the same bytes, or of the same file name.

    by_name says whether a name alone will do: the last part of it, capital letters or not. Only files of one size are
    read.
    """
    names = {_file_name(other.name) for other in others} if by_name else set()
    sizes = {other.size for other in others if other.size >= 0} & {one.size for one in pictures}
    compared = [other for other in others if other.size in sizes]
    digests = {_digest(other) for other in track(compared, len(compared), "comparing pictures")}
    found = []
    for index, one in enumerate(track(pictures, len(pictures), "comparing pictures")):
        if _file_name(one.name) in names or (one.size in sizes and _digest(one) in digests):
            found.append(index)
    return found


def list_names(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are, for a message."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return f"{', '.join(names[:MOST_LISTED])}{more}"


def _file_name(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name.casefold()


def _digest(picture: Picture) -> str:
    """SHA-256 of the bytes; of a file that cannot be read its path, which is that of no other."""
    if picture.digest is not None:
        return picture.digest
    assert picture.path is not None
    try:
        with picture.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return str(picture.path)
