"""The plan of a distillation: its stages are priced, and pictures of data.val among the unlabelled ones stop it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from maskray.platform.data.synthetic.dataset import SyntheticPaths, synthesize
from maskray.platform.distill.distill_plan import distill_rows, plan_distillation
from maskray.platform.job.distill_config import DistillConfig
from maskray.platform.job.load import validate_tree


def plan(tree: dict[str, Any]) -> Any:
    return plan_distillation(validate_tree(DistillConfig, tree))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SyntheticPaths]:
    """Train and val of their own folders; names are the same numbers in both."""
    folder = tmp_path_factory.mktemp("drawn")
    return {
        split: synthesize(folder / split, count, seed, 64, 96, 3, split=split, classes=("square", "star"))
        for split, count, seed in (("train", 12, 1), ("val", 12, 2))
    }


def coco(paths: SyntheticPaths) -> dict[str, str]:
    return {"kind": "coco", "annotations": str(paths.annotations), "images": str(paths.images)}


@pytest.fixture
def files(tree: dict[str, Any], drawn: dict[str, SyntheticPaths], tmp_path: Path) -> dict[str, Any]:
    """The job on files, with copies of four pictures of its own as unlabelled ones."""
    tree["data"] = {split: coco(paths) for split, paths in drawn.items()}
    (tmp_path / "unlabelled").mkdir()
    extra = synthesize(tmp_path / "extra", 4, 9, 64, 96, 3, classes=("square", "star"))
    for path in extra.images.iterdir():
        (tmp_path / "unlabelled" / f"new-{path.name}").write_bytes(path.read_bytes())
    tree["distill"]["unlabelled"] = {"kind": "images", "path": str(tmp_path / "unlabelled")}
    return tree


def test_stages_are_priced(tree: dict[str, Any]) -> None:
    found = plan(tree)
    assert found.problems == ()
    assert (found.labelled_images, found.unlabelled_images, found.views) == (12, 120, 4)
    assert found.view_cost == pytest.approx(2 * ((48 / 64) ** 2 + 1))
    assert (found.labelled_per_batch, found.student.train_images) == (2, 132)
    assert found.student.epochs == pytest.approx(6 * 4 / 132)
    rows = dict(distill_rows(validate_tree(DistillConfig, tree), found)[0][1])
    assert rows["1 teacher"] == "trained first: 6 steps x 4 images of data.train (12)"
    assert rows["2 predict"].startswith("120 unlabelled images x 4 views, in all 3.12 times the pixels")
    assert rows["4 student"] == "6 steps x 4 images: 2 of data.train and 2 of the teacher's in every batch"
    json.dumps(found.as_dict())


def test_a_given_teacher_is_not_trained(tree: dict[str, Any]) -> None:
    tree["distill"]["teacher"] = "models:/maskray@champion"
    tree["data"]["train"]["num_images"] = 3  # fewer than a batch, of which the student needs two
    found = plan(tree)
    assert found.teacher is None
    assert found.problems == ()
    tree["distill"]["labelled_per_batch"] = 3
    tree["data"]["train"]["num_images"] = 2
    assert plan(tree).problems == ("distill.labelled_per_batch 3 is more than the 2 images",)


def test_an_epoch_counts_images_of_both_kinds(tree: dict[str, Any]) -> None:
    tree["train"] |= {"steps": None, "epochs": 2}
    assert plan(tree).student.steps == 66
    assert plan(tree).teacher.steps == 6


@pytest.mark.parametrize("same_names", ["refuse", "allow"])
def test_pictures_of_val_are_refused_by_their_bytes(
    files: dict[str, Any], drawn: dict[str, SyntheticPaths], tmp_path: Path, same_names: str
) -> None:
    assert plan(files).problems == ()
    for path in sorted(drawn["val"].images.iterdir()):
        (tmp_path / "unlabelled" / f"copy-{path.name}").write_bytes(path.read_bytes())
    files["distill"]["same_names"] = same_names
    (problem,) = plan(files).problems
    assert problem.startswith("distill.unlabelled: 12 images are in data.val too, by their bytes")
    assert "copy-000000.jpg, copy-000001.jpg" in problem
    assert "copy-000009.jpg and 2 more" in problem
    assert "copy-000010.jpg" not in problem


def test_pictures_of_the_names_of_val_are_refused_unless_names_say_nothing(
    files: dict[str, Any], tmp_path: Path
) -> None:
    path = next((tmp_path / "unlabelled").iterdir())
    path.rename(path.with_name("000003.jpg"))
    (problem,) = plan(files).problems
    assert problem.endswith("000003.jpg; leave them out; where names alone are the same, distill.same_names: allow")
    files["distill"]["same_names"] = "allow"
    assert plan(files).problems == ()


def test_neither_check_nor_run_starts_with_pictures_of_val(
    files: dict[str, Any], drawn: dict[str, SyntheticPaths], tmp_path: Path
) -> None:
    stolen = next(drawn["val"].images.iterdir())
    (tmp_path / "unlabelled" / "stolen.jpg").write_bytes(stolen.read_bytes())
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(files))
    for verb in ("check", "run"):
        arguments = [sys.executable, "-m", "maskray.platform.cli.main", verb, str(tmp_path / "job.yaml")]
        done = subprocess.run(arguments, capture_output=True, text=True)
        assert done.returncode == 1
        assert "1 images are in data.val too" in done.stdout
        assert "stolen.jpg" in done.stdout
    assert not (tmp_path / "outputs").exists()


def test_a_list_of_images_that_is_not_here_is_a_warning(tree: dict[str, Any], files: dict[str, Any]) -> None:
    files["distill"]["unlabelled"] = {"kind": "images", "path": "nowhere/images"}
    found = plan(files)
    assert found.problems == ()
    assert "distill.unlabelled: no nowhere/images on this machine" in found.warnings
    assert "distill.unlabelled is compared with data.val when the run begins" in found.warnings


def test_more_than_there_is_is_told(tree: dict[str, Any]) -> None:
    tree["distill"]["unlabelled"]["num_images"] = 1
    assert plan(tree).problems == ("distill.unlabelled: 2 of every batch are of its images, and there are 1",)
