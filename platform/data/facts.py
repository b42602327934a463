"""What a data set is like in numbers: images, classes, sizes of objects; what a job for it is drawn up from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from maskray.platform.data.formats.records import CocoDataset
from maskray.platform.data.suitability import find_mask_gaps

MOST_WITHOUT_MASK = 0.1  # of the objects, where a mask branch is trained all the same


@dataclass(frozen=True)
class DataFacts:
    """Counts of a data set and medians and quantiles of sizes, in pixels of the original images.

    `sides` are the 5, 50 and 95 % quantiles of the square root of the area of an object's box; `edges` the medians of
    the shorter and of the longer edge of the images, `longest` the ratio of the two that 95 % of them stay below.
    """

    images: int
    objects: int
    crowds: int
    classes: dict[str, int]
    edges: tuple[float, float]
    longest: float
    sides: tuple[float, float, float]
    with_mask: int
    with_keypoints: int
    keypoints: tuple[str, ...]

    @property
    def has_masks(self) -> bool:
        """Whether nearly every object has a mask, so that a mask branch can be trained."""
        return self.objects > 0 and self.objects - self.with_mask <= MOST_WITHOUT_MASK * self.objects

    @property
    def has_keypoints(self) -> bool:
        """Whether half of the objects have keypoints, and there is but one class."""
        return len(self.classes) == 1 and len(self.keypoints) > 0 and self.with_keypoints >= 0.5 * self.objects


def measure(dataset: CocoDataset) -> DataFacts:
    """Count and measure a data set; ValueError where it has no image or no object."""
    if not dataset.images:
        raise ValueError("the data have no images")
    objects = [annotation for image in dataset.images for annotation in image.annotations if not annotation.iscrowd]
    if not objects:
        raise ValueError(f"none of the {len(dataset.images)} images has an object")
    names = dict(zip(dataset.labels.category_ids, dataset.labels.names, strict=True))
    counts = Counter(names[annotation.category_id] for annotation in objects)
    edges = np.sort([(image.width, image.height) for image in dataset.images], axis=1)
    sides = [math.sqrt(max(0.0, a.bbox[2] * a.bbox[3])) for a in objects]
    small, middle, large = np.quantile(sides, (0.05, 0.5, 0.95))
    return DataFacts(
        images=len(dataset.images),
        objects=len(objects),
        crowds=dataset.num_annotations - len(objects),
        classes={name: counts.get(name, 0) for name in dataset.labels.names},
        edges=(float(np.median(edges[:, 0])), float(np.median(edges[:, 1]))),
        longest=float(np.quantile(edges[:, 1] / edges[:, 0], 0.95)),
        sides=(float(small), float(middle), float(large)),
        with_mask=sum(annotation.segmentation is not None for annotation in objects),
        with_keypoints=sum(annotation.num_keypoints > 0 for annotation in objects),
        keypoints=next((category.keypoints for category in dataset.labels.categories if category.keypoints), ()),
    )


def few_without_masks(datasets: Iterable[CocoDataset]) -> int:
    """How many annotations have no mask; 0 where those of one data set are more than a few: masks are not for it."""
    counts = []
    for dataset in datasets:
        gaps = find_mask_gaps(dataset.images)
        counts.append(gaps.objects + gaps.crowds)
        if counts[-1] > MOST_WITHOUT_MASK * dataset.num_annotations:
            return 0
    return sum(counts)
