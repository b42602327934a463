"""Which of a teacher's detections become labels: as many for each class in an image as people annotate.

Radosavovic et al. 2018 choose one score so that unlabelled images have as many objects on average as labelled ones;
here each class has its own, and so have keypoints, of which the paper says nothing.

Letters: D detections, K keypoints.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskray.platform.data.manifest import Manifest
from maskray.platform.data.repeats import read_annotations


@dataclass(frozen=True)
class Rate:
    """What people annotate of a class: objects in an image and labelled keypoints of an object, on average."""

    objects_per_image: float = 0.0
    keypoints_per_object: float = 0.0


def measure_rates(manifest: Manifest) -> dict[int, Rate]:
    """The rates of a labelled set by category id, over all its images, those without objects too; crowds do not count.

    Reads the annotations of all shards, no image.
    """
    objects: Counter[int] = Counter()
    keypoints: Counter[int] = Counter()
    for text in read_annotations(manifest):
        for annotation in json.loads(text):
            if not annotation["iscrowd"]:
                objects[annotation["category_id"]] += 1
                keypoints[annotation["category_id"]] += annotation["num_keypoints"]
    return {
        category: Rate(count / manifest.num_images, keypoints[category] / count) for category, count in objects.items()
    }


def choose_threshold(scores: NDArray[np.floating], wanted: float) -> float | None:
    """The least score (0..1) of what is kept of scores (D,), so that `wanted` of them are, rounded, a half up.

    All of the same score as the last one that is wanted are kept with it, so there may be more. 0 where there are no
    more than are wanted: all are kept. None where none is wanted: nothing is kept.
    """
    count = math.floor(wanted + 0.5)
    if count < 1:
        return None
    if count >= len(scores):
        return 0.0
    return float(np.partition(scores, len(scores) - count)[len(scores) - count])
