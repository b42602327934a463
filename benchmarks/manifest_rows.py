"""Claim: a rank reads the manifest of 10 million rows and plans its first batch within 5 s and 600 MB more.

The peer is what manifests were before: the same numbers in JSON, read by pydantic to tuples. Each runs in a process of
its own, by turns; seconds are CPU time of the process, memory is its peak, beyond what it has after its imports.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from maskray.platform.data.manifest import Manifest, read_manifest, write_manifest
from maskray.platform.data.row_columns import NUMBERS, Categories
from maskray.platform.data.stream import BatchPlan
from maskray.platform.job.config import JobConfig

SECONDS, MEGABYTES = 5.0, 600.0
READERS = ("columns", "tuples")


def peak_mb() -> float:
    """Of this process alone: what getrusage tells includes the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def make_manifest(folder: Path, rows: int, rows_per_shard: int) -> None:
    """A manifest of so many rows whose shards are empty files, and its numbers as JSON."""
    generator = np.random.default_rng(0)
    sizes = [min(rows_per_shard, rows - start) for start in range(0, rows, rows_per_shard)]
    names = [f"part-{number:05d}.parquet" for number in range(len(sizes))]
    for name in names:
        (folder / name).touch()
    columns = {
        "image_ids": np.arange(1, rows + 1),
        "widths": generator.integers(300, 1000, rows),
        "heights": generator.integers(300, 1000, rows),
        "num_objects": generator.integers(0, 20, rows),
    }
    manifest = Manifest.model_validate(
        {
            "labels": {"categories": [{"id": 1, "name": "a"}]},
            "digest": "d",
            "num_images": rows,
            "num_annotations": int(columns["num_objects"].sum()),
            "shards": [{"name": n, "num_rows": size, "bytes": 0, "sha256": "0" * 64} for n, size in zip(names, sizes)],
            "categories": Categories([(1,)] * rows),
            **columns,
        }
    )
    write_manifest(folder, manifest)
    (folder / "tuples.json").write_text(json.dumps({name: columns[name].tolist() for name in NUMBERS}))


def run_one(reader: str, folder: str) -> None:
    imported, started = peak_mb(), time.process_time()
    if reader == "tuples":
        from pydantic import TypeAdapter

        found = TypeAdapter(dict[str, tuple[int, ...]]).validate_json((Path(folder) / "tuples.json").read_bytes())
        assert len(found["image_ids"]) > 0
        read = time.process_time()
    else:
        manifest = read_manifest(folder)
        read = time.process_time()
        source = {"kind": "shards", "path": folder}
        job = JobConfig.model_validate(
            {
                "name": "benchmark",
                "data": {"train": source, "val": source},
                "train": {"steps": 1000, "images_per_batch": 16},
            }
        )
        assert len(BatchPlan(manifest, job.stream, 0, 1).rows(7)[1]) == 16
    figures = {"read": read - started, "plan": time.process_time() - read, "imported": imported, "peak": peak_mb()}
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rows-per-shard", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=READERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return run_one(options.one, options.folder)
    found: dict[str, list[dict[str, float]]] = {reader: [] for reader in READERS}
    with tempfile.TemporaryDirectory() as folder:
        make_manifest(Path(folder), options.rows, options.rows_per_shard)
        for _ in range(options.rounds):
            for reader in READERS:
                command = [sys.executable, __file__, "--one", reader, "--folder", folder]
                found[reader].append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    print(f"{options.rows} rows in shards of {options.rows_per_shard}")
    print(f"{'reader':<10} {'read s':>8} {'plan s':>8} {'imports MB':>11} {'peak MB':>9}")
    medians = {
        reader: {key: statistics.median(figures[key] for figures in found[reader]) for key in found[reader][0]}
        for reader in READERS
    }
    for reader, of in medians.items():
        print(f"{reader:<10} {of['read']:>8.2f} {of['plan']:>8.2f} {of['imported']:>11.0f} {of['peak']:>9.0f}")
    ours = medians["columns"]
    seconds = ours["read"] + ours["plan"]
    print(f"{seconds:.2f} s, goal {SECONDS:g} {'reached' if seconds <= SECONDS else 'not reached'}")
    memory = ours["peak"] - ours["imported"]
    print(f"{memory:.0f} MB, goal {MEGABYTES:g} {'reached' if memory <= MEGABYTES else 'not reached'}")
    return None


if __name__ == "__main__":
    main()
