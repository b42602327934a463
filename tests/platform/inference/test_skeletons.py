"""Skeletons: which points and lines are drawn, where, and in whose colours."""

from __future__ import annotations

import numpy as np

from maskray.model.config import Category, LabelMap
from maskray.platform.inference.drawing import draw_detections
from maskray.platform.inference.skeletons import LEFT, MIDDLE, RIGHT, RIM, read_skeleton

PERSON = Category(
    id=1,
    name="person",
    keypoints=("nose", "left_eye", "right_eye", "left_ear"),
    skeleton=((1, 2), (1, 3), (2, 4), (2, 3)),
)
KEYPOINTS = [10, 20, 2, 30, 20, 1, 0, 0, 0, 50, 20, 2]


def test_labelled_keypoints_of_an_annotation_are_joined():
    skeleton = read_skeleton({"keypoints": KEYPOINTS}, PERSON)
    assert skeleton is not None
    assert skeleton.points == [
        ((10.5, 20.5), MIDDLE, False),
        ((30.5, 20.5), LEFT, True),
        ((50.5, 20.5), LEFT, False),
    ]
    assert skeleton.lines == [((10.5, 20.5), (30.5, 20.5), MIDDLE), ((30.5, 20.5), (50.5, 20.5), LEFT)]
    assert read_skeleton({"keypoints": None}, PERSON) is None
    assert read_skeleton({}, PERSON) is None


def test_keypoints_of_a_result_have_scores():
    keypoints = [10, 20, 0.04, 30, 20, 0.06, 40, 20, 0.9, 50, 20, 0.01]
    skeleton = read_skeleton({"keypoints": keypoints, "score": 0.9}, PERSON)
    assert skeleton is not None
    assert [color for _, color, _ in skeleton.points] == [LEFT, RIGHT]
    assert not any(hidden for _, _, hidden in skeleton.points)
    assert skeleton.lines == [((30.5, 20.5), (40.5, 20.5), MIDDLE)]


def test_keypoints_without_names_are_points():
    skeleton = read_skeleton({"keypoints": KEYPOINTS}, Category(id=1, name="thing"))
    assert skeleton is not None
    assert len(skeleton.points) == 3
    assert skeleton.lines == []


def test_skeletons_are_in_the_image_and_grow_with_it():
    found = {"category_id": 1, "bbox": [5, 5, 90, 50], "score": 0.9, "keypoints": [*KEYPOINTS[:11], 0.9]}
    image = np.full((60, 100, 3), 128, np.uint8)
    for scale in (1, 3):
        drawn = draw_detections(image, [found], LabelMap(categories=(PERSON,)), scale=scale)
        row, column = (int(scale * value) for value in (20.5, 40.5))  # in the middle of the left line
        assert tuple(drawn[row, column]) == LEFT
        assert tuple(drawn[int(scale * 20.5), int(scale * 20.5)]) == MIDDLE
        beside = drawn[row - 6 : row + 7, column]
        assert (beside == RIM).all(axis=1).any()
