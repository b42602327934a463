"""Counts and sizes of a data set, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from maskray.model.config import Category, LabelMap
from maskray.platform.data.facts import measure
from maskray.platform.data.formats.records import Annotation, CocoDataset, ImageRecord

LABELS = LabelMap(categories=(Category(id=3, name="cat"), Category(id=9, name="dog")))


def annotation(number: int, side: float, **values: Any) -> Annotation:
    bbox = (0.0, 0.0, side, side)
    return Annotation(**({"id": number, "category_id": 3, "bbox": bbox, "area": side * side} | values))


def dataset(*images: ImageRecord) -> CocoDataset:
    return CocoDataset(LABELS, list(images), "digest")


def test_counts_and_sizes_by_hand() -> None:
    polygon = [[0.0, 0.0, 9.0, 0.0, 9.0, 9.0]]
    facts = measure(
        dataset(
            ImageRecord(1, "a.jpg", 40, 30, [annotation(1, 10, segmentation=polygon), annotation(2, 20)]),
            ImageRecord(2, "b.jpg", 60, 120, [annotation(3, 90, iscrowd=1), annotation(4, 30, num_keypoints=2)]),
            ImageRecord(3, "c.jpg", 50, 50),
        )
    )
    assert (facts.images, facts.objects, facts.crowds) == (3, 3, 1)
    assert facts.classes == {"cat": 3, "dog": 0}
    assert facts.edges == (50, 50)
    assert facts.longest == pytest.approx(1.9333, abs=1e-4)  # between 4/3 and 2, at 95 % of the way from first to last
    assert facts.sides == pytest.approx((11, 20, 29))
    assert (facts.with_mask, facts.with_keypoints, facts.keypoints) == (1, 1, ())
    assert not facts.has_masks
    assert not facts.has_keypoints


def test_data_of_nothing_are_told() -> None:
    with pytest.raises(ValueError, match="the data have no images"):
        measure(dataset())
    with pytest.raises(ValueError, match="none of the 1 images has an object"):
        measure(dataset(ImageRecord(1, "a.jpg", 9, 9, [annotation(1, 3, iscrowd=1)])))
