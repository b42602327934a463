"""Images per second of training input: Ray Data with both ways of decoding, against torch's DataLoader."""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import ray
import torch

from maskray.model.structures import Batch
from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.data.manifest import Manifest
from maskray.platform.data.row_reader import RowReader
from maskray.platform.data.shards import write_shards
from maskray.platform.data.stream import BatchPlan, build_samples, local_batches, train_batches
from maskray.platform.data.synthetic.dataset import synthesize
from maskray.platform.job.config import JobConfig


class PlannedBatches(torch.utils.data.Dataset[Batch]):
    """The peer: the same batches for a DataLoader, whose workers read, decode and collate."""

    def __init__(self, manifest: Manifest, job: JobConfig) -> None:
        self._manifest, self._job = manifest, job
        self._reader: RowReader | None = None

    def __len__(self) -> int:
        return self._job.train.num_steps

    def __getitem__(self, step: int) -> Batch:
        from maskray.platform.data.batch import collate

        if self._reader is None:
            self._reader = RowReader(self._manifest)
            self._plan = BatchPlan(self._manifest, self._job.stream, 0, 1)
            self._builder = build_samples(self._manifest, self._job.stream)
        draws, rows = self._plan.rows(step)
        return collate(
            [self._builder.build(self._reader.read(int(row)), int(draw)) for draw, row in zip(draws, rows)],
            self._builder.model.backbone.size_divisor,
        )


def make_job(manifest: Manifest, shorter_edge: int, decode: str, steps: int) -> JobConfig:
    source = {"kind": "shards", "path": manifest.location}
    return JobConfig.model_validate(
        {
            "name": "benchmark",
            "data": {"train": source, "val": source, "decode": decode},
            "input": {"shorter_edge": shorter_edge, "longer_edge_max": 2 * shorter_edge},
            "train": {"steps": steps, "images_per_batch": 4},
            "resources": {"num_workers": 1},
        }
    )


def measure(batches: Iterator[Batch], steps: int) -> tuple[float, float]:
    """Seconds to the first batch, and images per second of the others."""
    started = time.perf_counter()
    next(batches)
    first = time.perf_counter()
    images = sum(len(batch.images) for batch in itertools.islice(batches, steps - 1))
    return first - started, images / (time.perf_counter() - first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", help="COCO annotation file; without, synthetic images are drawn")
    parser.add_argument("--images", help="folder of its images")
    parser.add_argument("--shorter-edge", type=int, default=320)
    parser.add_argument("--steps", type=int, default=120)
    options = parser.parse_args()
    torch.set_num_threads(1)  # as a training worker with one CPU has it, and each worker of a DataLoader
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=1_000_000_000, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        if options.annotations is None:
            paths = synthesize(Path(folder) / "pictures", 64, seed=0, height=480, width=640)
            options.annotations, options.images = str(paths.annotations), str(paths.images)
        dataset = read_dataset(options.annotations, options.images)
        manifest = write_shards(dataset, options.images, Path(folder) / "shards", rows_per_shard=32)
        job = make_job(manifest, options.shorter_edge, "collate", options.steps)
        loader = torch.utils.data.DataLoader(
            PlannedBatches(manifest, job), batch_size=None, num_workers=2, multiprocessing_context="spawn"
        )
        peers = {
            "Ray Data, decode: collate": lambda: train_batches(manifest, job.stream, 0, 1, 0),
            "Ray Data, decode: map": lambda: train_batches(
                manifest, make_job(manifest, options.shorter_edge, "map", options.steps), 0, 1, 0
            ),
            "torch DataLoader, 2 workers": lambda: iter(loader),
            "this thread alone": lambda: local_batches(manifest, job.stream, 0, 1, 0),
        }
        print(f"{manifest.num_images} images, shorter edge {options.shorter_edge}, 4 a batch, {os.cpu_count()} cores")
        print(f"{'input':<30} {'first batch s':>14} {'images/s':>10}")
        for name, start in peers.items():
            batches = start()
            first, rate = measure(batches, options.steps)
            print(f"{name:<30} {first:>14.2f} {rate:>10.1f}", flush=True)
            del batches
    ray.shutdown()


if __name__ == "__main__":
    main()
