"""Images of one data set divided into training and validation, so that each class is in both where that can be."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskray.platform.data.conversion import select_images
from maskray.platform.data.formats.coco import CocoDataset
from maskray.platform.files.atomic import new_folder

TRIED_IMAGES = 50


@dataclass(frozen=True)
class Division:
    """Image ids of both parts, and the names of classes that have no object at all, or none in validation."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    without_objects: tuple[str, ...]
    only_in_train: tuple[str, ...]


def divide(dataset: CocoDataset, val: float, seed: int) -> Division:
    """Draw the part `val` (above 0, below 1) of the images, at least one, as a function of the data and the seed.

    First each class that is in two images or more gets one of them in validation, rare classes before others, images
    with several such classes before others, as long as there is room; then images are drawn. None that is the last of
    a class in training is taken. ValueError where there are fewer than two images.
    """
    if len(dataset.images) < 2:
        raise ValueError("one image cannot be divided into training and validation")
    generator = np.random.default_rng(seed)
    images = dataset.images
    order = [images[index] for index in generator.permutation(len(images))]
    classes = {image.image_id: {one.category_id for one in image.annotations} for image in images}
    left = Counter(category for found in classes.values() for category in found)
    room = min(len(images) - 1, max(1, round(val * len(images))))
    chosen: dict[int, None] = {}
    covered: set[int] = set()

    def take(image_id: int) -> None:
        chosen[image_id] = None
        covered.update(classes[image_id])
        left.subtract(classes[image_id])

    def may_go(image_id: int) -> bool:
        return image_id not in chosen and all(left[category] > 1 for category in classes[image_id])

    holders: dict[int, list[int]] = defaultdict(list)
    for image in order:
        for category in sorted(classes[image.image_id]):
            holders[category].append(image.image_id)
    for category in sorted(holders, key=lambda key: (len(holders[key]), key)):
        if category in covered or len(chosen) >= room:
            continue
        free = [image_id for image_id in holders[category] if may_go(image_id)][:TRIED_IMAGES]
        if free:
            take(max(free, key=lambda image_id: len(classes[image_id] - covered)))
    for image in order:
        if len(chosen) < room and may_go(image.image_id):
            take(image.image_id)
    return _describe(dataset, classes, chosen)


def divide_tree(tree: dict[str, Any], division: Division) -> dict[str, dict[str, Any]]:
    """The COCO tree of each part, train and val, with all categories; each image has its part as "split"."""
    parts = {"train": select_images(tree, set(division.train)), "val": select_images(tree, set(division.val))}
    for name, part in parts.items():
        part["images"] = [entry | {"split": name} for entry in part["images"]]  # convert writes it as such
    return parts


def write_parts(folder: Path, parts: Mapping[str, dict[str, Any]]) -> None:
    """Write each tree as the JSON file of its name in a new folder, all or none; ValueError where there is one."""
    with new_folder(folder) as new_one:
        for name, part in parts.items():
            (new_one / f"{name}.json").write_text(json.dumps(part))


def _describe(dataset: CocoDataset, classes: dict[int, set[int]], chosen: dict[int, None]) -> Division:
    if not chosen:
        raise ValueError("no image can go to validation: each is the only one of some class")
    train = tuple(image.image_id for image in dataset.images if image.image_id not in chosen)
    val = tuple(image.image_id for image in dataset.images if image.image_id in chosen)
    there = [{category for image_id in part for category in classes[image_id]} for part in (train, val)]
    categories = dataset.labels.categories
    without = tuple(category.name for category in categories if category.id not in there[0])
    only = tuple(category.name for category in categories if category.id in there[0] - there[1])
    return Division(train, val, without, only)
