"""What is refused before a model is read, and which precision is taken where the model leaves it open."""

from __future__ import annotations

import importlib.util
import re

import numpy as np
import pytest

from maskray.model.build_model import build_model
from maskray.model.config import ModelSpec
from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.inference.engine import Engine, check_engine, open_predictor
from maskray.platform.job.load import validate_tree
from maskray.platform.job.serve_config import ServeConfig


def spec_of(precision: str) -> ModelSpec:
    model = {
        "backbone": {"name": "resnet18", "stem_channels": 16, "res2_channels": 16, "fpn_channels": 16},
        "box_head": {"hidden_channels": 16},
        "masks": False,
        "inference": {"score_threshold": 0.0, "detections_per_image": 5, "precision": precision},
    }
    return ModelSpec.model_validate(
        {"model": model, "input": {"shorter_edge": 64}, "labels": {"categories": [{"id": 1, "name": "a"}]}}
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    network = build_model(spec_of("auto").model, spec_of("auto").input, 1)
    return {name: write_model_folder(folder / name, network, spec_of(name)) for name in ("auto", "float32", "bfloat16")}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_auto_computes_in_the_precision_that_it_is_given(folders, precision):
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    wanted = open_predictor(folders[precision]).predict([image], [1])
    assert open_predictor(folders["auto"], engine=Engine(precision=precision)).predict([image], [1]) == wanted


def test_auto_is_for_who_computes_alone_what_pays_here(folders, monkeypatch):
    import maskray.platform.inference.predictor as predictor
    from maskray.platform.machine.precision import Measurement

    asked = []

    def measured(device: str) -> Measurement:
        asked.append(device)
        return Measurement("a processor", 2.0, 1.0)

    monkeypatch.setattr(predictor, "measured_precision", measured)
    assert open_predictor(folders["auto"]).precision == "bfloat16"
    assert open_predictor(folders["float32"]).precision == "float32"
    assert asked == ["cpu"]


def test_a_runtime_that_is_not_installed_is_told(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))
    message = "runtime openvino needs openvino: pip install maskray[openvino]"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        open_predictor("nowhere", engine=Engine("openvino"))


def test_a_runtime_of_processors_computes_on_no_gpu():
    with pytest.raises(ValueError, match="runtime openvino computes on CPUs, gpus_per_replica is 1"):
        validate_tree(ServeConfig, {"runtime": "openvino", "gpus_per_replica": 1})


@pytest.mark.parametrize("device", ["foo", "CPU", "cuda:x", "mps", "", "cuda:0\n"])
def test_a_device_that_is_none_is_told(device):
    with pytest.raises(ValueError, match="cpu, cuda or cuda:NUMBER"):
        check_engine(Engine(), device)
