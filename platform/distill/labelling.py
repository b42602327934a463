"""The stage that makes labels: from the teacher's predictions to a COCO data set, and to shards beside data.train."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from maskray.platform.data.formats.coco import read_file
from maskray.platform.data.manifest import Manifest
from maskray.platform.data.row_reader import read_file_names
from maskray.platform.data.two_part_shards import Labelled, write_two_parts
from maskray.platform.distill.distill_data import Images
from maskray.platform.distill.prediction import read_predictions
from maskray.platform.distill.pseudo_labels import ANNOTATIONS, ClassLabels, choose_labels, write_labels
from maskray.platform.distill.thresholds import measure_rates
from maskray.platform.job.distill_config import DistillConfig
from maskray.platform.registry.models import sha256_of

RULE = (
    "hard labels: of each class the detections from a score on at which an unlabelled image has as many on average as "
    "an image of data.train, crowds aside; those of equal scores together"
)


def make_labels(
    job: DistillConfig, images: Images, teacher: Mapping[str, Any], predictions: Path, folder: Path
) -> None:
    """Write the labels to a new folder; teacher is where it comes from, with digests of its files.

    ValueError where the teacher found nothing that could be a label.
    """
    people, unlabelled = images.people, images.unlabelled
    found = choose_labels(read_predictions(predictions), people.labels, measure_rates(people), len(images.rows))
    if not any(one.labels for one in found):
        raise ValueError("the teacher found no object in any unlabelled image: there is nothing to learn from it")
    names = read_file_names(unlabelled)
    entries = []
    for row in images.rows:
        image_id = int(unlabelled.image_ids[row])
        size = {"width": int(unlabelled.widths[row]), "height": int(unlabelled.heights[row])}
        entries.append({"id": image_id, "file_name": names[image_id], **size})
    provenance = _describe(job, images, teacher, found)
    write_labels(folder, entries, people.labels, read_predictions(predictions), found, provenance)


def join_labels(images: Images, labels: Path, destination: Path) -> Manifest:
    """The shards of data.train and of the labelled images behind them, written once; Ray must be connected."""
    path = labels / ANNOTATIONS
    reading = read_file(path, None)
    reading.accept(0)
    return write_two_parts(images.people, images.unlabelled, Labelled(reading.images, sha256_of(path)), destination)


def _describe(
    job: DistillConfig, images: Images, teacher: Mapping[str, Any], found: list[ClassLabels]
) -> dict[str, Any]:
    tta, count = job.distill.tta, len(images.rows)
    return {
        "rule": RULE,
        "teacher": dict(teacher),
        "transforms": tta.model_dump(mode="json") | {"views": tta.num_views},
        "labelled": {"images": images.people.num_images, "digest": images.people.digest},
        "unlabelled": {
            "images": count,
            "digest": images.unlabelled.digest,
            "left_out_as_in_train": images.unlabelled.num_images - count,
            "unreadable": len(images.unlabelled.bad_images),
        },
        "labels": sum(one.labels for one in found),
        "classes": [one.as_dict(count) for one in found],
        "software": {name: version(name) for name in ("maskray", "torch")},
    }
