"""The configuration of a distillation: a training job and more; shares of a batch that cannot be are refused."""

from __future__ import annotations

from typing import Any

import pytest

from maskray.platform.job.distill_config import DistillConfig
from maskray.platform.job.load import validate_tree
from maskray.platform.job.places import move_job, read_paths

DRAWN = {"kind": "synthetic", "num_images": 9}


def make(images_per_batch: int = 16, data: Any = None, **distill: Any) -> DistillConfig:
    tree = {
        "name": "a", "kind": "distill", "data": {"train": DRAWN, "val": DRAWN} | (data or {}),
        "train": {"steps": 9, "images_per_batch": images_per_batch}, "resources": {"num_workers": 1},
        "distill": {"unlabelled": DRAWN, **distill},
    }  # fmt: skip
    return validate_tree(DistillConfig, tree)


@pytest.mark.parametrize(("size", "labelled"), [(16, 10), (10, 6), (4, 2), (3, 2), (2, 1)])
def test_six_of_ten_are_labelled_unless_told_otherwise(size: int, labelled: int) -> None:
    assert make(size).labelled_per_batch == labelled
    assert make(size, labelled_per_batch=1).labelled_per_batch == 1


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"images_per_batch": 1}, "has no room for images of both kinds"),
        ({"images_per_batch": 4, "labelled_per_batch": 4}, r"distill\.labelled_per_batch 4 leaves no image"),
        ({"data": {"labelled_per_batch": 2}}, r"of a distill job it is distill\.labelled_per_batch"),
        ({"same_names": "maybe"}, r"distill\.same_names: "),
        ({"unlabeled": DRAWN}, r"distill\.unlabeled: unknown key; did you mean unlabelled"),
    ],
)
def test_what_cannot_be_is_told_with_its_key(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make(**keys)


def test_what_a_cluster_has_to_see_is_named() -> None:
    unlabelled = {"kind": "images", "path": "pictures", "images": "there"}
    job = make(unlabelled=unlabelled, teacher="outputs/teacher")
    assert dict(read_paths(job)) == {
        "distill.unlabelled.path": "pictures",
        "distill.unlabelled.images": "there",
        "distill.teacher": "outputs/teacher",
    }
    assert dict(read_paths(make(teacher="models:/a@b"))) == {}
    moved = move_job(job, "auto")
    assert isinstance(moved, DistillConfig)
    assert moved.resources.address == "auto"
