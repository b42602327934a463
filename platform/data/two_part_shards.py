"""Shards in two parts: rows that people have labelled as they are, and rows with the labels of a model behind them.

Training tells the parts by Manifest.num_labelled (mixing.py). Shards of the first part are second names of the same
files where the disk allows it, else copies; those of the second are written anew with their labels, by tasks of Ray.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from maskray.platform.data.formats.json_values import LARGEST_ID
from maskray.platform.data.formats.records import ImageRecord, annotation_dicts
from maskray.platform.data.manifest import (
    Manifest,
    ShardInfo,
    find_complete,
    read_manifest,
    write_manifest,
)
from maskray.platform.data.repeats import categories_of, image_categories
from maskray.platform.data.row_columns import NUMBERS, Categories
from maskray.platform.data.shards import SCHEMA, WRITE_TASK_CPUS, encode_table
from maskray.platform.data.suitability import find_mask_gaps
from maskray.platform.files.storage import open_folder, read_file, write_file
from maskray.platform.machine.progress_bar import track
from maskray.platform.machine.ray_tasks import run_tasks


@dataclass(frozen=True)
class Labelled:
    """Images with the labels that a model has given them, by their ids in the shards they lie in.

    digest is that of all the labels.
    """

    images: Sequence[ImageRecord]
    digest: str


def write_two_parts(people: Manifest, unlabelled: Manifest, model: Labelled, destination: Path) -> Manifest:
    """Write both parts to a folder and return their manifest; nothing is done where they are there already.

    Rows of `unlabelled` whose image is not among model.images are left out; the ids of the others follow the largest id
    of the first part. manifest.json is written last; Ray must be connected. ValueError where the folder holds other
    data, a shard cannot be read, or no id is left.
    """
    digest = hashlib.sha256(f"{people.digest} {people.data_digest} {model.digest}".encode()).hexdigest()
    complete = find_complete(destination, digest)
    if complete is not None:
        return complete
    destination.mkdir(parents=True, exist_ok=True)
    first = [_copy_shard(people, shard, destination) for shard in track(people.shards, len(people.shards), "linking")]
    second = _write_second(people, unlabelled, model, destination)
    manifest = _describe(people, unlabelled, model, first, second, digest)
    write_manifest(destination, manifest)
    return read_manifest(destination)


def _copy_shard(manifest: Manifest, shard: ShardInfo, destination: Path) -> ShardInfo:
    """A shard under another name in the destination."""
    filesystem, folder = open_folder(manifest.location)
    name = f"people-{shard.name}"
    source, target = Path(folder, shard.name), destination / name
    target.unlink(missing_ok=True)
    if "://" in manifest.location:
        write_file(open_folder(destination)[0], str(target), read_file(filesystem, str(source)))
        return shard.model_copy(update={"name": name})
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        partial = target.with_name(f".{name}.partial")
        shutil.copyfile(source, partial)
        partial.replace(target)
    return shard.model_copy(update={"name": name})


def _write_second(
    people: Manifest, unlabelled: Manifest, model: Labelled, destination: Path
) -> list[tuple[ShardInfo, list[int]]]:
    """The shards of the second part, and the ids that their rows had, in the order of the shards."""
    largest = int(people.image_ids.max(initial=0))
    if largest > LARGEST_ID - unlabelled.num_images:
        raise ValueError(f"{people.location}: image id {largest} leaves no larger ones for further images")
    records = {record.image_id: record for record in model.images}

    def items() -> Iterator[tuple[str, str, dict[int, ImageRecord], str]]:
        row = 0
        for shard in unlabelled.shards:
            ids = unlabelled.image_ids[row : row + shard.num_rows].tolist()
            new = {
                id: _renamed(records[id], largest + 1 + row + place) for place, id in enumerate(ids) if id in records
            }
            row += shard.num_rows
            if new:
                yield unlabelled.location, shard.name, new, str(destination)

    written = track(
        run_tasks(_write_shard, items(), WRITE_TASK_CPUS), len(unlabelled.shards), "writing labels into shards"
    )
    return [shard for _, shard in sorted(written, key=itemgetter(0))]


def _renamed(record: ImageRecord, image_id: int) -> ImageRecord:
    return ImageRecord(image_id, record.file_name, record.width, record.height, record.annotations)


def _write_shard(
    location: str, name: str, records: Mapping[int, ImageRecord], destination: str
) -> tuple[ShardInfo, list[int]]:
    """Write the rows of a shard that have a record, with its id and annotations; runs as a task."""
    filesystem, folder = open_folder(location)
    try:
        table = pq.read_table(f"{folder}/{name}", filesystem=filesystem).select(SCHEMA.names)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{location}/{name}: cannot be read: {' '.join(str(error).split())}") from None
    ids = table["image_id"].to_pylist()
    table = table.filter(pa.array([id in records for id in ids]))
    kept = [id for id in ids if id in records]
    columns = {
        "image_id": [records[id].image_id for id in kept],
        "annotations": [_annotations(records[id]) for id in kept],
    }
    for column, values in columns.items():
        at = SCHEMA.get_field_index(column)
        table = table.set_column(at, SCHEMA.field(at), pa.array(values, SCHEMA.field(at).type))
    data = encode_table(table.cast(SCHEMA))
    target = f"model-{name}"
    filesystem, folder = open_folder(destination)
    write_file(filesystem, f"{folder}/{target}", data)
    digest = hashlib.sha256(data).hexdigest()
    return ShardInfo(name=target, num_rows=len(kept), bytes=len(data), sha256=digest), kept


def _annotations(record: ImageRecord) -> bytes:
    return json.dumps(annotation_dicts(record), separators=(",", ":")).encode()


def _describe(
    people: Manifest,
    unlabelled: Manifest,
    model: Labelled,
    first: Sequence[ShardInfo],
    second: Sequence[tuple[ShardInfo, Collection[int]]],
    digest: str,
) -> Manifest:
    records = {record.image_id: record for record in model.images}
    kept = [records[id] for _, ids in second for id in ids]
    is_kept = np.isin(unlabelled.image_ids, [record.image_id for record in kept])
    largest = int(people.image_ids.max(initial=0))
    rows = {
        "image_ids": largest + 1 + np.flatnonzero(is_kept),
        "widths": unlabelled.widths[is_kept],
        "heights": unlabelled.heights[is_kept],
        "num_objects": np.array([len(record.annotations) for record in kept], dtype=np.int64),
    }
    categories = [*image_categories(people), *(categories_of(annotation_dicts(record)) for record in kept)]
    gaps, ours = people.mask_gaps, find_mask_gaps(kept)
    if gaps is not None:
        gaps = gaps.model_copy(
            update={
                "objects": gaps.objects + ours.objects,
                "first_object": gaps.first_object or ours.first_object,
            }
        )
    return Manifest(
        labels=people.labels,
        digest=digest,
        num_images=people.num_images + len(kept),
        num_annotations=people.num_annotations + sum(len(record.annotations) for record in kept),
        shards=(*first, *(shard for shard, _ in second)),
        bad_images=people.bad_images,
        problems=people.problems,
        left_out=people.left_out,
        mask_gaps=gaps,
        num_labelled=people.num_images,
        categories=Categories(categories),
        **{name: np.concatenate([np.asarray(getattr(people, name), np.int64), rows[name]]) for name in NUMBERS},
    )
