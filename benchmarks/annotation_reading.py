"""Claim: reading a COCO file as large as train2017's takes a tenth of the memory when its objects stay on the disk.

A file of so many images with seven polygons each, read to a dataset of which every image is then asked for, as sharding
does: read whole and read entry by entry, by turns, each in a process of its own. CPU seconds, and the peak of memory
beyond what the process has after its imports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from maskray.platform.data.formats import coco

OBJECTS, POINTS = 7, 26  # of an image and of a polygon: train2017 has 118,287 images, 860,001 objects, 449 MB


def peak_mb() -> float:
    """Of this process alone: what getrusage tells includes the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def write_file(path: Path, images: int) -> None:
    """Annotations in the form of COCO's own, objects of an image apart from each other as there."""
    generator = np.random.default_rng(0)
    with path.open("w") as file:
        named = ({"id": i, "file_name": f"{i:012d}.jpg", "height": 480, "width": 640} for i in range(images))
        file.write('{"images": [' + ", ".join(map(json.dumps, named)) + '], "annotations": [')
        for number in range(images * OBJECTS):
            points = generator.uniform((10, 10), (630, 470), (POINTS, 2)).round(2)
            (x, y), (right, bottom) = points.min(0), points.max(0)
            entry = {
                "segmentation": [points.ravel().tolist()],
                "area": 1000.5,
                "iscrowd": 0,
                "image_id": int(number * 7919 % images),
                "bbox": [round(float(value), 2) for value in (x, y, right - x, bottom - y)],
                "category_id": 1,
                "id": number + 1,
            }
            file.write((", " if number else "") + json.dumps(entry))
        file.write('], "categories": [{"id": 1, "name": "thing"}]}')


def read(path: str, streamed: bool) -> None:
    """Read the file and print CPU seconds, memory and the number of objects."""
    coco.STREAMED_BYTES = 0 if streamed else 2**60
    start, before = time.process_time(), peak_mb()
    dataset = coco.read_dataset(path, os.devnull)
    objects = sum(len(image.annotations) for image in dataset.images)
    print(json.dumps([time.process_time() - start, peak_mb() - before, objects]))


def main() -> None:
    """Write the file, read it by turns and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=118_287)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read(options.read[0], options.read[1] == "streamed")
        return
    measured: dict[str, list[list[float]]] = {"whole": [], "streamed": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instances.json"
        write_file(path, options.images)
        print(f"{options.images} images, {options.images * OBJECTS} objects, {path.stat().st_size / 1e6:.0f} MB")
        for _ in range(options.rounds):
            for name, runs in measured.items():
                command = [sys.executable, __file__, "--read", str(path), name]
                runs.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
                assert runs[-1][2] == options.images * OBJECTS
    medians = {name: [statistics.median(column) for column in zip(*runs)] for name, runs in measured.items()}
    for name, (seconds, memory, _) in medians.items():
        print(f"{name:9} {seconds:7.1f} s of CPU {memory:7.0f} MB")
    share = medians["streamed"][1] / medians["whole"][1]
    print(f"memory: {share:.3f} of reading it whole ({'reached' if share <= 0.1 else 'NOT REACHED'}: a tenth)")


if __name__ == "__main__":
    main()
