"""What a folder of shards holds, as manifest.json states it: labels, digest, shards, and a few numbers of every row."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from maskray.model.config import Config, LabelMap
from maskray.platform.files.storage import absolute_location, is_file, open_folder, read_file, write_whole

MANIFEST_NAME = "manifest.json"


class ShardInfo(Config):
    """One Parquet file: its name in the folder, rows, size and sha256."""

    name: str
    num_rows: int
    bytes: int
    sha256: str


class BadImage(Config):
    """An image that was left out, and why."""

    image_id: int
    file_name: str
    reason: str


class Manifest(Config):
    """A complete folder of shards. The lists have one entry per row, in global row order.

    digest is the sha256 of the source that was sharded; widths and heights are pixels of the original image in the
    frame of its annotations; num_objects counts annotations that are not crowds, and categories are their distinct ids,
    none in manifests of earlier versions. location is where it was read from.
    """

    format: Literal[1] = 1
    labels: LabelMap
    digest: str
    num_images: int
    num_annotations: int
    shards: tuple[ShardInfo, ...]
    image_ids: tuple[int, ...]
    widths: tuple[int, ...]
    heights: tuple[int, ...]
    num_objects: tuple[int, ...]
    categories: tuple[tuple[int, ...], ...] | None = None
    bad_images: tuple[BadImage, ...] = ()
    location: str = Field("", exclude=True)

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        lengths = {"shards": sum(shard.num_rows for shard in self.shards)}
        lengths |= {name: len(getattr(self, name)) for name in ("image_ids", "widths", "heights", "num_objects")}
        if self.categories is not None:
            lengths["categories"] = len(self.categories)
        for name, length in lengths.items():
            if length != self.num_images:
                raise ValueError(f"{name} count {length} rows, num_images is {self.num_images}")
        return self

    @property
    def data_digest(self) -> str:
        """sha256 over the content of all shards: two manifests with the same one hold the same rows."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode()).hexdigest()


def find_manifest(location: str | Path) -> Manifest | None:
    """The manifest of a folder of shards, or None where there is none; ValueError where it is damaged."""
    filesystem, path = open_folder(location)
    file = f"{path}/{MANIFEST_NAME}"
    if not is_file(filesystem, file):
        return None
    try:
        manifest = Manifest.model_validate_json(read_file(filesystem, file))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{location}/{MANIFEST_NAME}: not a manifest: {where} {first['msg']}".rstrip()) from None
    return manifest.model_copy(update={"location": absolute_location(location)})


def read_manifest(location: str | Path) -> Manifest:
    """The manifest of a folder of shards at a path or URI; the path of manifest.json itself will do too.

    ValueError where there is none, it is damaged, or a shard that it names is missing or has another size.
    """
    folder = str(location).removesuffix(f"/{MANIFEST_NAME}")
    manifest = find_manifest(folder)
    if manifest is None:
        raise ValueError(f"{folder}: no {MANIFEST_NAME}: not a folder of shards, or writing it was interrupted")
    check_shards(manifest)
    return manifest


def check_shards(manifest: Manifest) -> None:
    """ValueError naming a shard that is missing or has not the size in bytes that the manifest states."""
    filesystem, path = open_folder(manifest.location)
    infos = filesystem.get_file_info([f"{path}/{shard.name}" for shard in manifest.shards])
    for shard, info in zip(manifest.shards, infos):
        if info.size is None:
            raise ValueError(f"{manifest.location}: shard {shard.name} is missing")
        if info.size != shard.bytes:
            raise ValueError(
                f"{manifest.location}: shard {shard.name} has {info.size} bytes, {shard.bytes} were written: "
                "it is truncated or not ours"
            )


def write_manifest(location: str | Path, manifest: Manifest) -> None:
    """Write manifest.json, whole or not at all."""
    write_whole(f"{str(location).rstrip('/')}/{MANIFEST_NAME}", manifest.model_dump_json())
