"""A teacher that is there already: its folder or run is found, and one that cannot label for the student is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import SMALL_INPUT, SMALL_MODEL

from maskray.model.build_model import build_model
from maskray.model.config import Category, InputConfig, LabelMap, ModelConfig, ModelSpec
from maskray.platform.distill.distill_plan import weights_of_distillation
from maskray.platform.distill.given_teacher import check_teacher, find_teacher
from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.job.config import TrackingConfig
from maskray.platform.job.distill_config import DistillConfig
from maskray.platform.job.load import validate_tree
from maskray.platform.registry.tracking import Tracking

SHAPES = LabelMap(categories=(Category(id=4, name="square"), Category(id=9, name="star")))


def write_teacher(folder: Path, labels: LabelMap = SHAPES, **model: Any) -> Path:
    spec = ModelSpec(
        model=ModelConfig.model_validate(SMALL_MODEL | model), input=InputConfig(**SMALL_INPUT), labels=labels
    )
    torch.manual_seed(0)
    return Path(write_model_folder(folder, build_model(spec.model, spec.input, labels.num_classes), spec))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher") / "model")


def test_a_folder_is_a_teacher_of_its_classes_and_heads(teacher: Path, tree: dict[str, Any]) -> None:
    tree["distill"]["teacher"] = str(teacher)
    job = validate_tree(DistillConfig, tree)
    assert weights_of_distillation(job) == [("teacher", f"{teacher}: resnet18, 2 classes")]
    others = LabelMap(categories=(SHAPES.categories[0],))
    with pytest.raises(ValueError, match=r"^distill\.teacher: .*: its categories are not those of data\.train$"):
        check_teacher(str(teacher), job.model, others)
    tree["model"]["keypoints"] = True
    with pytest.raises(ValueError, match=r"finds no keypoints, and model\.keypoints is true"):
        check_teacher(str(teacher), validate_tree(DistillConfig, tree).model, None)


def test_a_teacher_of_boxes_gives_no_masks(tmp_path: Path, tree: dict[str, Any]) -> None:
    folder = write_teacher(tmp_path / "boxes", masks=False)
    tree["distill"]["teacher"] = str(folder)
    with pytest.raises(ValueError, match=r"finds no masks, and model\.masks is true"):
        weights_of_distillation(validate_tree(DistillConfig, tree))


def test_a_run_is_no_teacher_before_its_first_checkpoint(tmp_path: Path) -> None:
    source = "{kind: synthetic, num_images: 4}"
    text = f"name: a\ndata: {{train: {source}, val: {source}}}\ntrain: {{steps: 2}}\nresources: {{num_workers: 1}}\n"
    (tmp_path / "job.yaml").write_text(text)
    tracking = Tracking(TrackingConfig(), tmp_path)
    with pytest.raises(ValueError, match="a run without a complete checkpoint"):
        find_teacher(str(tmp_path), tracking)
    with pytest.raises(ValueError, match="nowhere: no such model folder"):
        find_teacher(str(tmp_path / "nowhere"), tracking)
