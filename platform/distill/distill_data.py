"""The images of a distillation: those of data.train as shards, and others to be labelled but for the same pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from maskray.platform.data.keypoints import check_keypoints
from maskray.platform.data.manifest import Manifest
from maskray.platform.data.preparation import ReadSource, read_source, write_source
from maskray.platform.data.same_pictures import find_same, list_names, pictures_of
from maskray.platform.data.shards import write_shards
from maskray.platform.data.suitability import missing_categories, split_rules
from maskray.platform.data.unlabelled import read_unlabelled
from maskray.platform.job.data_config import SyntheticSource
from maskray.platform.job.distill_config import DistillConfig
from maskray.platform.runs.open_run import OpenRun


@dataclass(frozen=True)
class Images:
    """Shards of data.train, shards of the unlabelled images, and the rows of the latter that are to be labelled."""

    people: Manifest
    unlabelled: Manifest
    rows: list[int]


def prepare_images(job: DistillConfig, run: OpenRun) -> Images:
    """Read and shard the images below the run's folder, once; Ray must be connected.

    An unlabelled image that is in data.train too (find_same) is left out: it has labels already. What was left out is
    remembered. ValueError where the data do not fit one another or the job, or no image is left.
    """
    folder, data = run.folder / "data", job.data
    rules = split_rules(data, job.model.masks, job.evaluation.iou_types)
    train = read_source(data.train, "train", folder, rules["train"])
    val = read_source(data.val, "val", folder, rules["val"])
    missing_categories(train.labels, val.labels, "data.val", "data.train")
    check_keypoints(job.model, train.labels, flip=data.mirrors)
    read = read_unlabelled(job.distill.unlabelled, folder, train.labels, data.max_bad_images)
    if "left_out" not in run.state:
        run.remember(left_out=_in_train(job, read, train, run))
    people = write_source(train, "train", folder, data.rows_per_shard, data.max_bad_images)
    unlabelled = _write(read, folder, data.rows_per_shard, data.max_bad_images)
    left_out = set(run.state["left_out"])
    rows = [row for row, image_id in enumerate(unlabelled.image_ids.tolist()) if image_id not in left_out]
    if not rows:
        raise ValueError("distill.unlabelled: every image is in data.train too: nothing is left to label")
    run.tell(f"  {people.num_images} labelled images, {len(rows)} unlabelled ones")
    return Images(people, unlabelled, rows)


def _write(read: ReadSource, folder: Path, rows_per_shard: int, max_bad_images: int) -> Manifest:
    if read.dataset is None:
        assert read.manifest is not None
        return read.manifest
    try:
        destination = folder / "shards" / "unlabelled"
        return write_shards(read.dataset, read.images, destination, rows_per_shard, max_bad_images)
    except ValueError as error:
        raise ValueError(f"distill.unlabelled: {error}") from None


def _in_train(job: DistillConfig, read: ReadSource, train: ReadSource, run: OpenRun) -> list[int]:
    """Ids of unlabelled images that are in data.train, which is told."""
    if isinstance(job.distill.unlabelled, SyntheticSource) or isinstance(job.data.train, SyntheticSource):
        return []
    pictures = pictures_of(read)
    same = find_same(pictures, pictures_of(train), by_name=job.distill.same_names == "refuse")
    if same:
        names = list_names([pictures[index].name for index in same])
        run.tell(f"  left out: {len(same)} unlabelled images that are in data.train: {names}")
    if read.dataset is not None:
        return [read.dataset.images[index].image_id for index in same]
    assert read.manifest is not None
    return [int(read.manifest.image_ids[index]) for index in same]
