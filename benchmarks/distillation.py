"""Does data distillation pay? A student of a teacher's labels beside the teacher, and beside training twice as long.

Draws 30 labelled images and 270 that are not, a tenth and nine tenths of one set. For each seed: a teacher trained on
the thirty; a student trained for as many steps on both, half of every batch each, with the labels that the teacher
gives from six views; and a model trained twice as long on the thirty, which costs as much as teacher and student.
Prints mask and box AP on 100 other images, and the gains of the student with their 95 % interval over the seeds.

What a seed found is kept in a file of --out: a second start goes on with the seeds that are missing. The parts are
those of a distill job: choice of labels, mixing of batches, views; training is in this process, without Ray.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from small_training import SmallData, draw_data, job_of, mean_and_interval, metrics_of, new_model, train_model

from maskray.model.config import ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.platform.data.decode import decode_image
from maskray.platform.data.formats.coco import annotation_dicts, read_file
from maskray.platform.data.manifest import Manifest, ShardInfo
from maskray.platform.data.mixing import build_order
from maskray.platform.distill.pseudo_labels import ANNOTATIONS, choose_labels, write_labels
from maskray.platform.distill.thresholds import Rate
from maskray.platform.files.storage import write_whole
from maskray.platform.inference.predictor import Predictor
from maskray.platform.job.config import JobConfig
from maskray.platform.job.tta_config import TTAConfig

CLASSES = ("circle", "square", "triangle", "star")
LABELLED, UNLABELLED, VAL = 30, 270, 100
LABELLED_PER_BATCH = 2
TTA = TTAConfig(scales=(96, 128, 160))
WAYS = ("labelled tenth", "twice as long", "distilled")
FIGURES = ("segm/AP", "segm/AP50", "bbox/AP")


def count_rates(data: SmallData) -> dict[int, Rate]:
    """Objects of each class in an image, on average."""
    found = [one["category_id"] for row in data.rows for one in json.loads(row["annotations"]) if not one["iscrowd"]]
    return {category: Rate(found.count(category) / len(data.rows)) for category in set(found)}


def label(model: MaskRCNN, job: JobConfig, people: SmallData, others: SmallData, folder: Path) -> dict[str, Any]:
    """Write a teacher's labels for the other images to a folder, and return how they were chosen."""
    predictor = Predictor(model.eval(), ModelSpec(model=job.model, input=job.input, labels=people.labels), tta=TTA)
    found = [
        {"image_id": row["image_id"], "results": predictor.predict([decode_image(row["image"])], [row["image_id"]])[0]}
        for row in others.rows
    ]
    chosen = choose_labels(found, people.labels, count_rates(people), len(others.rows))
    images = [
        {"id": row["image_id"], **{key: row[key] for key in ("file_name", "width", "height")}} for row in others.rows
    ]
    classes = {one.name: one.as_dict(len(others.rows)) for one in chosen}
    write_labels(folder, images, people.labels, found, chosen, {"classes": classes})
    return classes


def join(people: SmallData, others: SmallData, labels: Path) -> SmallData:
    """Rows of both, the first as they are, the others with the labels of a file and new ids."""
    reading = read_file(labels, None)
    reading.accept(0)
    annotations = {record.image_id: json.dumps(annotation_dicts(record)) for record in reading.images}
    rows = [
        row | {"annotations": annotations[row["image_id"]], "image_id": len(people.rows) + number}
        for number, row in enumerate(others.rows, start=1)
    ]
    return SmallData([*people.rows, *rows], people.labels, people.annotations)


def mixed_rows(data: SmallData, job: JobConfig) -> Iterator[list[tuple[int, int]]]:
    """Row and draw of every image of each batch, in the order in which a distill job mixes them."""
    count = len(data.rows)
    numbers: dict[str, Any] = {
        "image_ids": [row["image_id"] for row in data.rows],
        "widths": [row["width"] for row in data.rows],
        "heights": [row["height"] for row in data.rows],
        "num_objects": [len(json.loads(row["annotations"])) for row in data.rows],
    }
    shard = ShardInfo(name="none", num_rows=count, bytes=0, sha256="")
    manifest = Manifest(labels=data.labels, digest="", num_images=count, num_annotations=0, shards=(shard,),
                        num_labelled=LABELLED, **numbers)  # fmt: skip
    order, step = build_order(manifest, job.stream), 0
    while True:
        yield list(zip(order.batch(step).tolist(), order.draws(step).tolist(), strict=True))
        step += 1


def measure(seed: int, steps: int, folder: Path) -> dict[str, Any]:
    """Metrics of the three ways with one seed, of the data and of the weights, and the seconds of each part."""
    people = draw_data(folder / "people", LABELLED, 3 * seed, CLASSES)
    others = draw_data(folder / "others", UNLABELLED, 3 * seed + 1, CLASSES)
    val = draw_data(folder / "val", VAL, 3 * seed + 2, CLASSES)
    found: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def note(part: str) -> None:
        nonlocal started
        seconds[part], started = round(time.perf_counter() - started, 1), time.perf_counter()
        print(f"# seed {seed}, {part}: {seconds[part]} s {found.get(part, '')}", flush=True)

    job, long = job_of(seed, steps), job_of(seed, 2 * steps)
    teacher = new_model(job, people.labels)
    train_model(job, teacher, people, steps)
    found["labelled tenth"] = metrics_of(teacher, job, val)
    note("labelled tenth")
    classes = label(teacher, job, people, others, folder / "labels")
    note("labels")
    both = join(people, others, folder / "labels" / ANNOTATIONS)
    tree = job.model_dump()
    tree["data"]["labelled_per_batch"] = LABELLED_PER_BATCH
    mixed = JobConfig.model_validate(tree)
    student = new_model(mixed, people.labels)
    train_model(mixed, student, both, steps, mixed_rows(both, mixed))
    found["distilled"] = metrics_of(student, mixed, val)
    note("distilled")
    other = new_model(long, people.labels)
    train_model(long, other, people, 2 * steps)
    found["twice as long"] = metrics_of(other, long, val)
    note("twice as long")
    return {"steps": steps, "metrics": found, "classes": classes, "seconds": seconds}


def load_or_measure(seed: int, steps: int, out: Path) -> dict[str, Any]:
    """What a seed found, from its file where there is one of as many steps."""
    path = out / f"seed-{seed}.json"
    if path.is_file():
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if kept["steps"] != steps:
            raise SystemExit(f"{path}: of {kept['steps']} steps, not {steps}; give another --out")
        return kept
    data = out / f"data-{seed}-{time.time_ns()}"  # one that was stopped leaves its own behind
    found = measure(seed, steps, data)
    write_whole(path, json.dumps(found, indent=1))
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="of teacher and of student")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("outputs/distillation_benchmark"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = [load_or_measure(seed, arguments.steps, arguments.out) for seed in range(1, arguments.seeds + 1)]
    print(
        f"\n| {arguments.steps} steps, {len(results)} seeds | "
        + " | ".join(FIGURES)
        + " |\n|---|"
        + "---|" * len(FIGURES)
    )
    for way in WAYS:
        means = [np.mean([result["metrics"][way][name] for result in results]) for name in FIGURES]
        print(f"| {way} | " + " | ".join(f"{mean:.1f}" for mean in means) + " |")
    for way in WAYS[:2]:
        cells = []
        for name in FIGURES:
            gains = [result["metrics"]["distilled"][name] - result["metrics"][way][name] for result in results]
            if len(gains) > 1:
                mean, half = mean_and_interval(gains)
                cells.append(f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}]")
            else:
                cells.append(f"{gains[0]:+.1f}")
        print(f"| distilled, over {way} | " + " | ".join(cells) + " |")
    total = sum(sum(result["seconds"].values()) for result in results)
    print(f"\n{total / len(results):.0f} s a seed, {arguments.threads} threads")


if __name__ == "__main__":
    main()
