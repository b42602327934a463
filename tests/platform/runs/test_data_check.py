"""What a plan tells of the annotation files of a job, without Ray and without an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from maskray.platform.job.config import JobConfig
from maskray.platform.job.data_config import FilesSource
from maskray.platform.runs.data_check import examine_data, plan_with_data


@pytest.fixture
def job(tmp_path: Path) -> JobConfig:
    """A job on train.json and val.json, each of four images with an object."""
    for split in ("train", "val"):
        (tmp_path / f"{split}.json").write_text(json.dumps(make_tree()))
    sources = {
        split: {"kind": "coco", "annotations": str(tmp_path / f"{split}.json"), "images": str(tmp_path)}
        for split in ("train", "val")
    }
    return JobConfig.model_validate({"name": "a", "data": sources, "train": {"steps": 2, "images_per_batch": 2}})


def make_tree() -> dict[str, Any]:
    ids = range(1, 5)
    polygon = [[2, 2, 12, 2, 12, 12, 2, 12]]
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in ids],
        "categories": [{"id": 1, "name": "c1"}, {"id": 2, "name": "c2"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [2, 2, 10, 10], "area": 100, "iscrowd": 0,
             "segmentation": polygon}
            for i in ids
        ],
    }  # fmt: skip


def change(job: JobConfig, split: str, **keys: Any) -> None:
    """Change the first annotation of a split."""
    path = Path(getattr(job.data, split).annotations)
    tree = json.loads(path.read_text())
    tree["annotations"][0] |= keys
    path.write_text(json.dumps(tree))


def with_data(job: JobConfig, **keys: Any) -> JobConfig:
    return job.model_copy(update={"data": job.data.model_copy(update=keys)})


def test_sound_data_add_nothing_to_a_plan(job: JobConfig) -> None:
    found = examine_data(job)
    assert (found.problems, found.warnings) == ([], [])
    assert plan_with_data(job).val_images == 4


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("segmentation", [[], None, [[]]])
def test_objects_without_masks_are_told(job: JobConfig, split: str, segmentation: Any) -> None:
    change(job, split, segmentation=segmentation)
    (problem,) = plan_with_data(job).problems
    path = getattr(job.data, split).annotations
    assert problem.startswith(
        f"data.{split}: {path}: image 1, annotation 1: no segmentation, and masks are wanted (1 of 4"
    )
    dropping = with_data(job, objects_without_masks="drop")
    assert plan_with_data(dropping).problems == ()
    warning = (
        problem.partition("(1 of 4 annotations have none)")[0] + "(1 of 4 annotations have none): they are left out"
    )
    assert warning in plan_with_data(dropping).warnings
    boxes = job.model_copy(update={"model": job.model.model_copy(update={"masks": False})})
    boxes = boxes.model_copy(update={"evaluation": boxes.evaluation.model_copy(update={"iou_types": ("bbox",)})})
    assert plan_with_data(boxes).problems == ()


def test_val_of_a_mask_model_evaluated_by_boxes_needs_no_masks(job: JobConfig) -> None:
    change(job, "val", segmentation=None)
    boxes = job.model_copy(update={"evaluation": job.evaluation.model_copy(update={"iou_types": ("bbox",)})})
    assert examine_data(boxes).problems == []


def test_what_is_left_out_warns_and_too_much_of_it_stops(job: JobConfig) -> None:
    change(job, "train", bbox=[1, 2, 3])
    (warning,) = examine_data(job).warnings
    assert "would be left out: 1 bad_bbox; image 1, annotation 1: bbox is [1, 2, 3]" in warning
    (problem,) = examine_data(with_data(job, max_bad_annotations=0.0)).problems
    assert "1 of 4 annotations cannot be read, 0 may be left out" in problem


def test_no_objects_at_all_are_told(job: JobConfig) -> None:
    path = Path(job.data.train.annotations)  # type: ignore[union-attr]
    path.write_text(json.dumps(make_tree() | {"annotations": []}))
    assert examine_data(job).problems == [f"data.train: {path}: no object is left to train on"]


def test_categories_are_compared(job: JobConfig) -> None:
    path = Path(job.data.val.annotations)  # type: ignore[union-attr]
    tree = make_tree()
    tree["categories"] = tree["categories"][1:]
    tree["annotations"] = [entry for entry in tree["annotations"] if entry["category_id"] == 2]
    path.write_text(json.dumps(tree))
    assert examine_data(job).warnings == ["data.val lacks c1: the categories of data.train are taken for both"]
    tree["categories"][0]["name"] = "other"
    path.write_text(json.dumps(tree))
    assert examine_data(job).problems == [
        "data.val: its categories are not those of data.train: id 2 is 'other', there 'c2'"
    ]


def test_what_is_not_here_or_elsewhere_is_left_to_the_run(job: JobConfig, tmp_path: Path) -> None:
    (tmp_path / "train.json").unlink()
    remote = job.data.val.model_copy(update={"annotations": "s3://bucket/val.json"})
    found = examine_data(with_data(job, val=remote))
    assert (found.problems, found.warnings) == ([], [])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "annotations.xml",
            '<annotations><image id="0" name="a.png" width="x"/></annotations>',
            "are not whole numbers",
        ),
        ("data.yaml", "", "not keys and values"),
        ("a.json", '{"images": [', "not JSON"),
    ],
)
def test_data_that_cannot_be_read_are_told_once(
    job: JobConfig, tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / name).write_text(content)
    source: Any = FilesSource(path=str(tmp_path / "bad"))
    if name == "a.json":
        source = job.data.train.model_copy(update={"annotations": str(tmp_path / "bad" / name)})
    plan = plan_with_data(with_data(job, train=source))
    (problem,) = plan.problems
    assert problem.startswith(f"data.train: {tmp_path}")
    assert message in problem
    assert (plan.train_images, plan.val_images) == (None, 4)
