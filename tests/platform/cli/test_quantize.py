"""`maskray models quantize` and what is computed with its ranges, from the outside."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from separable_model import SMALL_MASKS, separable_model
from typer.testing import CliRunner

from maskray.platform.cli.main import app
from maskray.platform.data.synthetic.dataset import synthesize
from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.inference.engine import Engine
from maskray.platform.job.load import validate_tree
from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.cluster.deploy import locate_files
from maskray.platform.serve.http.responses import ModelName
from maskray.platform.serve.model.loaded_model import load_model

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES = ("circle", "square", "triangle", "cross")


def command(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory, drawn):
    model, spec = separable_model({"backbone": {"fpn_channels": 16}, "box_head": {"hidden_channels": 16}}, SMALL_MASKS)
    torch.manual_seed(1)
    for name, value in model.named_parameters():
        if name.endswith("bias"):
            value.data.normal_(std=0.01)
    known = json.loads(drawn.annotations.read_text())["categories"]
    categories = [{"id": category["id"], "name": category["name"]} for category in known]
    spec = spec.model_validate(spec.model_dump() | {"labels": {"categories": categories}})
    return write_model_folder(tmp_path_factory.mktemp("models") / "tiny", model, spec)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return synthesize(tmp_path_factory.mktemp("drawn"), 5, 1, 64, 96, 3, "train", classes=CLASSES)


@pytest.mark.slow
def test_ranges_are_measured_told_and_computed_with(model_folder, drawn, tmp_path):
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    arguments = ("models", "quantize", model_folder, "--images", drawn.images, "--gt", drawn.annotations)
    arguments += ("--out", tmp_path / "ranges", "--measure", 2, "--threads", 1)
    done = command(*arguments, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    (path,) = (tmp_path / "ranges").iterdir()
    assert told["ranges"] == str(path)
    assert (told["images_measured"], told["images_compared"], told["compared_on_measured"]) == (2, 3, False)
    assert set(told["metrics"]) == {"bbox/AP", "segm/AP"}
    assert len(json.loads(path.read_text())["layers"]) == told["layers"] == 35
    before = path.read_bytes()
    again = command(*arguments)
    assert again.exit_code == 1
    assert "exists" in str(again.exception)
    assert path.read_bytes() == before

    image = next(iter(sorted(drawn.images.iterdir())))
    options = ("predict", image, "--model", model_folder, "--runtime", "openvino", "--json")
    wide, narrow = command(*options), command(*options, "--precision", "int8", "--ranges", tmp_path / "ranges")
    assert narrow.exit_code == 0, narrow.output
    scores = [[one["score"] for one in json.loads(found.stdout)] for found in (wide, narrow)]
    assert scores[0] != scores[1]
    np.testing.assert_allclose(scores[0][:3], scores[1][:3], atol=0.05)
    loaded = load_model(str(model_folder), ModelName("a", "1"), "cpu", Engine("openvino", int8=True, ranges=str(path.parent)))  # fmt: skip  # noqa: E501
    assert loaded.model.version == "1"


def test_a_version_without_ranges_is_told_in_a_line(model_folder, tmp_path):
    """To who predicts, and to the alias watcher, who keeps the version that answers."""
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    line = (
        r"int8-\w{16}\.json: there are no ranges of the weights of .*tiny for precision int8; `maskray models quantize`"
    )
    with pytest.raises(ValueError, match=line):
        load_model(str(model_folder), ModelName("a", "2"), "cpu", Engine("openvino", int8=True, ranges=str(tmp_path)))
    Image.new("RGB", (64, 64)).save(tmp_path / "grey.png")
    options = ("predict", tmp_path / "grey.png", "--model", model_folder, "--precision", "int8")
    with pytest.raises(ValueError, match=line):
        raise command(*options, "--runtime", "openvino").exception
    with pytest.raises(ValueError, match="precision int8 is of runtime openvino, not of torch"):
        raise command(*options).exception


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"precision": "int8"}, "precision int8 is of runtime openvino, not of torch"),
        ({"runtime": "openvino", "ranges": "there"}, "ranges are of precision int8, which is not asked for"),
        ({"runtime": "openvino", "precision": "int4"}, "precision"),
    ],
)
def test_a_server_that_cannot_be_is_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        validate_tree(ServeConfig, keys)


def test_the_folder_of_ranges_of_a_server_is_found_from_everywhere(tmp_path, monkeypatch):
    (tmp_path / "ranges").mkdir()
    monkeypatch.chdir(tmp_path)
    keys = {"runtime": "openvino", "precision": "int8", "ranges": "ranges"}
    assert locate_files(validate_tree(ServeConfig, keys)).ranges == str(tmp_path / "ranges")
    with pytest.raises(ValueError, match=r"serve\.ranges: there is no folder absent"):
        locate_files(validate_tree(ServeConfig, keys | {"ranges": "absent"}))


def test_ranges_of_a_registered_model_are_not_left_in_a_cache(tmp_path):
    done = command("models", "quantize", "models:/shapes@champion", "--images", tmp_path)
    assert "--out names a folder" in str(done.exception)
