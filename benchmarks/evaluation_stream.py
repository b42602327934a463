"""Claim: the driver of an evaluation of 200,000 images stays within 1 GiB, whatever the images hold.

Ray tasks draw 10 detections for each image on the fly and match them, as actors with a model do; the driver takes in
what comes, by the same code as an evaluation, and writes results.json, matches.npz and the metrics of boxes and masks.
"""

from __future__ import annotations

import argparse
import json
import pickle
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from maskray.platform.evaluation.coco_ap import merge_columns
from maskray.platform.evaluation.evaluated_images import BatchEvaluation, collect
from maskray.platform.evaluation.matches_file import write_match_columns
from maskray.platform.evaluation.matching import match_entries

HEIGHT, WIDTH, CATEGORIES, OBJECTS, BATCH = 480, 640, list(range(1, 81)), 4, 16
MOST_BYTES = 1 << 30


def draw_entry(random: np.random.Generator, image_id: int, box: list[float], category: int) -> dict[str, Any]:
    x, y, w, h = box
    (rle,) = coco_mask.frPyObjects([[x, y, x + w, y, x + w, y + h, x + w / 2, y + 0.8 * h, x, y + h]], HEIGHT, WIDTH)
    segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
    return {"image_id": image_id, "category_id": category, "bbox": box, "segmentation": segmentation}


def evaluate_batch(image_ids: list[int], num_detections: int) -> bytes:
    """A batch of images that exist nowhere, found and matched; what an actor sends."""
    images, texts = [], []
    for image_id in image_ids:
        random = np.random.default_rng(image_id)
        boxes = np.concatenate([random.uniform(0, 300, (OBJECTS, 2)), random.uniform(20, 180, (OBJECTS, 2))], axis=1)
        kinds = random.choice(CATEGORIES, OBJECTS).tolist()
        truth = [draw_entry(random, image_id, box, kind) for box, kind in zip(boxes.tolist(), kinds)]
        truth = [entry | {"area": 0.9 * entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0} for entry in truth]
        found = []
        for _ in range(num_detections):
            near = int(random.integers(OBJECTS))
            box = (boxes[near] + random.normal(0, 8, 4)).clip(1)
            found.append(draw_entry(random, image_id, np.round(box, 2).tolist(), kinds[near]))
            found[-1]["score"] = round(float(random.random()), 4)
        images.append((image_id, (HEIGHT, WIDTH), truth, found))
        texts.append(json.dumps(found).encode())
    parts = [match_entries(images, CATEGORIES, "bbox"), match_entries(images, CATEGORIES, "segm")]
    return pickle.dumps(BatchEvaluation(image_ids, texts, num_detections * len(image_ids), parts))


def stream(num_images: int, num_detections: int) -> Iterator[BatchEvaluation]:
    """Batches from Ray tasks, no more than a few of them on their way."""
    import ray

    task = ray.remote(num_cpus=1)(evaluate_batch)
    waiting: list[Any] = []
    for start in range(0, num_images, BATCH):
        waiting.append(task.remote(list(range(start, min(start + BATCH, num_images))), num_detections))
        if len(waiting) >= 16:
            (done,), waiting = ray.wait(waiting)
            yield pickle.loads(ray.get(done))
    for reference in waiting:
        yield pickle.loads(ray.get(reference))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--detections", type=int, default=10, help="of an image")
    parser.add_argument("--cpus", type=int, default=2)
    arguments = parser.parse_args()
    import ray

    ray.init(num_cpus=arguments.cpus, include_dashboard=False, log_to_driver=False, object_store_memory=200_000_000)
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # noqa: E731
    before, started = peak(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        images = collect(stream(arguments.images, arguments.detections), folder)
        streamed = peak()
        matches = images.matches()
        for part in matches:
            metrics = merge_columns([part], CATEGORIES, part.iou_type)
            print(f"{part.iou_type}: {metrics.num_images} images, AP {metrics.stats[0]:.4f}")
        images.write_results(Path(folder) / "results.json")
        write_match_columns(Path(folder) / "matches.npz", matches)
        sizes = ", ".join(f"{file.name} {file.stat().st_size / 1e6:.0f} MB" for file in sorted(Path(folder).iterdir()))
    ray.shutdown()
    print(f"{images.num_results} detections in {time.perf_counter() - started:.0f} s; {sizes}")
    first, then, most = (f"{size / 1e6:.0f} MB" for size in (before, streamed, peak()))
    print(f"driver: {first} before, {then} when all had come, {most} at most")
    verdict = "reached" if peak() <= MOST_BYTES else "not reached"
    print(f"goal: {MOST_BYTES / 1e6:.0f} MB {verdict}")


if __name__ == "__main__":
    main()
