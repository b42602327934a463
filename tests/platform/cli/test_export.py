"""`maskray models export` from the outside: files that are taken again, and one line for what cannot be written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from click.testing import Result
from typer.testing import CliRunner

from maskray.model.build_model import build_model
from maskray.model.config import ModelSpec
from maskray.platform.cli.main import app
from maskray.platform.files.model_folder import read_model_folder, write_model_folder

SPEC = ModelSpec.model_validate(
    {
        "model": {
            "backbone": {"name": "resnet18", "norm": "group_norm", "fpn_channels": 16, "freeze_stages": 0},
            "box_head": {"hidden_channels": 16},
            "mask_head": {"channels": 16, "num_convs": 1},
            "inference": {"score_threshold": 0.0, "detections_per_image": 5},
        },
        "input": {"shorter_edge": 64, "longer_edge_max": 96},
        "labels": {"categories": [{"id": 1, "name": "circle"}, {"id": 5, "name": "square"}]},
    }
)


def export(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["models", "export", *map(str, arguments)])


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = build_model(SPEC.model, SPEC.input, SPEC.labels.num_classes)
    return write_model_folder(tmp_path_factory.mktemp("model") / "tiny", model, SPEC)


def test_a_file_of_ones_own(model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.safetensors"
    done = export(model_folder, "--to", "safetensors", "--out", out)
    assert done.exit_code == 0, done.output
    assert "resnet18, 2 classes" in done.stdout
    before, after = read_model_folder(model_folder)[0].state_dict(), read_model_folder(out)[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    command = [
        sys.executable,
        "-m",
        "maskray.platform.cli.main",
        "models",
        "export",
        out,
        "--to",
        "safetensors",
        "--out",
        out,
    ]
    again = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (again.returncode, again.stderr) == (1, f"error: {out}: exists already and is not overwritten\n")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_for_torchvision(tmp_path: Path, suffix: str) -> None:
    spec = ModelSpec.model_validate(
        {
            "model": {"backbone": {"name": "resnet18"}, "masks": False},
            "input": {},
            "labels": {"categories": [{"id": 4, "name": "circle"}]},
        }
    )
    model = build_model(spec.model, spec.input, 1)
    write_model_folder(tmp_path / "model", model, spec)
    out = tmp_path / f"model{suffix}"
    printed = export(tmp_path / "model", "--to", "torchvision", "--out", out)
    assert printed.exit_code == 0, printed.output
    assert "differs: roi_op.aligned is True, torchvision computes with False" in printed.output
    code = [line.strip() for line in printed.output.splitlines() if line.startswith("    ")]
    scope: dict[str, Any] = {"torch": torch, "safetensors": safetensors}
    exec("\n".join(code), scope)
    scores = scope["model"].state_dict()["roi_heads.box_predictor.cls_score.weight"]
    assert torch.equal(scores.roll(-1, 0), model.state_dict()["roi_heads.box_head.classifier.weight"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "safetensors", "--out", "tiny.pth"), "tiny.pth: --to safetensors writes .safetensors files"),
        (("--to", "onnx", "--out", "tiny.onnx"), "--to onnx needs --image-size H W"),
        (("--to", "safetensors", "--image-size", "64", "64", "--out", "tiny.safetensors"), "are of --to onnx alone"),
        (("--to", "torchvision", "--tolerance", "masks=1", "--out", "tiny.pth"), "are of --to onnx alone"),
        (
            ("--to", "onnx", "--image-size", "64", "70", "--out", "tiny.onnx"),
            "width 70 is not a positive multiple of 32",
        ),
        (("--to", "torchvision", "--out", "tiny.pth"), "torchvision's models of version 1 can only have"),
    ],
)
def test_what_cannot_be_written(model_folder: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    *options, name = arguments
    done = export(model_folder, *options, tmp_path / name)
    assert isinstance(done.exception, ValueError)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)
    assert list(tmp_path.iterdir()) == []
