"""Claim: input by Ray Data makes at least 1.3 times the images per second of torch's DataLoader with torchvision.

Both read the same photographs, resize them to the same sizes, flip half of them, and hand out padded uint8 batches
with boxes and, where asked for, masks. The peer is as fast as torchvision lets it be: files read whole, its own JPEG
decoder, uint8 all the way, v2 transforms on tv_tensors, and masks drawn by pycocotools. Every input runs in a process
of its own, by turns; figures are medians of the rounds. CPU is that of all processes together, so other programs move
it less.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torchvision import tv_tensors
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2

from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.data.formats.records import ImageRecord, annotation_dicts
from maskray.platform.data.manifest import read_manifest
from maskray.platform.data.shards import write_shards
from maskray.platform.data.stream import local_batches, train_batches
from maskray.platform.job.config import JobConfig

GOAL = 1.3
INPUTS = ("ray", "torch", "thread")
NAMES = {"ray": "Ray Data", "torch": "DataLoader, torchvision v2", "thread": "maskray, one thread"}
IMAGES_PER_BATCH, DIVISOR = 4, 32


class Photographs(torch.utils.data.Dataset[dict[str, Any]]):
    """The peer's data set: photographs with boxes, labels and masks as torchvision's own CocoDetection has them."""

    def __init__(self, records: list[ImageRecord], folder: Path, edge: int, masks: bool) -> None:
        self._folder, self._masks = folder, masks
        self._entries = [(record.file_name, annotation_dicts(record)) for record in records]
        self._transform = v2.Compose(
            [v2.RandomShortestSize([edge], max_size=2 * edge), v2.RandomHorizontalFlip(0.5), v2.SanitizeBoundingBoxes()]
        )

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name, annotations = self._entries[index]
        data = np.fromfile(self._folder / name, np.uint8)
        image = tv_tensors.Image(decode_jpeg(torch.from_numpy(data), ImageReadMode.RGB))
        size = (image.shape[1], image.shape[2])
        kept = [annotation for annotation in annotations if not annotation["iscrowd"]]
        boxes = torch.tensor([annotation["bbox"] for annotation in kept], dtype=torch.float32).reshape(-1, 4)
        target: dict[str, Any] = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYWH", canvas_size=size),
            "labels": torch.tensor([annotation["category_id"] for annotation in kept], dtype=torch.int64),
        }
        if self._masks:
            drawn = [_draw(annotation["segmentation"], size) for annotation in kept]
            target["masks"] = tv_tensors.Mask(torch.from_numpy(np.stack(drawn) if drawn else np.zeros((0, *size))))
        image, target = self._transform(image, target)
        return target | {"image": image}


def _draw(segmentation: Any, size: tuple[int, int]) -> Any:
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, *size)
    return coco_mask.decode(segmentation)


def pad(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """The peer's collation: images padded to one uint8 batch, targets as a list."""
    height, width = (-(-max(sample["image"].shape[side] for sample in samples) // DIVISOR) * DIVISOR for side in (1, 2))
    images = torch.zeros((len(samples), 3, height, width), dtype=torch.uint8)
    for padded, sample in zip(images, samples):
        image = sample.pop("image")
        padded[:, : image.shape[1], : image.shape[2]] = image
    return {"images": images, "targets": samples}


def torch_batches(records: list[ImageRecord], folder: Path, edge: int, masks: bool, cores: int) -> Iterator[Any]:
    """Endless batches of the peer."""
    loader = torch.utils.data.DataLoader(
        Photographs(records, folder, edge, masks),
        batch_size=IMAGES_PER_BATCH,
        sampler=torch.utils.data.RandomSampler(records, num_samples=10**7),
        num_workers=cores,
        collate_fn=pad,
        prefetch_factor=3,
    )
    for batch in loader:
        yield batch["images"]


def make_job(shards: str, edge: int, masks: bool, decode: str, cores: int) -> JobConfig:
    source = {"kind": "shards", "path": shards}
    return JobConfig.model_validate(
        {
            "name": "benchmark",
            "data": {"train": source, "val": source, "decode": decode},
            "input": {"shorter_edge": edge, "longer_edge_max": 2 * edge},
            "model": {"masks": masks},
            "train": {"steps": 10**6, "images_per_batch": IMAGES_PER_BATCH},
            "resources": {"num_workers": 1, "cpus_per_worker": cores},
        }
    )


def cpu_seconds() -> float:
    """User and system time of this process and all below it, those that have ended too."""
    parents, times = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                parents[int(entry)], times[int(entry)] = int(fields[1]), sum(map(int, fields[11:15]))
    family = {os.getpid()}
    while found := {pid for pid, parent in parents.items() if parent in family and pid not in family}:
        family |= found
    return sum(times.get(pid, 0) for pid in family) / os.sysconf("SC_CLK_TCK")


def measure(batches: Iterator[torch.Tensor], seconds: float) -> dict[str, float]:
    """Images per second and CPU milliseconds an image, after the first batches have come."""
    for _ in itertools.islice(batches, 30):
        pass
    started, used, images = time.perf_counter(), cpu_seconds(), 0
    while time.perf_counter() - started < seconds:
        images += len(next(batches))
    return {
        "rate": images / (time.perf_counter() - started),
        "cpu": 1000 * (cpu_seconds() - used) / images,
    }


def run_one(options: argparse.Namespace) -> None:
    """Measure one input in this process and print its figures as JSON."""
    torch.set_num_threads(1)  # as in each worker of a DataLoader
    if options.one == "torch":
        dataset = read_dataset(options.annotations, options.images)
        folder = Path(options.images)
        batches = torch_batches(list(dataset.images), folder, options.edge, options.masks, options.cores)
    else:
        manifest = read_manifest(options.shards)
        job = make_job(options.shards, options.edge, options.masks, options.decode, options.cores).stream
        if options.one == "ray":
            import ray

            ray.init(num_cpus=4, include_dashboard=False, object_store_memory=1_000_000_000, log_to_driver=False)
        make = train_batches if options.one == "ray" else local_batches
        batches = (batch.images for batch in make(manifest, job, 0, 1, 0))
    print(json.dumps(measure(batches, options.seconds)), flush=True)
    os._exit(0)  # workers and clusters end with it; nothing is left to tidy up


def compare(options: argparse.Namespace, edge: int, masks: bool) -> None:
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in INPUTS}
    for _ in range(options.rounds):
        for name in INPUTS:
            command = [sys.executable, __file__, "--one", name, "--edge", str(edge), "--shards", options.shards]
            command += ["--annotations", options.annotations, "--images", options.images, "--decode", options.decode]
            command += ["--seconds", str(options.seconds), "--cores", str(options.cores), *["--masks"][: int(masks)]]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            figures[name].append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        name: {key: statistics.median(figure[key] for figure in found) for key in ("rate", "cpu")}
        for name, found in figures.items()
    }
    what = "boxes and masks" if masks else "boxes"
    for name, found in medians.items():
        print(f"{edge:>5} {what:<16} {NAMES[name]:<28} {found['rate']:>9.1f} {found['cpu']:>12.2f}", flush=True)
    rate = medians["ray"]["rate"] / medians["torch"]["rate"]
    cpu = medians["torch"]["cpu"] / medians["ray"]["cpu"]
    reached = "reached" if rate >= GOAL else "not reached"
    print(f"      {rate:.2f} times the rate, {cpu:.2f} times by CPU; goal {GOAL} {reached}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", required=True, help="COCO annotation file")
    parser.add_argument("--images", required=True, help="folder of its photographs")
    parser.add_argument("--edges", type=int, nargs="+", default=[800, 320])
    parser.add_argument("--targets", nargs="+", default=["boxes", "masks"], choices=["boxes", "masks"])
    parser.add_argument("--decode", default="collate", choices=["collate", "map"])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--shards", help=argparse.SUPPRESS)
    parser.add_argument("--one", choices=INPUTS, help=argparse.SUPPRESS)
    parser.add_argument("--edge", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--masks", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return run_one(options)
    with tempfile.TemporaryDirectory() as folder:
        options.shards = str(Path(folder) / "shards")
        dataset = read_dataset(options.annotations, options.images)
        write_shards(dataset, options.images, options.shards, rows_per_shard=32)
        import ray

        ray.shutdown()
        print(f"{len(dataset.images)} photographs, {IMAGES_PER_BATCH} a batch, {options.cores} cores")
        print(f"{'edge':>5} {'targets':<16} {'input':<28} {'images/s':>9} {'CPU ms/image':>12}")
        for edge, targets in itertools.product(options.edges, options.targets):
            compare(options, edge, targets == "masks")
    return None


if __name__ == "__main__":
    main()
