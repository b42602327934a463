"""`maskray new`: a job from a data set, which can run as it is; nothing is overwritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from maskray.platform.cli.main import app
from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.job.config import JobConfig
from maskray.platform.job.kinds import load_any, plan_any

CLASSES = ("circle", "square", "rare")


def new(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["new", *map(str, arguments)])


def write_data(folder: Path, num_images: int = 10, **changes: Any) -> Path:
    """A COCO file beside a folder of its images; of the last class there are two objects."""
    (folder / "images").mkdir(parents=True)
    tree: dict[str, Any] = {
        "images": [], "annotations": [],
        "categories": [{"id": 2 * number + 1, "name": name} for number, name in enumerate(CLASSES)],
    }  # fmt: skip
    for number in range(num_images):
        Image.new("RGB", (80, 60), (number, 90, 90)).save(folder / "images" / f"{number}.png")
        tree["images"].append({"id": number + 1, "file_name": f"{number}.png", "width": 80, "height": 60})
        for category in (1, 3, *((5,) if number < 2 else ())):
            x = 5.0 + category
            box = [x, 10.0, 20.0, 20.0]
            polygon = [x, 10.0, x + 20, 10.0, x + 20, 30.0, x, 30.0]
            entry = {"id": len(tree["annotations"]) + 1, "image_id": number + 1, "category_id": category, "bbox": box}
            tree["annotations"].append(entry | {"area": 400.0, "iscrowd": 0, "segmentation": [polygon]} | changes)
    (folder / "annotations.json").write_text(json.dumps(tree))
    return folder / "annotations.json"


def load(path: Path) -> JobConfig:
    job = load_any(path)
    assert isinstance(job, JobConfig)
    return job


def test_one_file_is_divided_once_with_every_class_in_both_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "set")
    done = new("shapes.yaml", "--data", "set", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "shapes-data: 8 images for training, 2 for validation" in done.output
    assert "masks of 3 classes; run it: maskray run shapes.yaml" in done.output
    job = load(tmp_path / "shapes.yaml")
    assert plan_any(job).problems == ()
    seen = []
    for part, count in (("train", 8), ("val", 2)):
        dataset = read_dataset(f"shapes-data/{part}.json", "set/images")
        assert len(dataset.images) == count
        assert {annotation.category_id for image in dataset.images for annotation in image.annotations} == {1, 3, 5}
        seen += [image.image_id for image in dataset.images]
    assert sorted(seen) == list(range(1, 11))
    before = (tmp_path / "shapes.yaml").read_bytes()
    again = new("shapes.yaml", "--data", "set")
    assert "shapes.yaml: exists already" in str(again.exception)
    (tmp_path / "shapes.yaml").unlink()
    taken = new("shapes.yaml", "--data", "set")
    assert "shapes-data: exists already" in str(taken.exception)
    assert not (tmp_path / "shapes.yaml").exists()
    assert b"Ten evaluations" in before


def test_two_files_and_the_splits_of_a_format_are_taken_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "a")
    write_data(tmp_path / "b", 3)
    done = new("two.yaml", "--data", "a/annotations.json", "--val", "b")
    assert done.exit_code == 0, done.output
    job = load(tmp_path / "two.yaml")
    assert (job.data.train.kind, job.data.val.kind) == ("files", "files")
    plan = plan_any(job)
    assert (plan.as_dict()["train_images"], plan.as_dict()["val_images"]) == (10, 3)
    (tmp_path / "json").mkdir()
    for name in ("a", "b"):
        (tmp_path / name / "annotations.json").rename(tmp_path / "json" / f"{name}.json")
    apart = ("--data", "json/a.json", "--val", "json/b.json", "--images", "a/images")
    for number, options in enumerate(((), ("--val-images", "b/images"))):
        done = new(f"apart{number}.yaml", *apart, *options)
        assert done.exit_code == 0, done.output
        assert load(tmp_path / f"apart{number}.yaml").data.val.images == ("b/images" if options else "a/images")
    (tmp_path / "json/a.json").rename(tmp_path / "a/annotations.json")
    made = CliRunner().invoke(app, ["data", "convert", "a", "--to", "yolo", "--out", "yolo"])
    assert made.exit_code == 0, made.output
    for kind in ("images", "labels"):
        (tmp_path / "yolo" / kind / "val").mkdir(exist_ok=True)
        for path in sorted((tmp_path / "yolo" / kind / "train").iterdir())[:4]:
            path.rename(tmp_path / "yolo" / kind / "val" / path.name)
    described = (tmp_path / "yolo" / "data.yaml").read_text()
    if "val:" not in described:
        (tmp_path / "yolo" / "data.yaml").write_text(described + "val: images/val\n")
    done = new("yolo.yaml", "--data", "yolo", "--task", "boxes")
    assert done.exit_code == 0, done.output
    plan = plan_any(load(tmp_path / "yolo.yaml"))
    assert (plan.as_dict()["train_images"], plan.as_dict()["val_images"]) == (6, 4)


@pytest.mark.parametrize(("lacking", "rule"), [(1, "boxes_only"), (5, "error")])
def test_a_few_objects_without_a_mask_need_no_edit(
    lacking: int, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "a")
    path = write_data(tmp_path / "b")
    tree = json.loads(path.read_text())
    for entry in tree["annotations"][:lacking]:
        entry["segmentation"] = []
    path.write_text(json.dumps(tree))
    done = new("few.yaml", "--data", "a", "--val", "b")
    text = (tmp_path / "few.yaml").read_text()
    assert load(tmp_path / "few.yaml").data.objects_without_masks == rule
    assert (f"{lacking} annotations have no mask: they train boxes alone" in text) == (rule == "boxes_only")
    assert done.exit_code == (0 if rule == "boxes_only" else 1)
    assert ("no segmentation, and masks are wanted (5 of 22" in done.output) == (rule == "error")


def test_weights_bring_their_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    write_data(tmp_path / "set")
    done = new("shapes.yaml", "--data", "set", "--weights", "torchvision:maskrcnn_resnet50_fpn")
    assert done.exit_code == 0, done.output
    job = load(tmp_path / "shapes.yaml")
    assert job.train.initial_weights == "torchvision:maskrcnn_resnet50_fpn"
    assert job.model.backbone.norm == "frozen_batch_norm"
    assert job.input.resize == "bilinear"
    checked = CliRunner().invoke(app, ["check", "shapes.yaml"])
    assert checked.exit_code == 0, checked.output
    for shown in (checked.output, done.output):
        assert "classes anew" in shown


def test_what_cannot_be_trained_is_told_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "set")
    write_data(tmp_path / "boxes", segmentation=[])
    write_data(tmp_path / "one", 1)
    write_data(tmp_path / "crowds", iscrowd=1)
    (tmp_path / "nothing").mkdir()
    for arguments, message in (
        (("--data", "nothing"), "no annotations of a known format"),
        (("--data", "gone"), "no such file or folder"),
        (("--data", "boxes", "--task", "masks"), "objects have a mask; take --task boxes"),
        (("--data", "set", "--task", "keypoints"), "the data need one class, with names of its keypoints"),
        (("--data", "one"), "one image cannot be divided"),
        (("--data", "crowds"), "has an object"),
        (("--data", "set", "--weights", "gone.pth"), "no such weights"),
    ):
        done = new("job.yaml", *arguments)
        assert message in str(done.exception), arguments
        assert "\n" not in str(done.exception)
        assert not (tmp_path / "job.yaml").exists()
        assert not (tmp_path / "job-data").exists(), arguments
    assert "is not a plain name" in str(new("a b.yaml", "--data", "set").exception)
    boxes = new("job.yaml", "--data", "boxes")
    assert boxes.exit_code == 0, boxes.output
    assert load(tmp_path / "job.yaml").evaluation.iou_types == ("bbox",)
