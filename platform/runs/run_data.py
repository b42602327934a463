"""The data of a run: both sources read, fitted to one another and to the job, written as shards, and told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from maskray.platform.data.keypoints import check_keypoints
from maskray.platform.data.manifest import Manifest
from maskray.platform.data.order import training_rows
from maskray.platform.data.preparation import read_source, write_source
from maskray.platform.data.suitability import missing_categories, split_rules
from maskray.platform.job.config import JobConfig
from maskray.platform.job.schedule import with_steps
from maskray.platform.runs.data_check import lacking_line
from maskray.platform.runs.data_report import check_objects_left, describe_split

Tell = Callable[[str], None]


def prepare_data(job: JobConfig, folder: Path, tell: Tell) -> dict[str, Manifest]:
    """Read all data and see that they fit before a shard is written; a label map that lacks categories is filled up."""
    data = job.data
    rules = split_rules(data, job.model.masks, job.evaluation.iou_types)
    read = {
        split: read_source(source, split, folder, rules[split])
        for split, source in (("train", data.train), ("val", data.val))
    }
    labels = read["train"].labels
    missing = missing_categories(labels, read["val"].labels, "data.val", "data.train")
    check_keypoints(job.model, labels, flip=data.mirrors)
    if missing:
        tell(f"  {lacking_line(missing)}")
    manifests = {
        split: write_source(source, split, folder, data.rows_per_shard, data.max_bad_images)
        for split, source in read.items()
    }
    manifests["val"] = manifests["val"].model_copy(update={"labels": labels})
    for split, manifest in manifests.items():
        for line in describe_split(split, manifest):
            tell(f"  {line}")
    for line in check_objects_left(manifests, read["train"].dataset, data, job.input):
        tell(f"  {line}")
    return manifests


def in_steps(job: JobConfig, manifest: Manifest, tell: Tell) -> JobConfig:
    """The job of a run with the length of its training in steps, now that the images are counted."""
    train = job.train
    num_images = len(training_rows(manifest, job.data.skip_images_without_objects))
    timed = with_steps(job, num_images)
    if train.epochs is not None:
        tell(f"  length: {train.epochs:g} epochs of {num_images} images = {timed.train.num_steps} steps")
    return timed
