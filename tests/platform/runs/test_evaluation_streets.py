"""A model on a Cityscapes tree: the figures of its scripts from actors, a submission, and files that evaluate alike."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskray.model.build_model import build_model
from maskray.model.config import InputConfig, LabelMap, ModelConfig, ModelSpec
from maskray.platform.data.formats.cityscapes_labels import THING_IDS, THINGS
from maskray.platform.data.synthetic.street_tree import StreetSettings, synthesize_streets
from maskray.platform.evaluation.cityscapes_files import evaluate_cityscapes
from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.job.config import EvaluationConfig, ResourceConfig
from maskray.platform.runs.evaluation import evaluate_on_coco
from maskray.platform.runs.summary import RunSummary

NUM_IMAGES = 5
SMALL = {
    "backbone": {"name": "resnet18", "norm": "group_norm", "freeze_stages": 0, "fpn_channels": 16},
    "anchors": {"sizes": [16, 32, 64, 128, 256]},
    "rpn": {"pre_nms_top_n_test": 40, "post_nms_top_n_test": 60},
    "box_head": {"hidden_channels": 16},
    "mask_head": {"channels": 16, "num_convs": 1},
    "inference": {"score_threshold": 0.0, "detections_per_image": 30},
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize_streets(tmp_path_factory.mktemp("streets"), StreetSettings(NUM_IMAGES, 1, 64, 128), "val")


def write_model(folder: Path, names: tuple[str, ...]) -> Path:
    labels = LabelMap.model_validate({"categories": [{"id": k, "name": name} for k, name in enumerate(names, 1)]})
    config, size = ModelConfig.model_validate(SMALL), InputConfig(shorter_edge=64, longer_edge_max=128)
    torch.manual_seed(0)
    write_model_folder(
        folder, build_model(config, size, len(names)), ModelSpec(model=config, input=size, labels=labels)
    )
    return folder


def evaluate(model: Path, tree: Path, out: Path) -> RunSummary:
    resources = ResourceConfig(num_workers=1, num_evaluators=1)
    return evaluate_on_coco(
        str(model), tree / "gtFine/val", None, out, resources, protocol="cityscapes", submission=True
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_model_has_figures_and_a_submission_of_a_tree(
    tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        done = evaluate(write_model(tmp_path / "model", THINGS), tree, tmp_path / "out")
    official = evaluate_cityscapes(tree / "gtFine/val", tmp_path / "out/results.json")
    named = {name: value for name, value in done.metrics.items() if name.startswith("cityscapes/")}
    assert named == official.metrics
    assert set(done.metrics) > {"bbox/AP", "segm/AP", "segm/AP50", "cityscapes/AP", "cityscapes/AP50/car"}
    assert json.loads((tmp_path / "out/metrics.json").read_text()) == done.metrics
    report = (tmp_path / "out/report.html").read_text()
    assert "Cityscapes metrics, percent" in report
    assert done.submission == tmp_path / "out/submission"
    texts = sorted(done.submission.glob("*.txt"))
    assert [text.stem for text in texts] == [f"easttown_000000_{number:06d}" for number in range(NUM_IMAGES)]
    results = json.loads((tmp_path / "out/results.json").read_text())
    lines = [line.split(" ") for text in texts for line in text.read_text().splitlines()]
    assert 0 < len(lines) <= len(results)
    for path, label, score in lines:
        assert int(label) in THING_IDS.values()
        assert 0 <= float(score) <= 1
        with Image.open(done.submission / path) as mask:
            assert mask.size == (128, 64)
            assert np.asarray(mask).any()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_model_of_other_classes_writes_no_submission(tree: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", (*THINGS, "cat"))
    with pytest.raises(ValueError, match="submission: class 'cat' is none of Cityscapes"):
        evaluate(model, tree, tmp_path / "out")
    assert not (tmp_path / "out/submission").exists()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_split_without_objects_has_a_submission_and_no_figures(tree: Path, tmp_path: Path) -> None:
    """As the test split of Cityscapes is given out: void alone is annotated."""
    shutil.copytree(tree, tmp_path / "tree")
    for folder in ("leftImg8bit", "gtFine"):
        (tmp_path / "tree" / folder / "val").rename(tmp_path / "tree" / folder / "test")
    for file in (tmp_path / "tree").rglob("*_instanceIds.png"):
        Image.fromarray(np.full((64, 128), 3, dtype=np.uint16)).save(file)
    model, out = write_model(tmp_path / "model", THINGS), tmp_path / "out"
    resources = ResourceConfig(num_workers=1, num_evaluators=1)
    done = evaluate_on_coco(
        str(model), tmp_path / "tree/gtFine/test", None, out, resources, protocol="cityscapes", submission=True
    )
    assert set(done.metrics.values()) == {-1.0}
    assert len(list((out / "submission").glob("*.txt"))) == NUM_IMAGES
    assert list((out / "submission").rglob("*.png"))


def test_figures_of_masks_need_masks() -> None:
    for change in ({"protocol": "cityscapes"}, {"submission": True}):
        with pytest.raises(ValueError, match="is of masks: iou_types needs segm"):
            EvaluationConfig.model_validate({"iou_types": ["bbox"]} | change)


def test_figures_of_masks_are_not_those_of_boxes(tree: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", THINGS)
    with pytest.raises(ValueError, match=r"^protocol cityscapes is of masks: iou_types needs segm$"):
        evaluate_on_coco(
            str(model), tree / "gtFine/val", None, tmp_path / "out", ResourceConfig(), "bbox", protocol="cityscapes"
        )
    assert not (tmp_path / "out").exists()
