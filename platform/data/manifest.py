"""What a folder of shards holds, as manifest.json states it: labels, digest, shards, and a few numbers of every row.

The numbers of the rows stand in a file of their own beside it (row_columns.py), in manifests of earlier versions in the
same JSON.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator
from pydantic_core import from_json

from maskray.model.config import Config, LabelMap
from maskray.platform.data.row_columns import (
    NUMBERS,
    ROWS_NAME,
    Numbers,
    RowCategories,
    encode_columns,
    read_columns,
)
from maskray.platform.files.storage import absolute_location, is_file, open_folder, read_file, write_file

MANIFEST_NAME = "manifest.json"
MOST_LISTED = 1000


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


class LeftOut(Config):
    """An annotation that could not be read, and why; the id is None where it has none."""

    image_id: int | None
    annotation_id: int | None
    reason: str


class MaskGaps(Config):
    """Objects without a segmentation: how many that are no crowds, how many crowds, and where the first of each is."""

    objects: int
    crowds: int
    first_object: str = ""
    first_crowd: str = ""


class Manifest(Config):
    """A complete folder of shards. The columns have one entry per row, in global row order.

    digest is the sha256 of the source that was sharded; widths and heights are pixels of the original image in the
    frame of its annotations; num_objects counts annotations that are not crowds, and categories are their distinct ids,
    none in manifests of earlier versions. problems counts what was odd in the source by code (VERDICTS of
    formats/problem.py), left_out lists what was dropped of it, up to MOST_LISTED; mask_gaps is None in shards that are
    older than it. num_labelled says of shards in two parts, as distillation makes them, how many rows people have
    labelled: they come first, and a model has labelled the others. rows is the file of the columns, None where they
    stood in the JSON. location is where it was read from.
    """

    format: Literal[1, 2] = 2
    labels: LabelMap
    digest: str
    num_images: int
    num_annotations: int
    shards: tuple[ShardInfo, ...]
    image_ids: Numbers
    widths: Numbers
    heights: Numbers
    num_objects: Numbers
    categories: RowCategories | None = None
    bad_images: tuple[BadImage, ...] = ()
    problems: dict[str, int] = Field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    mask_gaps: MaskGaps | None = None
    num_labelled: int | None = Field(None, ge=0)
    rows: ShardInfo | None = None
    location: str = Field("", exclude=True)

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        lengths = {"shards": sum(shard.num_rows for shard in self.shards)}
        lengths |= {name: len(getattr(self, name)) for name in NUMBERS}
        if self.categories is not None:
            lengths["categories"] = len(self.categories)
        for name, length in lengths.items():
            if length != self.num_images:
                raise ValueError(f"{name} count {length} rows, num_images is {self.num_images}")
        if self.num_labelled is not None and self.num_labelled > self.num_images:
            raise ValueError(f"num_labelled is {self.num_labelled}, num_images is {self.num_images}")
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Manifest):
            return NotImplemented
        ours, theirs = ({k: v for k, v in m.__dict__.items() if k not in NUMBERS} for m in (self, other))
        return ours == theirs and all(np.array_equal(getattr(self, name), getattr(other, name)) for name in NUMBERS)

    __hash__ = None  # type: ignore[assignment]  # arrays have none

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
        manifest = Manifest.model_validate(_read_tree(filesystem, file))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{location}/{MANIFEST_NAME}: not a manifest: {where} {first['msg']}".rstrip()) from None
    return manifest.model_copy(update={"location": absolute_location(location)})


def find_complete(folder: str | Path, digest: str) -> Manifest | None:
    """The manifest of a folder whose shards are all there and of this digest, None without a manifest.

    ValueError where they are of other data, or not as they were written.
    """
    manifest = find_manifest(folder)
    if manifest is None:
        return None
    if manifest.digest != digest:
        raise ValueError(f"{folder}: holds shards of other data; give another folder or delete this one")
    check_shards(manifest)
    return manifest


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


def _read_tree(filesystem: Any, file: str) -> Any:
    """What manifest.json and the file of the columns say together; ValueError naming the file that is damaged."""
    try:
        tree = from_json(read_file(filesystem, file))
    except ValueError as error:
        raise ValueError(f"{file}: not a manifest: {error}") from None
    if not isinstance(tree, dict) or tree.get("rows") is None:
        return tree
    rows = ShardInfo.model_validate(tree["rows"])
    path = f"{file.removesuffix(MANIFEST_NAME)}{ROWS_NAME}"
    (info,) = filesystem.get_file_info([path])
    if info.size != rows.bytes:
        found = "is missing" if info.size is None else f"has {info.size} bytes, {rows.bytes} were written"
        raise ValueError(f"{path}: {found}: the manifest beside it is of no use without")
    try:
        return tree | read_columns(filesystem, path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_manifest(location: str | Path, manifest: Manifest) -> None:
    """Write manifest.json behind the file of its columns, each whole or not at all."""
    filesystem, path = open_folder(location)
    data = encode_columns({name: getattr(manifest, name) for name in NUMBERS}, manifest.categories)
    digest = hashlib.sha256(data).hexdigest()
    rows = ShardInfo(name=ROWS_NAME, num_rows=manifest.num_images, bytes=data.size, sha256=digest)
    described = manifest.model_copy(update={"rows": rows})
    write_file(filesystem, f"{path}/{ROWS_NAME}", data)
    text = described.model_dump_json(exclude={*NUMBERS, "categories"})
    write_file(filesystem, f"{path}/{MANIFEST_NAME}", text.encode())
