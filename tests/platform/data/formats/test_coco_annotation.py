"""Entries whose ids or names are of another kind: one line each that names the annotation or the category."""

from __future__ import annotations

from typing import Any

import pytest

from maskray.platform.data.formats.coco_tree import Reading, read_tree


def read(annotation: dict[str, Any] | None = None, category: dict[str, Any] | None = None) -> Reading:
    tree = {
        "images": [{"id": 5, "file_name": "a.png", "width": 40, "height": 30}],
        "categories": [{"id": 3, "name": "cup"} | (category or {})],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 3, "bbox": [2, 3, 4, 5], "area": 20,
                         "segmentation": [[2, 3, 6, 3, 6, 8, 2, 8]]} | (annotation or {})],
    }  # fmt: skip
    return read_tree("tree", tree, "images")


@pytest.mark.parametrize("key", ["id", "image_id", "category_id"])
@pytest.mark.parametrize("value", [[1], {}, [[]], "x", None, 1.5, True])
def test_an_id_of_another_kind_is_one_line(key: str, value: Any) -> None:
    (problem,) = read({key: value}).problems
    assert "annotation 1" in problem.line or "annotations[0]" in problem.line


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "x" * 10_001])
@pytest.mark.parametrize("key", ["name", "keypoints"])
def test_a_name_that_no_file_can_hold_is_refused_by_its_category(key: str, name: str) -> None:
    reason = read(category={key: [name] if key == "keypoints" else name}).refusal(1)
    assert reason is not None
    assert "category.3." in reason
    assert reason.isprintable()
    assert len(reason) < 400


def test_a_hostile_segmentation_is_told_with_its_annotation() -> None:
    (problem,) = read({"segmentation": [[1, 1, 1e308, 1, 1e308, 1e308]]}).problems
    assert (problem.image_id, problem.annotation_id, problem.verdict) == (5, 1, "dropped")
