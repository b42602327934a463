"""Claim: from a store where a request takes 30 ms, data.order: windowed reads an epoch with far fewer requests.

An epoch of 100 shards of photographs is read as the tasks of training read it, one task after the other, from a store
that speaks S3 on this machine and waits before each answer (slow_store.py). Beside both orders stands what reading a
row at a time costs, of which the first images are timed. The rows that the two orders give are asserted to be the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

from slow_store import slow_store, store_uri

from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.data.formats.records import CocoDataset
from maskray.platform.data.manifest import Manifest, read_manifest
from maskray.platform.data.partners import Partners, read_planned
from maskray.platform.data.row_reader import RowReader, _read_footer
from maskray.platform.data.shards import write_shards
from maskray.platform.data.stream import IMAGES_PER_READ_TASK, BatchPlan, _plan_table
from maskray.platform.job.config import JobConfig

IMAGES_PER_BATCH = 16


def repeated(dataset: CocoDataset, number: int) -> CocoDataset:
    """A data set of so many images, the photographs over and over under new ids."""
    images = itertools.islice(itertools.cycle(dataset.images), number)
    renamed = tuple(dataclasses.replace(image, image_id=index) for index, image in enumerate(images))
    return dataclasses.replace(dataset, images=renamed)


def plan_of(manifest: Manifest, order: str, window: int) -> BatchPlan:
    source = {"kind": "shards", "path": "."}
    job = JobConfig.model_validate(
        {
            "name": "benchmark",
            "data": {"train": source, "val": source, "order": order, "shuffle_window": window},
            "train": {"steps": 10**6, "images_per_batch": IMAGES_PER_BATCH},
            "resources": {"num_workers": 1},
        }
    )
    return BatchPlan(manifest, job.stream, 0, 1)


def read_epoch(manifest: Manifest, order: str, window: int) -> tuple[float, set[int]]:
    """Images per second of an epoch, and the ids that were read."""
    plan, partners = plan_of(manifest, order, window), Partners(0, manifest.num_images, 0.0)
    numbers = range(manifest.num_images // IMAGES_PER_BATCH)
    _read_footer.cache_clear()
    ids: list[int] = []
    started = time.perf_counter()
    for some in plan.tasks(numbers, IMAGES_PER_READ_TASK):
        ids += read_planned(_plan_table(plan, some), RowReader(manifest), partners)["image_id"].to_pylist()
    return len(ids) / (time.perf_counter() - started), set(ids)


def read_rows_alone(manifest: Manifest, number: int) -> float:
    """Images per second of the first images of the permutation, a row at a time."""
    plan, reader = plan_of(manifest, "permutation", 1), RowReader(manifest)
    _read_footer.cache_clear()
    started = time.perf_counter()
    for batch in range(number // IMAGES_PER_BATCH):
        for row in plan.rows(batch)[1]:
            reader.read(int(row))
    return number / (time.perf_counter() - started)


def show(name: str, rate: float, images: int, counts: Counter[str]) -> None:
    print(
        f"{name:<30} {rate:>9.1f} {counts['requests'] / images:>15.3f} {counts['bytes'] / images / 1e3:>12.1f}",
        flush=True,
    )
    counts.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", required=True, help="COCO annotation file")
    parser.add_argument("--images", required=True, help="folder of its photographs")
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--rows", type=int, default=32, help="of a shard")
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--milliseconds", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = repeated(read_dataset(options.annotations, options.images), options.shards * options.rows)
        written = write_shards(dataset, options.images, Path(folder) / "bucket" / "shards", options.rows)
        size = sum(shard.bytes for shard in written.shards) / written.num_images
        print(f"{len(written.shards)} shards of {options.rows} rows of {size / 1e3:.0f} kB; {IMAGES_PER_BATCH} a batch")
        print(f"{options.milliseconds:g} ms a request; windows of {options.window} rows")
        print(f"{'order':<30} {'images/s':>9} {'requests/image':>15} {'kB/image':>12}")
        with slow_store(Path(folder), options.milliseconds / 1000) as (address, counts):
            manifest = read_manifest(store_uri(address, "bucket/shards"))
            counts.clear()
            show("permutation, a row at a time", read_rows_alone(manifest, 256), 256, counts)
            mixed, mixed_ids = read_epoch(manifest, "permutation", options.window)
            show("permutation", mixed, manifest.num_images, counts)
            rate, ids = read_epoch(manifest, "windowed", options.window)
            show("windowed", rate, manifest.num_images, counts)
            assert ids == mixed_ids
            print(f"windowed is {rate / mixed:.2f} times the permutation")


if __name__ == "__main__":
    main()
