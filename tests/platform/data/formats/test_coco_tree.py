"""The one reading of COCO trees: read as meant, left out or refused, and alike by every reader."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from coco_trees import VALUES, make_tree, mutated_trees
from hypothesis import given, settings

from maskray.platform.data.formats.coco import build_dataset, dataset_of_tree, read_dataset
from maskray.platform.data.formats.coco_tree import Reading, read_tree
from maskray.platform.data.formats.problem import VERDICTS, allowed_annotations
from maskray.platform.data.formats.repair import repair_tree
from maskray.platform.data.validate import validate_tree
from maskray.platform.evaluation.results import read_ground_truth

OF_FILE_NAMES = {"outside_folder", "absolute_file_name", "backslash_file_name", "same_file"}
LEFT = {"no_segmentation"}  # told, and left as it is


def read(tree: Any) -> Reading:
    return read_tree("tree", tree, "images")


def codes(reading: Reading) -> list[str]:
    return [problem.code for problem in reading.problems]


def test_a_sound_tree_has_no_problems_and_keeps_what_it_says() -> None:
    tree = make_tree()
    reading = read(tree)
    assert reading.problems == []
    assert [image.image_id for image in reading.images] == [5, 2]
    polygon, crowd = reading.images[0].annotations
    assert polygon.segmentation is tree["annotations"][0]["segmentation"]
    assert crowd.segmentation is tree["annotations"][1]["segmentation"]
    assert (polygon.area, crowd.iscrowd) == (120.0, 1)
    assert reading.images[1].annotations[0].num_keypoints == 1


# What is changed in the first annotation, the code, and the field of the object with the value it is read as.
READ_AS_MEANT: list[tuple[dict[str, Any], str, str, Any]] = [
    ({"id": 1.0}, "id_as_float", "id", 1),
    ({"image_id": "5"}, "id_as_text", "id", 1),
    ({"category_id": 3.0}, "id_as_float", "category_id", 3),
    ({"iscrowd": "0"}, "iscrowd_read", "iscrowd", 0),
    ({"iscrowd": True}, "iscrowd_read", "iscrowd", 1),
    ({"iscrowd": None}, "iscrowd_read", "iscrowd", 0),
    ({"area": "big"}, "area_computed", "area", 120.0),
    ({"area": float("nan")}, "area_computed", "area", 120.0),
    ({"area": -1}, "area_computed", "area", 120.0),
    ({"area": 10**400}, "area_computed", "area", 120.0),
    ({"area": None, "segmentation": []}, "area_computed", "area", 120.0),
    ({"bbox": None}, "bbox_computed", "bbox", (2.0, 3.0, 10.0, 12.0)),
    (
        {"bbox": None, "segmentation": {"size": [30, 40], "counts": [33, 2, 1165]}},
        "bbox_computed",
        "bbox",
        (1, 3, 1, 2),
    ),
    ({"segmentation": None}, "no_segmentation", "segmentation", None),
    ({"segmentation": [[]]}, "no_segmentation", "segmentation", None),
    ({"segmentation": [2, 3, 12, 3, 12, 15]}, "flat_polygon", "segmentation", [[2, 3, 12, 3, 12, 15]]),
    ({"segmentation": [[2, 3], [2, 3, 12, 3, 12, 15]]}, "short_polygon", "segmentation", [[2, 3, 12, 3, 12, 15]]),
    ({"segmentation": [[2, 3, 12, 3, 12, 15]] * 3}, "duplicate_polygon", "segmentation", [[2, 3, 12, 3, 12, 15]]),
    (
        {"segmentation": {"size": [30.0, 40], "counts": [600.0, 600]}, "bbox": [20, 0, 20, 30]},
        "rle_as_float",
        "segmentation",
        {"size": [30, 40], "counts": [600, 600]},
    ),
    ({"num_keypoints": None}, "keypoints_counted", "num_keypoints", 0),
]


@pytest.mark.parametrize(("change", "code", "field", "value"), READ_AS_MEANT)
def test_what_is_plainly_meant_is_read_and_counted(change: dict[str, Any], code: str, field: str, value: Any) -> None:
    tree = make_tree()
    tree["annotations"][0] |= change
    reading = read(tree)
    assert code in codes(reading)
    assert {VERDICTS[found] for found in codes(reading)} <= {"read", "suspect"}
    assert getattr(reading.images[0].annotations[0], field) == value
    assert reading.refusal(0) is None


def test_categories_and_images_as_tools_write_them(tmp_path: Path) -> None:
    tree = make_tree()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.png").write_bytes(b"")
    tree["images"][0] |= {"file_name": "sub\\b.png", "width": 40.0}
    tree["images"][1] |= {"file_name": str(tmp_path / "sub/../a.png")}
    tree["categories"][0] |= {"id": 1.0, "skeleton": [[0, 1]]}
    tree["categories"][1] |= {"name": 7}
    reading = read_tree("tree", tree, tmp_path)
    assert sorted(codes(reading)) == sorted(
        [
            "id_as_float",
            "skeleton_from_zero",
            "name_as_number",
            "backslash_file_name",
            "size_as_float",
            "outside_folder",
        ]
    )
    tree["images"][1] |= {"file_name": str(tmp_path / "a.png")}
    reading = read_tree("tree", tree, tmp_path)
    assert [image.file_name for image in reading.images] == ["sub/b.png", "a.png"]
    labels = reading.accept(0)
    assert labels.names == ("person", "7")
    assert labels.categories[0].skeleton == ((1, 2),)


def test_what_is_suspicious_is_told_and_read() -> None:
    tree = make_tree()
    tree["categories"][1]["name"] = "person"
    tree["images"][1]["file_name"] = "b.png"
    tree["annotations"][0]["bbox"] = [35, 3, 10, 12]
    tree["annotations"][1]["bbox"] = [0, 0, 1, 1]
    assert sorted(codes(read(tree))) == ["box_outside_image", "same_category_name", "same_file", "small_coordinates"]
    assert read(tree).refusal(0) is None


def test_fractions_of_the_image_are_refused_by_name() -> None:
    tree = make_tree()
    for annotation in tree["annotations"]:
        annotation |= {"bbox": [0.1, 0.2, 0.5, 0.5], "segmentation": [[0.1, 0.2, 0.6, 0.2, 0.6, 0.7]]}
    assert "tree: image 5, annotation 1: bbox [0.1, 0.2, 0.5, 0.5]" in str(read(tree).refusal(0.5))
    assert "fractions of the image" in str(read(tree).refusal(0.5))
    for image in tree["images"]:
        image |= {"width": 4, "height": 4}  # objects of half a pixel are nothing odd there
    assert read(tree).refusal(0) is None
    tree = make_tree()
    tree["annotations"][0]["segmentation"] = [[0.1, 0.2, 0.6, 0.2, 0.6, 0.7]]  # the box is in pixels
    assert codes(read(tree)) == ["bad_segmentation"]


@pytest.mark.parametrize(
    ("most", "total", "allowed"),
    [(0, 1000, 0), (0.01, 10, 1), (0.01, 1000, 10), (0.5, 3, 1), (1, 1000, 1), (7, 3, 7)],
)
def test_the_budget(most: float, total: int, allowed: int) -> None:
    assert allowed_annotations(most, total) == allowed


def test_within_the_budget_an_object_is_left_out_and_listed() -> None:
    tree = make_tree()
    tree["annotations"][0]["bbox"] = [1, 2, float("nan"), 4]
    dataset = dataset_of_tree("tree", tree, "images")
    assert dataset.num_annotations == 2
    (problem,) = dataset.problems
    assert (problem.code, problem.image_id, problem.annotation_id) == ("bad_bbox", 5, 1)
    tree["annotations"][2]["bbox"] = "x"
    with pytest.raises(
        ValueError, match=r"2 of 3 annotations cannot be read, 1 may be left out .*annotation 1: .*; .*3"
    ):
        dataset_of_tree("tree", tree, "images")
    assert dataset_of_tree("tree", tree, "images", max_bad_annotations=2).num_annotations == 1


@settings(max_examples=400, deadline=None)
@given(mutated_trees() | mutated_trees() | mutated_trees() | VALUES)
def test_any_tree_is_read_or_refused_in_one_line_and_alike_by_every_reader(tmp_path_factory: Any, tree: Any) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = folder / "mutated.json"
    path.write_text(json.dumps(tree))
    verdicts: dict[str, str] = {}
    for name, call in (
        ("shard", lambda: read_dataset(path, folder)),
        ("evaluate", lambda: read_ground_truth(path, "bbox")),
    ):
        try:
            call()
        except ValueError as error:
            verdicts[name] = str(error)
            assert "\n" not in verdicts[name]
            assert verdicts[name].isprintable()
            assert len(verdicts[name]) < 1500
    reading = read_tree(str(path), json.loads(path.read_text()), folder)
    assert (reading.refusal(0.01) or None) == verdicts.get("shard")
    if "not_coco" not in codes(reading):
        report = validate_tree(str(path), json.loads(path.read_text()), folder, check_images=False)
        assert report.refusal == verdicts.get("shard")
        assert {VERDICTS[code] for code in report.problem_counts} <= set(VERDICTS.values())
    of_names = [problem for problem in reading.problems if problem.code in OF_FILE_NAMES or "file" in problem.message]
    if not of_names and "no_segmentation" not in verdicts.get("evaluate", ""):
        assert ("shard" in verdicts) == ("evaluate" in verdicts)


@settings(max_examples=300, deadline=None)
@given(mutated_trees())
def test_a_repaired_tree_is_read_as_it_stands_and_as_before(tree: Any) -> None:
    reading = read(tree)
    before = copy.deepcopy(tree)
    if reading.refusal(1000) is not None:
        if "not_coco" not in codes(reading):
            assert repair_tree(tree, reading, reading.problems).tree is None
        return
    repair = repair_tree(tree, reading, reading.problems)
    assert str(tree) == str(before)
    again = read(json.loads(json.dumps(repair.tree)))
    assert {VERDICTS[code] for code in codes(again) if code not in LEFT} <= {"suspect"}
    assert again.images == reading.images
    assert len(repair.changes) == sum(
        VERDICTS[code] in ("read", "dropped") for code in codes(reading) if code not in LEFT
    )
    source = json.dumps(repair.tree).encode()
    assert build_dataset(again, "images", source, 0).labels == reading.labels


def test_the_official_files_have_nothing_odd(shared: Any) -> None:
    folder = shared("data/coco-sample")
    for name in ("instances_train2017", "instances_val2017", "person_keypoints_val2017"):
        tree = json.loads((folder / f"annotations/{name}.json").read_bytes())
        assert [code for code in codes(read(tree)) if code not in LEFT] == []
