"""Parquet shards of a dataset: written in parallel on a Ray cluster, described by manifest.json, read row by row.

A row holds the encoded image as it was, and its annotations as JSON; where images have regions that do not count
(ignore_region), those as JSON too. A global row index counts through the shards in order. manifest.json is written
last, so a folder with one is complete.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from maskray.platform.data.decode import decode_image
from maskray.platform.data.formats.problem import count_codes
from maskray.platform.data.formats.records import CocoDataset, ImageRecord, annotation_dicts
from maskray.platform.data.manifest import (
    MOST_LISTED,
    BadImage,
    LeftOut,
    Manifest,
    ShardInfo,
    find_complete,
    read_manifest,
    write_manifest,
)
from maskray.platform.data.repeats import categories_of
from maskray.platform.data.row_columns import NUMBERS, Categories
from maskray.platform.data.suitability import find_mask_gaps
from maskray.platform.files.storage import open_folder, write_file
from maskray.platform.job.data_config import ROWS_PER_SHARD
from maskray.platform.machine.progress_bar import track
from maskray.platform.machine.ray_cluster import connect
from maskray.platform.machine.ray_tasks import run_tasks

__all__ = ["Manifest", "ShardInfo", "read_manifest", "write_shards"]

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("file_name", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("annotations", pa.binary(), nullable=False),
    ]
)
REGION = pa.field("ignore_region", pa.binary())  # in shards of data that have any
# Training reads rows in the order of a permutation of the whole dataset. One row per group is read in 0.1 ms, of 16
# in 0.27 ms and of 64 in 1.3 ms (150 kB an image); the footer of 256 rows costs 0.7 ms, once per task and shard.
ROWS_PER_GROUP = 1
WRITE_TASK_CPUS = 0.5


def write_shards(
    source: CocoDataset,
    images_folder: str | Path,
    destination: str | Path,
    rows_per_shard: int = ROWS_PER_SHARD,
    max_bad_images: int = 0,
) -> Manifest:
    """Write a dataset as Parquet shards at a path or URI, in parallel on a Ray cluster, and return its manifest.

    Each image is decoded once, so that a truncated one is found here and not in training. Up to max_bad_images
    that cannot be read are left out and listed in the manifest; one more is a ValueError naming them. Where the
    destination is complete and has the same digest nothing is done; another digest is a ValueError. What a killed
    run left half written is replaced. Ray is started on this machine if it is not running.
    """
    if rows_per_shard < 1:
        raise ValueError(f"rows_per_shard must be at least 1, not {rows_per_shard}")
    if not source.images:
        raise ValueError("the annotation file lists no images: nothing to write")
    complete = find_complete(destination, source.digest)
    if complete is not None:
        return complete
    filesystem, path = open_folder(destination)
    filesystem.create_dir(path, recursive=True)
    written = _write_parts(source, str(Path(images_folder).absolute()), str(destination), rows_per_shard)
    bad: list[BadImage] = []
    parts: dict[int, dict[str, Any]] = {}
    for part in written:
        parts[part["index"]] = part
        bad.extend(BadImage(**entry) for entry in json.loads(part["bad"]))
        if len(bad) > max_bad_images:
            shown = "; ".join(f"image {image.image_id} ({image.file_name}): {image.reason}" for image in bad[:5])
            raise ValueError(f"{len(bad)} unreadable images, {max_bad_images} allowed: {shown}")
    if len(bad) == len(source.images):
        raise ValueError(f"all {len(bad)} images are unreadable, such as {bad[0].file_name}: {bad[0].reason}")
    manifest = _describe(source, [parts[index] for index in sorted(parts)], bad)
    write_manifest(destination, manifest)
    return read_manifest(destination)


def _write_parts(source: CocoDataset, images: str, destination: str, rows_per_shard: int) -> Iterator[dict[str, Any]]:
    """Let the cluster write every part; yields a description of each as it is done, in any order.

    The objects of a part are read when its turn comes.
    """
    connect()
    records = source.images
    starts = range(0, len(records), rows_per_shard)
    schema = SCHEMA.append(REGION) if any(record.ignore_region for record in records) else SCHEMA

    def items() -> Iterator[tuple[dict[str, Any], str, str, pa.Schema]]:
        for index, start in enumerate(starts):
            packed = _pack_records(records[start : start + rows_per_shard])
            yield {"index": index, "total": len(starts), "records": packed}, images, destination, schema

    written = (part for _, part in run_tasks(_write_part, items(), WRITE_TASK_CPUS))
    yield from track(written, len(starts), "writing shards")


def _pack_records(records: Sequence[ImageRecord]) -> bytes:
    return json.dumps(
        [[r.image_id, r.file_name, r.width, r.height, annotation_dicts(r), r.ignore_region] for r in records],
        separators=(",", ":"),
    ).encode()


def _write_part(item: dict[str, Any], images: str, destination: str, schema: pa.Schema) -> dict[str, Any]:
    """Read, check and write the images of one shard; runs as a task."""
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    bad: list[dict[str, Any]] = []
    num_objects: list[int] = []
    categories: list[tuple[int, ...]] = []
    num_annotations = 0
    for image_id, file_name, width, height, objects, region in json.loads(item["records"]):
        try:
            data = _read_image(Path(images) / file_name, (width, height))
        except ValueError as error:
            bad.append({"image_id": image_id, "file_name": file_name, "reason": str(error)})
            continue
        texts = [json.dumps(value, separators=(",", ":")).encode() for value in (objects, region)]
        for name, value in zip(schema.names, (image_id, file_name, width, height, data, *texts)):
            columns[name].append(value)
        num_objects.append(sum(not annotation["iscrowd"] for annotation in objects))
        categories.append(categories_of(objects))
        num_annotations += len(objects)
    data = encode_table(pa.table(columns, schema=schema))
    name = f"part-{item['index']:05d}-of-{item['total']:05d}.parquet"
    filesystem, path = open_folder(destination)
    write_file(filesystem, f"{path}/{name}", data)
    return {
        "index": item["index"],
        "bad": json.dumps(bad),
        "info": json.dumps(
            {
                "shard": {
                    "name": name,
                    "num_rows": len(num_objects),
                    "bytes": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                },
                "image_ids": columns["image_id"],
                "widths": columns["width"],
                "heights": columns["height"],
                "num_objects": num_objects,
                "categories": categories,
                "num_annotations": num_annotations,
            }
        ),
    }


def _read_image(path: Path, size: tuple[int, int]) -> bytes:
    if os.path.exists(path) and not path.is_file():  # a device would be read without end
        raise ValueError("it is no file")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ValueError("the file is missing") from None
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}") from None
    decode_image(data, size=size)
    return data


def encode_table(table: Any) -> bytes:
    """A table of rows as the bytes of a shard."""
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        row_group_size=ROWS_PER_GROUP,
        # an image is compressed already, and statistics of it would copy it twice into the footer
        compression={name: "zstd" if name in ("annotations", REGION.name) else "none" for name in table.column_names},
        use_dictionary=False,
        write_statistics=False,
    )
    return buffer.getvalue()


def _describe(source: CocoDataset, parts: Iterable[dict[str, Any]], bad: list[BadImage]) -> Manifest:
    infos = [json.loads(part["info"]) for part in parts]
    rows = {name: np.concatenate([np.array(info[name], np.int64) for info in infos]) for name in NUMBERS}
    return Manifest(
        labels=source.labels,
        digest=source.digest,
        num_images=len(rows["image_ids"]),
        num_annotations=sum(info["num_annotations"] for info in infos),
        shards=tuple(ShardInfo(**info["shard"]) for info in infos),
        bad_images=tuple(sorted(bad, key=lambda image: image.image_id)),
        problems=count_codes(source.problems),
        left_out=_list_left_out(source),
        mask_gaps=find_mask_gaps(source.images),
        categories=Categories(ids for info in infos for ids in info["categories"]),
        **rows,
    )


def _list_left_out(source: CocoDataset) -> tuple[LeftOut, ...]:
    dropped = (problem for problem in source.problems if problem.verdict == "dropped")
    return tuple(
        LeftOut(image_id=problem.image_id, annotation_id=problem.annotation_id, reason=problem.message)
        for problem in itertools.islice(dropped, MOST_LISTED)
    )
