"""The label maps of imported models are those of COCO's own annotations and of torchvision's weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights, MaskRCNN_ResNet50_FPN_Weights

from maskray.model.coco_categories import NAMES, is_unused, labels_of_imported


def test_80_classes_and_person_are_those_of_the_annotations(shared: Callable[[str], Path]) -> None:
    annotations = shared("data/coco-sample/annotations")
    categories = json.loads((annotations / "instances_val2017.json").read_text())["categories"]
    labels = labels_of_imported(80)
    assert [(entry["id"], entry["name"]) for entry in categories] == [(c.id, c.name) for c in labels.categories]
    (person,) = json.loads((annotations / "person_keypoints_val2017.json").read_text())["categories"]
    (ours,) = labels_of_imported(1, 17).categories
    assert (ours.id, ours.name) == (person["id"], person["name"])
    assert ours.keypoints == tuple(person["keypoints"])
    assert ours.skeleton == tuple(tuple(pair) for pair in person["skeleton"])


def test_90_classes_are_torchvisions() -> None:
    theirs = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    ours = labels_of_imported(90).categories
    assert len(theirs) == len(ours) + 1  # its background
    for category in ours:
        name = theirs[category.id]
        assert category.name == (f"N/A {category.id}" if name == "N/A" else name)
    assert {category.id for category in ours if not category.name.startswith("N/A")} == set(NAMES)
    keypoints = KeypointRCNN_ResNet50_FPN_Weights.COCO_V1.meta["keypoint_names"]
    assert labels_of_imported(1, 17).categories[0].keypoints == tuple(keypoints)


def test_other_counts_have_numbers_for_names() -> None:
    labels = labels_of_imported(3, 2)
    assert labels.names == ("class_1", "class_2", "class_3")
    assert labels.category_ids == (1, 2, 3)
    assert labels.categories[2].keypoints == ("keypoint_1", "keypoint_2")
    assert labels_of_imported(1).names == ("class_1",)


def test_unused_ids_are_told_from_categories() -> None:
    assert [c.id for c in labels_of_imported(90).categories if is_unused(c)] == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert not any(is_unused(category) for category in labels_of_imported(5).categories)
