"""Two models on the same images: paired differences of their metrics with intervals, by class and size, and by image.

Letters: B resamples, N images, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.platform.evaluation.bootstrap import (
    draw_weights,
    find_metric,
    interval,
    mean_metric,
    resampled_precisions,
)
from maskray.platform.evaluation.chosen_images import image_qualities
from maskray.platform.evaluation.matching import MatchColumns, in_image_order
from maskray.platform.evaluation.rules import RULES, IouType, Metric
from maskray.platform.machine.progress_bar import track

Floats = NDArray[np.float64]

NUM_SAMPLES = 200
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
BY_CLASS = ("AP", "AP50", "APs", "APm", "APl")
MOST_IMAGES = 100
LEAST_IMAGES = 5  # with such objects, of which an interval says something


@dataclass(frozen=True)
class Change:
    """A figure of the first and the second, a fraction, nan where undefined; and where the difference lies in 95 %.

    The interval is nan where fewer than LEAST_IMAGES have such objects.
    """

    first: float
    second: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """How much more the second has."""
        return self.second - self.first

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds; None where undefined."""
        values = {"first": self.first, "second": self.second, "difference": self.difference}
        values |= {"low": self.low, "high": self.high}
        return {name: None if math.isnan(value) else value for name, value in values.items()} | {"sure": self.is_sure}


@dataclass(frozen=True)
class ModelComparison:
    """Of one IoU type: changes of metrics by name, by category id and name, and the images whose F1 changed most.

    images are (image id, F1 of the first, of the second), as image_quality has it.
    """

    iou_type: IouType
    num_images: int
    metrics: Mapping[str, Change]
    categories: Mapping[int, Mapping[str, Change]]
    images: tuple[tuple[int, float, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds."""
        return {
            "images_compared": self.num_images,
            "metrics": {name: change.as_dict() for name, change in self.metrics.items()},
            "categories": {
                str(category): {name: change.as_dict() for name, change in changes.items()}
                for category, changes in self.categories.items()
            },
            "images": [{"image_id": i, "first": a, "second": b, "difference": b - a} for i, a, b in self.images],
        }


def compare_matches(first: MatchColumns, second: MatchColumns, num_samples: int = NUM_SAMPLES) -> ModelComparison:
    """Compare the matches of two models; ValueError unless they are of the same images, objects and categories."""
    first, second = in_image_order(first), in_image_order(second)
    _check_same(first, second)
    rules, kind = RULES[first.iou_type], first.iou_type
    chosen = [find_metric(rules, name, kind) for name in METRICS if any(name == one.name for one in rules.metrics)]
    # The first row is the data set as it is; both models see the same resamples, so that differences are paired.
    num_images = len(first.image_ids)
    weights = np.ones((1, num_images), dtype=np.int64)
    if num_images:
        weights = np.concatenate([weights, draw_weights(num_images, num_samples)])
    areas = list(dict.fromkeys(metric.area for metric in chosen))
    by_area = {
        area: (resampled_precisions(first, rules, area, weights), resampled_precisions(second, rules, area, weights))
        for area in track(areas, len(areas), f"resampling {kind}")
    }
    enough = {area: _have_enough(first, list(rules.areas).index(area)) for area in by_area}
    metrics = {one.name: _change(one, *by_area[one.area], enough[one.area][-1]) for one in chosen}
    categories = {
        category: {
            one.name: _change(one, *_of_class(by_area[one.area], k), enough[one.area][k])
            for one in chosen
            if one.name in BY_CLASS
        }
        for k, category in enumerate(first.category_ids.tolist())
    }
    return ModelComparison(kind, num_images, metrics, categories, _changed_images(first, second))


def _change(metric: Metric, ours: Floats, theirs: Floats, has_enough: bool) -> Change:
    """Of precisions (B + 1, K, T), the first of which are those of the data set as it is; an interval of enough."""
    first, second = mean_metric(metric, ours), mean_metric(metric, theirs)
    ends = interval((second - first)[1:]) if has_enough else (math.nan, math.nan)
    return Change(float(first[0]), float(second[0]), *ends)


def _of_class(pair: tuple[Floats, Floats], k: int) -> tuple[Floats, Floats]:
    return pair[0][:, k : k + 1], pair[1][:, k : k + 1]


def _have_enough(matches: MatchColumns, area: int) -> list[bool]:
    """Whether LEAST_IMAGES have an object of an area, of each category (K,) and, last, of any."""
    counts = matches.gt_objects[:, area] > 0
    by_class = np.bincount(matches.gt_classes[counts], minlength=len(matches.category_ids))
    images = np.repeat(np.arange(len(matches.image_ids)), matches.gt_counts)[counts]
    return [*(by_class >= LEAST_IMAGES).tolist(), len(np.unique(images)) >= LEAST_IMAGES]


def _changed_images(first: MatchColumns, second: MatchColumns) -> tuple[tuple[int, float, float], ...]:
    """Images by how much their F1 changed, those without a change left out."""
    ours, theirs = image_qualities(first), image_qualities(second)
    pairs = [(i, ours[i], theirs[i]) for i in ours if not math.isnan(ours[i]) and not math.isnan(theirs[i])]
    changed = [pair for pair in pairs if pair[1] != pair[2]]
    return tuple(sorted(changed, key=lambda pair: (-abs(pair[2] - pair[1]), pair[0]))[:MOST_IMAGES])


def _check_same(first: MatchColumns, second: MatchColumns) -> None:
    if first.iou_type != second.iou_type or not np.array_equal(first.category_ids, second.category_ids):
        raise ValueError("they are of different IoU types or categories")
    if not np.array_equal(first.image_ids, second.image_ids):
        apart = np.setxor1d(first.image_ids, second.image_ids)
        raise ValueError(f"they were evaluated on different images: {len(apart)} are of one alone, such as {apart[0]}")
    same = all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("gt_counts", "gt_classes", "gt_objects")
    )
    if not same:
        raise ValueError("they were evaluated on the same images with different annotations")
