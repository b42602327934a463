"""What a run tells of its data before it trains: objects left out or read as meant by each rule, and what is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from maskray.model.config import InputConfig
from maskray.platform.data.formats.problem import verdict_lines
from maskray.platform.data.formats.records import CocoDataset
from maskray.platform.data.manifest import Manifest
from maskray.platform.data.transforms import resized_size
from maskray.platform.job.data_config import DataConfig


def describe_split(split: str, manifest: Manifest) -> Iterator[str]:
    """Lines about the data of a split: what they hold, and what was left out, suspicious and read as meant, by rule."""
    yield (
        f"{split}: {manifest.num_images} images, {manifest.num_annotations} annotations, "
        f"{manifest.labels.num_classes} classes, {len(manifest.bad_images)} left out"
    )
    for bad in manifest.bad_images[:3]:
        yield f"{split}: left out: image {bad.image_id} ({bad.file_name}): {bad.reason}"
    for line in verdict_lines(manifest.problems, "dropped", "suspect", "read"):
        yield f"{split}: {line}"
    for left in manifest.left_out[:3]:
        yield f"{split}: left out: image {left.image_id}, annotation {left.annotation_id}: {left.reason}"
    if len(manifest.left_out) > 3:
        yield f"{split}: all that was left out is in {manifest.location}/manifest.json"


def count_small(dataset: CocoDataset, data: DataConfig, size: InputConfig) -> int:
    """Objects, crowds aside, that training never sees: below data.min_box_pixels at the largest size drawn."""
    edge = max(data.shorter_edge_train or (size.shorter_edge,))
    small = 0
    for image in dataset.images:
        height, width = resized_size(image.height, image.width, edge, size.longer_edge_max, size.resize)
        for annotation in image.annotations:
            x, y, box_width, box_height = annotation.bbox
            side_x = (min(x + box_width, image.width) - max(x, 0.0)) * width / image.width
            side_y = (min(y + box_height, image.height) - max(y, 0.0)) * height / image.height
            small += not annotation.iscrowd and min(side_x, side_y) < data.min_box_pixels
    return small


def check_objects_left(
    manifests: Mapping[str, Manifest], train: CocoDataset | None, data: DataConfig, size: InputConfig
) -> Iterator[str]:
    """Lines about objects that training leaves out by its own rules; ValueError where none is left in a split.

    train is the dataset of data.train where it was read; of shards the sizes of objects are not known.
    """
    for split, manifest in manifests.items():
        objects = int(manifest.num_objects.sum(dtype="int64"))
        small = count_small(train, data, size) if split == "train" and train is not None else 0
        crowds = manifest.num_annotations - objects
        rules = {"crowds": crowds, f"objects below data.min_box_pixels {data.min_box_pixels:g}": small}
        told = ", ".join(f"{number} {what}" for what, number in rules.items() if number)
        if objects - small <= 0:
            verb = "train on" if split == "train" else "evaluate"
            raise ValueError(f"data.{split}: no object is left to {verb}{f': {told}' if told else ''}")
        if told and split == "train":
            yield f"{split}: not trained on: {told}"
