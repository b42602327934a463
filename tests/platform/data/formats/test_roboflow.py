"""Roboflow's layout: splits, their common categories, and the category that only names the group."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from maskray.platform.data.formats import roboflow

GROUP = {"id": 0, "name": "animals", "supercategory": "none"}


@pytest.fixture
def folder(tmp_path: Path, make_image: Callable[..., Path]) -> Path:
    for split, category in (("train", "cat"), ("valid", "dog")):
        make_image(tmp_path / split / "a.png")
        categories = [GROUP, {"id": 1, "name": category, "supercategory": "animals"}]
        images = [{"id": 0, "file_name": "a.png", "width": 20, "height": 10}]
        annotations = [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [1, 1, 2, 2], "segmentation": []}]
        tree = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(tree))
    return tmp_path


def test_all_splits_are_one_set(folder: Path) -> None:
    assert roboflow.find(folder) == "train/_annotations.coco.json"
    assert roboflow.splits(folder) == ("train", "val")
    found = roboflow.read(folder, None, None)
    assert found.images == folder
    assert [entry["name"] for entry in found.tree["categories"]] == ["cat", "dog"]
    assert [(entry["file_name"], entry["split"]) for entry in found.tree["images"]] == [
        ("train/a.png", "train"), ("valid/a.png", "val"),
    ]  # fmt: skip


def test_a_split_has_the_categories_of_all(folder: Path) -> None:
    found = roboflow.read(folder, "val", None)
    assert [entry["file_name"] for entry in found.tree["images"]] == ["valid/a.png"]
    names = {entry["id"]: entry["name"] for entry in found.tree["categories"]}
    assert [names[entry["category_id"]] for entry in found.tree["annotations"]] == ["dog"]
    assert set(names.values()) == {"cat", "dog"}
    with pytest.raises(ValueError, match=r"no _annotations.coco.json of the split 'test'"):
        roboflow.read(folder, "test", None)


def test_a_group_that_has_objects_stays(folder: Path) -> None:
    path = folder / "train/_annotations.coco.json"
    tree = json.loads(path.read_text())
    tree["annotations"][0]["category_id"] = 0
    path.write_text(json.dumps(tree))
    assert [e["name"] for e in roboflow.read(folder, None, None).tree["categories"]] == ["animals", "cat", "dog"]
    assert roboflow.read(folder / "train", None, None).images == folder / "train"  # one split alone
