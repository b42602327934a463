"""What an LVIS file says of each image: categories known to be missing, and ones of which objects may lack.

Gupta et al. 2019, section 4: a detection of a category that nobody looked for in an image does not count, and one that
is not matched does no harm where not every object of its category was annotated. Letters: N images, K categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.ops.match_images import RegionColumns
from maskray.platform.data.formats.coco import parse_entries, read_bytes
from maskray.platform.data.formats.json_values import is_whole, read_id
from maskray.platform.data.formats.problem import shown
from maskray.platform.evaluation.columns import class_indices
from maskray.platform.evaluation.file_columns import TruthColumns

MOST_DETECTIONS = 300  # of an image, best first, whatever their categories
FREQUENCIES = {"r": "rare", "c": "common", "f": "frequent"}


@dataclass(frozen=True)
class Federation:
    """Pairs of image and category as image index * K + class index, ascending; ids of categories by frequency."""

    missing: NDArray[np.int64]
    not_exhaustive: NDArray[np.int64]
    groups: Mapping[str, tuple[int, ...]]


def read_federation(truth: TruthColumns) -> Federation:
    """Read what an LVIS file has beside its objects; ValueError naming the image or category that lacks it."""
    path = truth.path
    tree = parse_entries(path, read_bytes(path))
    index = {image_id: n for n, image_id in enumerate(truth.image_ids.tolist())}
    pairs: dict[str, list[NDArray[np.int64]]] = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    num_classes = len(truth.category_ids)
    for entry in tree["images"]:
        image_id, _ = read_id(entry.get("id"))
        for key, found in pairs.items():
            ids = _whole_numbers(entry.get(key), f"{path}: image {shown(image_id)}: {key}")
            classes = class_indices(ids, truth.category_ids).astype(np.int64)
            found.append(index[int(image_id or 0)] * num_classes + classes[classes >= 0])
    missing, not_exhaustive = (np.unique(np.concatenate([np.zeros(0, np.int64), *found])) for found in pairs.values())
    return Federation(missing, not_exhaustive, _read_groups(path, tree["categories"]))


def federate(
    objects: RegionColumns, detections: RegionColumns, federation: Federation, num_classes: int
) -> tuple[RegionColumns, RegionColumns]:
    """Objects that all count, and at most 300 detections an image, of which those take part that can be judged."""
    nothing = np.zeros(len(objects.classes), dtype=bool)
    objects = replace(objects, crowd=nothing, ignored=nothing)
    images = np.repeat(np.arange(len(detections.offsets) - 1), np.diff(detections.offsets))
    classes = detections.classes.copy()
    assert detections.scores is not None
    # Best first within each image, equal scores in the order given.
    order = np.lexsort((-detections.scores[detections.rows], images))
    place = np.arange(len(order)) - detections.offsets[images[order]]
    classes[detections.rows[order[place >= MOST_DETECTIONS]]] = -1
    image_of = np.zeros(len(classes), dtype=np.int64)
    image_of[detections.rows] = images
    keys = image_of * num_classes + classes
    object_images = np.repeat(np.arange(len(objects.offsets) - 1), np.diff(objects.offsets))
    present = object_images * num_classes + objects.classes[objects.rows]
    present = present[objects.classes[objects.rows] >= 0]
    classes[~np.isin(keys, np.concatenate([present, federation.missing]))] = -1
    return objects, replace(detections, classes=classes, ignored=np.isin(keys, federation.not_exhaustive))


def _whole_numbers(value: Any, where: str) -> NDArray[np.int64]:
    if not isinstance(value, list) or not all(is_whole(one) and abs(one) < 2**63 for one in value):
        raise ValueError(f"{where} is {shown(value)}, not a list of category ids, which LVIS needs")
    return np.array(value, dtype=np.int64)


def _read_groups(path: Path, categories: list[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    groups: dict[str, list[int]] = {name: [] for name in FREQUENCIES.values()}
    for entry in categories:
        category_id, _ = read_id(entry.get("id"))
        frequency = entry.get("frequency")
        if not isinstance(frequency, str) or frequency not in FREQUENCIES:
            where = f"{path}: category {shown(category_id)}"
            raise ValueError(f"{where}: frequency is {shown(frequency)}, not r, c or f, which LVIS needs")
        groups[FREQUENCIES[frequency]].append(int(category_id or 0))
    return {name: tuple(sorted(ids)) for name, ids in groups.items()}
