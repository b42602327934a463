"""Models in Python find what `maskray predict` finds, in images of any kind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from separable_model import separable_model
from typer.testing import CliRunner

from maskray import api
from maskray.platform.cli.main import app
from maskray.platform.data.synthetic.dataset import SyntheticPaths
from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.inference.image_files import read_image
from maskray.platform.job.config import JobConfig, TrackingConfig
from maskray.platform.job.data_config import DataConfig, SyntheticSource
from maskray.platform.job.train_config import TrainConfig
from maskray.platform.registry.registration import register_model
from maskray.platform.registry.tracking import Tracking

NO_MASKS = {"masks": False}


def printed(*arguments: object) -> list[dict]:
    done = CliRunner().invoke(app, ["predict", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def entries(found: list[api.Objects]) -> list[dict]:
    return [entry for one in found for entry in one.to_coco()]


@pytest.mark.slow
def test_detections_are_those_of_predict(model: api.Model, folder: Path, drawn: SyntheticPaths) -> None:
    expected = printed(drawn.images, "--model", folder)
    found = model.predict(drawn.images)
    assert len(expected) > 20
    assert entries(found) == expected
    assert [one.path for one in found] == sorted(drawn.images.iterdir())
    least = sorted(entry["score"] for entry in expected)[10]
    above = printed(drawn.images, "--model", folder, "--score-threshold", least)
    assert entries(model.predict(drawn.images, score_threshold=least)) == above
    assert len(above) < len(expected)


def test_options_are_those_of_predict(folder: Path, drawn: SyntheticPaths) -> None:
    path = min(drawn.images.iterdir())
    looked = api.load_model(folder, tta=[96, 128]).predict(path)
    assert entries(looked) == printed(path, "--model", folder, "--tta", "96,128")


def test_an_image_is_the_same_as_path_array_and_picture(model: api.Model, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    turned = Image.fromarray(pixels)
    exif = turned.getexif()
    exif[0x0112] = 6  # a camera held upright
    path = tmp_path / "turned.jpg"
    turned.save(path, exif=exif)
    upright = read_image(path)
    assert upright.shape == (90, 60, 3)
    found = model.predict([path, str(path), upright, Image.open(path)])
    assert len({json.dumps([entry | {"image_id": 0} for entry in one.to_coco()]) for one in found}) == 1
    assert [one.path for one in found] == [path, path, None, None]
    assert [one.image_id for one in found] == [1, 2, 3, 4]
    assert [one.size for one in found] == [(90, 60)] * 4
    assert len(found[0]) > 0
    for one in found:
        np.testing.assert_array_equal(one.image, upright)


def test_gray_and_transparent_pictures_are_taken(model: api.Model, tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "P", "I;16"):
        picture = Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 50), dtype=np.uint8)).convert(mode)
        picture.save(tmp_path / "a.png")
        (of_file,), (of_picture,) = model.predict(tmp_path / "a.png"), model.predict(picture)
        assert of_file.to_coco() == of_picture.to_coco()


def test_one_image_gives_a_list_and_many_come_in_order(model: api.Model, drawn: SyntheticPaths) -> None:
    paths = sorted(drawn.images.iterdir(), reverse=True)
    assert [one.path for one in model.predict(path for path in paths)] == paths
    assert len(model.predict(paths[0])) == 1
    assert model.predict([]) == []


def test_images_of_data_keep_their_ids(model: api.Model, data: api.Data) -> None:
    found = model.predict(data.images)
    assert [(one.image_id, one.path) for one in found] == [(one.image_id, one.path) for one in data.images]


def test_a_model_of_keypoints_gives_them(tmp_path: Path, drawn: SyntheticPaths) -> None:
    network, spec = separable_model({"keypoints": True, "keypoint_head": {"channels": 16, "num_convs": 1}}, NO_MASKS)
    (found,) = api.load_model(write_model_folder(tmp_path / "points", network, spec)).predict(
        min(drawn.images.iterdir())
    )
    assert found.masks is None
    assert found.keypoints is not None
    assert found.keypoints.shape == (len(found), 17, 3)
    assert found.keypoints[0].ravel().tolist() == found.to_coco()[0]["keypoints"]


def test_what_is_no_image_is_told(model: api.Model, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    for image, line in (
        (tmp_path / "broken.png", r"broken\.png: image cannot be decoded"),
        (tmp_path / "none.png", r"none\.png: no such file"),
        (np.zeros((4, 5, 3), np.float32), r"float32 \(4, 5, 3\), not uint8"),
        (np.zeros((4, 5), np.uint8), r"uint8 \(4, 5\), not uint8 \(height"),
        (7, "int is no image"),
    ):
        with pytest.raises(ValueError, match=line):
            model.predict([image])
    with pytest.raises(ValueError, match="score_threshold 50: from 0 to 1"):
        model.predict([], score_threshold=50)


@pytest.mark.slow
def test_a_registered_model_is_found_by_its_alias(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: SyntheticPaths
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking = Tracking(TrackingConfig(), tmp_path)
    source = SyntheticSource(num_images=4)
    job = JobConfig(name="probe", data=DataConfig(train=source, val=source), train=TrainConfig(steps=10))
    version = register_model(tracking, tracking.start_run(job, {}), "shapes", folder, {})
    tracking.client.set_registered_model_alias("shapes", "champion", version)
    (path, *_) = sorted(drawn.images.iterdir())
    expected = api.load_model(folder).predict(path)[0].to_coco()
    assert api.load_model("models:/shapes@champion", output=tmp_path).predict(path)[0].to_coco() == expected
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    assert api.load_model("models:/shapes/1").predict(path)[0].to_coco() == expected


def test_a_model_says_what_it_is(model: api.Model, folder: Path, data: api.Data) -> None:
    assert model.classes == data.classes
    assert repr(model) == f"<model {folder}: 4 classes, on cpu>"
    assert model.device == "cpu"


def test_what_cannot_be_loaded_is_told(folder: Path, tmp_path: Path) -> None:
    for name, options, line in (
        (tmp_path / "none", {}, "no such model folder"),
        (folder, {"device": "gpu"}, "device 'gpu': cpu, cuda or cuda:NUMBER"),
        (folder, {"runtime": "tensorrt"}, "runtime 'tensorrt': torch or openvino"),
        (folder, {"precision": "int4"}, "precision 'int4': int8, or None"),
        (folder, {"precision": "int8"}, "precision int8 is of runtime openvino"),
        (folder, {"tta": [96, 8]}, "tta: size 2: "),
    ):
        with pytest.raises(ValueError, match=line):
            api.load_model(name, **options)


def test_an_array_may_be_a_view_turned_round(model: api.Model) -> None:
    """As OpenCV's BGR is turned to RGB."""
    pixels = np.random.default_rng(2).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    view, copied = model.predict([pixels[..., ::-1], np.ascontiguousarray(pixels[..., ::-1])])
    assert [entry | {"image_id": 0} for entry in view.to_coco()] == [
        entry | {"image_id": 0} for entry in copied.to_coco()
    ]
    assert len(view) > 0
    assert view.draw(0.0).shape == (60, 90, 3)
