"""Each code of the validation is found where that mistake was made, all in one pass."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from maskray.platform.data.synthetic.dataset import SyntheticPaths
from maskray.platform.data.validate import validate_dataset


@pytest.mark.parametrize("kind", ["annotations", "keypoints"])
def test_synthetic_data_are_clean(drawn: SyntheticPaths, kind: str) -> None:
    report = validate_dataset(getattr(drawn, kind), drawn.images)
    assert report.problems == []
    assert report.counts["images decoded"] == report.counts["images"] == 23
    assert report.counts["polygon segmentations"] > 0


@pytest.mark.parametrize("name", ["instances_train2017", "instances_val2017", "person_keypoints_val2017"])
def test_official_data_are_clean(coco_sample: Path, name: str) -> None:
    report = validate_dataset(coco_sample / f"annotations/{name}.json", coco_sample / name.split("_")[-1])
    assert report.problems == []
    if name == "instances_val2017":
        assert (report.counts["annotations"], report.counts["crowds"]) == (348, 3)
        assert report.counts["images without annotations"] == 2


BOX = {"bbox": [10, 10, 20, 20], "area": 400, "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]]}
# Problem code, and what is changed in a sound annotation to earn it.
MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("dangling_category_id", {"category_id": 99}),
    ("dangling_image_id", {"image_id": 999}),
    ("bad_iscrowd", {"iscrowd": "no"}),
    ("bad_bbox", {"bbox": [1, 2, 3]}),
    ("bbox_computed", {"bbox": None}),
    ("outside_image", {"bbox": [130, 10, 30, 20], "segmentation": None}),
    ("zero_area", {"bbox": [10, 10, 0, 20], "segmentation": None}),
    ("box_outside_image", {"bbox": [110, 10, 30, 20], "segmentation": [[110, 10, 140, 10, 140, 30, 110, 30]]}),
    ("no_segmentation", {"segmentation": None}),
    ("bad_segmentation", {"segmentation": [[1, 2, 3, 4]]}),
    ("bad_segmentation", {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}),
    ("rle_mismatch", {"segmentation": {"size": [128, 96], "counts": [96 * 128]}}),
    ("rle_mismatch", {"segmentation": {"size": [96, 128], "counts": "0000000000"}}),
    ("box_segmentation_mismatch", {"bbox": [40, 40, 20, 20]}),
    ("area_mismatch", {"area": 800}),
    ("area_computed", {"area": None}),
    ("area_computed", {"area": "400"}),
    ("iscrowd_read", {"iscrowd": None}),
    ("id_as_float", {"image_id": 1.0}),
    ("keypoints_length", {"keypoints": [1, 2]}),
    ("keypoints_length", {"keypoints": [1, 2, 2, 0, 0, 0], "num_keypoints": 1}),
    ("keypoints_count", {"keypoints": [1, 2, 2] + [0] * 48, "num_keypoints": 2}),
]


def test_every_mistake_is_found_at_once(drawn: SyntheticPaths, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(drawn.images, images)
    tree = json.loads(drawn.keypoints.read_text())
    tree["images"] = json.loads(drawn.annotations.read_text())["images"]
    tree["annotations"] = [
        {"id": index, "image_id": 1, "category_id": 1, "iscrowd": 0} | BOX | change
        for index, (_, change) in enumerate(MISTAKES)
    ]
    tree["annotations"].append(tree["annotations"][0] | {"category_id": 1})
    tree["images"].append(tree["images"][2])
    tree["images"][3]["width"] += 1
    tree["images"][4]["height"] = None
    tree["images"][5]["file_name"] = "../outside.jpg"
    (images / tree["images"][6]["file_name"]).unlink()
    broken = images / tree["images"][7]["file_name"]
    broken.write_bytes(broken.read_bytes()[:-400])
    (images / tree["images"][8]["file_name"]).write_bytes(b"not an image")
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(tree))
    report = validate_dataset(path, images)
    found = {(problem.code, problem.annotation_id) for problem in report.problems if problem.annotation_id is not None}
    wanted = {(code, index) for index, (code, _) in enumerate(MISTAKES)} | {("duplicate_annotation_id", 0)}
    boxes_alone = {index for index, (code, _) in enumerate(MISTAKES) if code in ("outside_image", "zero_area")}
    assert found == wanted | {("no_segmentation", index) for index in boxes_alone}
    of_images = [(p.code, p.image_id) for p in report.problems if p.annotation_id is None]
    assert sorted(of_images) == sorted(
        [
            ("duplicate_image_id", 3),
            ("size_mismatch", 4),
            ("missing_key", 5),
            ("outside_folder", 6),
            ("missing_file", 7),
            ("unreadable_image", 8),
            ("unreadable_image", 9),
        ]
    )
    assert report.problem_counts["unreadable_image"] == 2
    assert "unreadable_image: image 8: " in "\n".join(map(str, report.problems))
    without = validate_dataset(path, images, check_images=False)
    assert without.counts["images decoded"] == 0
    assert "missing_file" not in without.problem_counts
