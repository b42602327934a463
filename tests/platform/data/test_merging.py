"""Merging data sets that lie in several folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskray.platform.data.formats.annotated import AnnotatedFolder
from maskray.platform.data.merging import merge


def part(images: Path, name: str = "a.png", category: str = "cat") -> AnnotatedFolder:
    tree = {
        "images": [{"id": 4, "file_name": name, "width": 9, "height": 9}],
        "annotations": [{"id": 4, "image_id": 4, "category_id": 2, "bbox": [0, 0, 3, 3]}],
        "categories": [{"id": 2, "name": category}],
    }
    return AnnotatedFolder(str(images), "coco", tree, images)


def test_names_start_in_the_folder_that_all_are_in(tmp_path: Path) -> None:
    merged = merge([part(tmp_path / "x/images"), part(tmp_path / "y", category="dog"), part(tmp_path / "y", "b.png")])
    assert merged.images == tmp_path
    assert [entry["file_name"] for entry in merged.tree["images"]] == ["x/images/a.png", "y/a.png", "y/b.png"]
    assert [entry["category_id"] for entry in merged.tree["annotations"]] == [1, 2, 1]
    same = merge([part(tmp_path), part(tmp_path), part(tmp_path, category="dog")])
    assert (same.images, same.doubles, len(same.tree["images"])) == (tmp_path, 1, 1)
    assert len(same.tree["annotations"]) == 2


def test_a_tree_that_is_wrong_is_named(tmp_path: Path) -> None:
    wrong = part(tmp_path / "x")
    wrong.tree["annotations"][0]["image_id"] = 7
    with pytest.raises(ValueError, match=r"x: annotation 4: image id 7 is not among the images"):
        merge([part(tmp_path), wrong])
