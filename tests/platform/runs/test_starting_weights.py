"""What a job takes of its initial weights, told before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from maskray.model.build_model import build_model
from maskray.model.config import Category, InputConfig, LabelMap, ModelConfig, ModelSpec
from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.job.config import JobConfig
from maskray.platform.runs.starting_weights import explain_weights, start_weights

MODEL = {
    "backbone": {"name": "resnet18", "norm": "group_norm", "freeze_stages": 0, "fpn_channels": 8},
    "box_head": {"hidden_channels": 8},
    "mask_head": {"channels": 8, "num_convs": 1},
}


def make_job(weights: str | None, **changes: Any) -> JobConfig:
    image = {"kind": "synthetic", "num_images": 4, "classes": ["square", "star"]}
    train = {"steps": 1, "images_per_batch": 2, "initial_weights": weights, **changes}
    return JobConfig.model_validate(
        {"name": "a", "data": {"train": image, "val": image}, "model": MODEL, "train": train}
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A detector of three classes, one of which the job has."""
    labels = LabelMap(
        categories=tuple(Category(id=number, name=name) for number, name in enumerate(("a", "Star", "c")))
    )
    spec = ModelSpec(model=ModelConfig.model_validate(MODEL), input=InputConfig(), labels=labels)
    torch.manual_seed(0)
    model = build_model(spec.model, spec.input, 3)
    return str(write_model_folder(tmp_path_factory.mktemp("weights") / "model", model, spec))


def test_classes_are_known_before_the_data_are_read(source: str) -> None:
    taken = explain_weights(make_job(source))
    assert taken is not None
    assert taken.classes == {"square": None, "star": "Star"}
    assert all(row.left == 0 for row in taken.parts)
    assert explain_weights(make_job(None)) is None
    assert explain_weights(make_job(source, class_names={"square": "c"})).classes["square"] == "c"  # type: ignore[union-attr]


def test_a_new_run_tells_the_table_and_one_that_goes_on_does_not(source: str, tmp_path: Path) -> None:
    labels = LabelMap(categories=(Category(id=1, name="star"),))
    told: list[str] = []
    tracking: Any = None  # which only registered models ask
    ready, text = start_weights(make_job(source), labels, tracking, tmp_path, False, told.append)
    assert ready.train.initial_weights == source
    assert text.splitlines() == told
    assert told[0] == f"weights of {source}"
    assert "  classes taken: star" in told
    assert start_weights(make_job(source), labels, tracking, tmp_path, True, told.append) == (make_job(source), "")
    assert start_weights(make_job(None), labels, tracking, tmp_path, False, told.append) == (make_job(None), "")


def test_mistakes_are_told_before_anything_starts(source: str) -> None:
    for weights, changes, message in (
        ("gone.pth", {}, "gone.pth: no such weights"),
        ("torchvision:resnet18", {}, "not weights of a resnet18 as here"),  # batch norm into group norm
        (source, {"class_names": {"square": "z"}}, "has no class 'z', only a, Star, c"),
        (source, {"class_names": {"z": "a"}}, "the data have no category 'z', only square, star"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            explain_weights(make_job(weights, **changes))
        assert "\n" not in str(caught.value)


def test_data_that_are_not_here_leave_the_classes_open(source: str) -> None:
    job = make_job(source)
    gone = {"kind": "coco", "annotations": "/nowhere/a.json", "images": "/nowhere"}
    elsewhere = JobConfig.model_validate(job.model_dump() | {"data": {"train": gone, "val": gone}})
    taken = explain_weights(elsewhere)
    assert taken is not None
    assert taken.classes == {}
    assert {row.note for row in taken.parts if row.anew} == {"by name, once the data are read"}
