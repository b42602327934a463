"""Dividing images: sizes, classes on both sides where that can be, the same for the same seed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskray.model.config import Category, LabelMap
from maskray.platform.data.formats.coco import Annotation, CocoDataset, ImageRecord
from maskray.platform.data.splitting import divide


def dataset(*classes: set[int]) -> CocoDataset:
    images = [
        ImageRecord(number, f"{number}.png", 9, 9, [Annotation(1, one, (0, 0, 1, 1), 1) for one in sorted(found)])
        for number, found in enumerate(classes, start=1)
    ]
    labels = LabelMap(categories=tuple(Category(id=key, name=f"c{key}") for key in range(1, 7)))
    return CocoDataset(labels, images, "")


@given(
    st.lists(st.sets(st.integers(1, 6), max_size=3), min_size=2, max_size=40),
    st.floats(0.05, 0.9),
    st.integers(0, 3),
)
def test_every_image_is_in_one_part_and_no_class_leaves_training(
    classes: list[set[int]], val: float, seed: int
) -> None:
    data = dataset(*classes)
    try:
        division = divide(data, val, seed)
    except ValueError as error:
        assert "the only one of some class" in str(error)  # noqa: PT017
        assert all(any(sum(one in found for found in classes) == 1 for one in image) for image in classes)
        return
    assert division == divide(data, val, seed)
    assert sorted(division.train + division.val) == list(range(1, len(classes) + 1))
    assert 1 <= len(division.val) <= max(1, round(val * len(classes)))
    used = {one for found in classes for one in found}
    assert set(division.without_objects) == {f"c{key}" for key in set(range(1, 7)) - used}


def test_rare_classes_are_in_both() -> None:
    # class 2 is in two images of a hundred, class 3 in one
    classes = [{1} for _ in range(100)]
    classes[17] = classes[60] = {1, 2}
    classes[30] = {3}
    for seed in range(5):
        division = divide(dataset(*classes), 0.1, seed)
        assert len(division.val) == 10
        assert len({18, 61} & set(division.val)) == 1
        assert 31 in division.train
        assert (division.only_in_train, division.without_objects) == (("c3",), ("c4", "c5", "c6"))
    assert divide(dataset(*classes), 0.1, 0).val != divide(dataset(*classes), 0.1, 1).val


def test_one_image_cannot_be_divided() -> None:
    with pytest.raises(ValueError, match="one image cannot be divided"):
        divide(dataset({1}), 0.5, 0)
