"""Times by stage: of the very same prediction, in the order in which it happens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_network import SMALL_INPUT, SMALL_MODEL
from typer.testing import CliRunner

from maskray.model.build_model import build_model
from maskray.model.config import Category, LabelMap, ModelSpec
from maskray.platform.cli.main import app
from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.inference.predictor import Predictor
from maskray.platform.inference.stage_times import measure_stages, predict_in_stages, spread

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ["resize", "backbone", "proposals", "boxes", "masks", "keypoints", "paste and encode"]


def make_predictor(keypoints: bool) -> Predictor:
    names = ("nose", "left_eye", "right_eye") if keypoints else ()
    labels = LabelMap(categories=(Category(id=3, name="a", keypoints=names),))
    head = {"num_keypoints": 3, "channels": 16, "num_convs": 1}
    model = SMALL_MODEL | {"keypoints": keypoints, "keypoint_head": head}
    spec = ModelSpec.model_validate({"model": model, "input": SMALL_INPUT, "labels": labels.model_dump()})
    torch.manual_seed(0)
    return Predictor(build_model(spec.model, spec.input, 1).eval(), spec)


@pytest.mark.parametrize("keypoints", [False, True])
def test_stages_find_what_a_prediction_finds(keypoints: bool) -> None:
    predictor = make_predictor(keypoints)
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    found, seconds = predict_in_stages(predictor, image, 7)
    assert found
    assert found == predictor.predict([image], [7])[0]
    assert list(seconds) == [name for name in NAMES if keypoints or name != "keypoints"]
    images = [image, image[:60]]
    expected = [len(results) for results in predictor.predict(images, [1, 2])]
    times = measure_stages(predictor, images, 3, (1, 2))
    assert list(times.stages) == list(seconds)
    assert list(times.images_per_second) == [1, 2]
    assert (times.num_images, times.detections) == (2, sum(expected) / 2)
    assert all(0 < one.median <= one.p90 for one in [*times.stages.values(), times.whole])


def test_spread_by_hand() -> None:
    one = spread([float(value) for value in (5, 1, 2, 3, 4, 6, 7, 8, 10, 9)])
    assert (one.median, one.p90) == (5.5, 9.0)
    assert spread([2.0]).p90 == 2.0
    with pytest.raises(ValueError, match="at least one image"):
        measure_stages(make_predictor(False), [], 1, (1,))


def test_the_command_prints_stages_or_json(tmp_path: Path) -> None:
    predictor = make_predictor(False)
    write_model_folder(tmp_path / "model", predictor.model, predictor.spec)
    options = ["benchmark", str(tmp_path / "model"), "--repeats", "1", "--batch", "2"]
    shown = CliRunner().invoke(app, options)
    assert shown.exit_code == 0, shown.output
    for name in ["resize", "paste and encode", "rest", "images a second", "of 2 at once", "R101-FPN 195 ms"]:
        assert name in shown.output
    told = json.loads(CliRunner().invoke(app, [*options, "--json"]).stdout)
    assert list(told["images_per_second"]) == ["2"]
    assert told["peak_mb"] > 100
    refused = CliRunner().invoke(app, [*options, str(tmp_path / "none.jpg")])
    assert "none.jpg: no such file" in str(refused.exception)
