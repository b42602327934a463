"""A teacher's detections as COCO labels: which are chosen, what they look like, and that they are sound COCO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle_masks

from maskray.model.coco_categories import PERSON_KEYPOINTS
from maskray.model.config import Category, LabelMap
from maskray.platform.data.formats.coco import read_file
from maskray.platform.distill.pseudo_labels import ANNOTATIONS, PROVENANCE, choose_labels, is_usable, write_labels
from maskray.platform.distill.thresholds import Rate

LABELS = LabelMap(
    categories=(Category(id=1, name="person", keypoints=tuple(PERSON_KEYPOINTS)), Category(id=7, name="cup"))
)
IMAGES = [{"id": number, "file_name": f"{number}.jpg", "width": 40, "height": 30} for number in (3, 5)]


def mask(rows: int, columns: int) -> dict[str, Any]:
    pixels = np.zeros((30, 40), dtype=np.uint8, order="F")
    pixels[2 : 2 + rows, 1 : 1 + columns] = 1
    rle = rle_masks.encode(pixels)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def detection(image_id: int, category_id: int, score: float, rows: int = 4) -> dict[str, Any]:
    points = [value for number in range(17) for value in (5.0 + number, 6.5, 0.05 * number)]
    return {
        "image_id": image_id, "category_id": category_id, "score": score, "bbox": [1.0, 2.0, 5.0, 4.0],
        "segmentation": mask(rows, 5), "keypoints": points,
    }  # fmt: skip


FOUND = [
    {"image_id": 5, "results": [detection(5, 7, 0.9), detection(5, 7, 0.4), detection(5, 1, 0.3)]},
    {"image_id": 3, "results": [detection(3, 1, 0.95), detection(3, 1, 0.99, rows=0)]},
]


def test_each_class_has_its_own_threshold_and_keypoints_have_one() -> None:
    rates = {1: Rate(0.5, 4.0), 7: Rate(3.0)}
    person, cup = choose_labels(FOUND, LABELS, rates, num_images=2)
    assert (person.threshold, person.detections, person.labels) == (0.95, 2, 1)  # the empty mask is no label
    assert person.scores == (0.95, 0.95, 0.95)
    assert (person.keypoints, person.keypoint_threshold) == (4, pytest.approx(0.65))  # four of 0, 0.05, ... 0.8
    assert (cup.threshold, cup.labels, cup.keypoint_threshold) == (0.0, 2, None)
    assert cup.as_dict(2)["enough_found"] is False
    assert person.as_dict(2)["labels_per_image"] == 0.5


def test_a_class_that_no_one_annotates_gets_no_labels() -> None:
    person, cup = choose_labels(FOUND, LABELS, {1: Rate(1.0)}, num_images=2)
    assert (cup.threshold, cup.labels, cup.detections) == (None, 0, 2)
    assert (person.labels, person.keypoints) == (2, 0)  # people place no keypoint, so none is kept
    assert person.keypoint_threshold is None


@pytest.mark.parametrize(
    ("change", "usable"), [({}, True), ({"bbox": [1, 1, 0, 4]}, False), ({"segmentation": mask(0, 0)}, False)]
)
def test_what_can_be_a_label(change: dict[str, Any], usable: bool) -> None:
    assert is_usable(detection(3, 1, 0.5) | change) is usable


def test_labels_are_sound_coco_with_their_origin(tmp_path: Path) -> None:
    chosen = choose_labels(FOUND, LABELS, {1: Rate(0.5, 4.0), 7: Rate(0.5)}, num_images=2)
    write_labels(tmp_path / "labels", IMAGES, LABELS, FOUND, chosen, {"rule": "of a test"})
    path = tmp_path / "labels" / ANNOTATIONS
    reading = read_file(path, None)
    assert reading.accept(0) == LABELS
    assert [problem for problem in reading.problems if problem.verdict != "suspect"] == []
    tree = json.loads(path.read_text())
    assert [(one["id"], one["image_id"], one["score"]) for one in tree["annotations"]] == [(1, 3, 0.95), (2, 5, 0.9)]
    person, cup = tree["annotations"]
    assert (person["area"], person["bbox"]) == (20.0, [1.0, 2.0, 5.0, 4.0])
    assert person["keypoints"][:3] == [0, 0, 0]
    assert person["keypoints"][-3:] == [21.0, 6.5, 2]
    assert person["num_keypoints"] == 4
    assert "keypoints" not in cup
    assert tree["info"]["distillation"] == {"rule": "of a test"}
    assert json.loads((tmp_path / "labels" / PROVENANCE).read_text()) == {"rule": "of a test"}


def test_labels_that_cannot_be_written_leave_nothing(tmp_path: Path) -> None:
    chosen = choose_labels(FOUND, LABELS, {1: Rate(1.0, 4.0), 7: Rate(1.0)}, num_images=2)
    broken = [*FOUND, {"image_id": 3, "results": [{"category_id": 1}]}]
    with pytest.raises(KeyError):
        write_labels(tmp_path / "labels", IMAGES, LABELS, broken, chosen, {})
    assert list(tmp_path.iterdir()) == []
