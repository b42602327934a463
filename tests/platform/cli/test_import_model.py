"""`maskray models import` from the outside: folders that rebuild by themselves, and one line for what is no model."""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import resnet18
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FrozenBatchNorm2d
from typer.testing import CliRunner

from maskray.model.array_pickle import load_arrays
from maskray.model.torchvision_names import read_torchvision
from maskray.model.weights import cached_file, weights_of_torchvision
from maskray.platform.cli.main import app
from maskray.platform.files.model_folder import read_model_folder


def import_model(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["models", "import", *map(str, arguments)])


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A narrow Mask R-CNN of torchvision for three classes."""
    torch.manual_seed(0)
    stages = {f"layer{number}": str(number - 1) for number in (1, 2, 3, 4)}
    model = MaskRCNN(
        BackboneWithFPN(resnet18(norm_layer=FrozenBatchNorm2d), stages, [64, 128, 256, 512], 8),
        box_head=TwoMLPHead(8 * 49, 16),
        box_predictor=FastRCNNPredictor(16, 4),
        mask_head=MaskRCNNHeads(8, (8,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(8, 8, 4),
    )
    return dict(model.state_dict())


@pytest.fixture(scope="module")
def file(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As torchvision's training script leaves it, with its arguments."""
    path = tmp_path_factory.mktemp("weights") / "model_25.pth"
    torch.save({"model": state, "epoch": 25, "args": argparse.Namespace(lr=0.02, data_path="coco")}, path)
    return path


@pytest.mark.parametrize("form", ["checkpoint", "state dict", "safetensors"])
def test_the_folder_rebuilds_by_itself(state: dict[str, Tensor], file: Path, tmp_path: Path, form: str) -> None:
    if form == "state dict":
        file = tmp_path / "model.pth"
        torch.save(state, file)
    elif form == "safetensors":
        file = tmp_path / "model.safetensors"
        save_file(state, file)
    out = tmp_path / "imported"
    done = import_model(file, "--from", "torchvision", "--out", out, "--shorter-edge", 96, "--longer-edge-max", 160)
    assert done.exit_code == 0, done.exception
    assert done.stdout.splitlines() == [
        f"{out}: resnet18 fpn, 3 classes, boxes and masks",
        "assumed: epsilon of the backbone's normalisation 1e-05",
        "assumed: categories numbered: the file has no names for them",
    ]
    model, spec = read_model_folder(out)
    wanted = read_torchvision(state, shorter_edge=96, longer_edge_max=160)
    assert spec.model == wanted.model
    assert spec.input == wanted.input
    assert spec.labels.names == ("class_1", "class_2", "class_3")
    stored = model.state_dict()
    assert stored.keys() == wanted.tensors.keys()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in wanted.tensors.items())


def test_names_and_epsilon_are_taken(file: Path, tmp_path: Path) -> None:
    categories = [{"id": 7, "name": "cup"}, {"id": 3, "name": "fork"}, {"id": 5, "name": "pan"}]
    coco = tmp_path / "annotations.json"
    coco.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    order = tmp_path / "labels.json"
    order.write_text(json.dumps({"categories": categories}))
    for labels, names in ((coco, ("fork", "pan", "cup")), (order, ("cup", "fork", "pan"))):
        out = tmp_path / labels.stem
        done = import_model(file, "--from", "torchvision", "--out", out, "--labels", labels, "--norm-eps", 0)
        assert done.exit_code == 0, done.exception
        spec = read_model_folder(out)[1]
        assert spec.labels.names == names
        assert spec.model.backbone.norm_eps == 0
    # The folder's own description serves as well.
    done = import_model(
        file, "--from", "torchvision", "--out", tmp_path / "third", "--labels", tmp_path / "labels" / "model.json"
    )
    assert done.exit_code == 0, done.exception
    assert read_model_folder(tmp_path / "third")[1].labels.names == names


def test_a_model_of_detectron2(tmp_path: Path, shared: Callable[[str], Path]) -> None:
    file = shared("data/detectron2-parity/keypoint_r50_fpn.pkl")
    out = tmp_path / "imported"
    done = import_model(file, "--from", "detectron2", "--out", out)
    assert done.exit_code == 0, done.exception
    first, *notes = done.stdout.splitlines()
    assert first == f"{out}: resnet50 fpn, 1 classes, boxes and keypoints"
    assert [note.partition("(")[0] for note in notes] == [
        "assumed: stride of the bottlenecks in the 1x1 convolution",
        "assumed: pixel mean ",
        "assumed: categories COCO's, by their number",
    ]
    model, spec = read_model_folder(out)
    assert spec.labels.names == ("person",)
    assert len(spec.labels.categories[0].keypoints) == spec.model.keypoint_head.num_keypoints == 17
    theirs = load_arrays(file.read_bytes())["model"]["roi_heads.box_head.fc1.weight"]
    assert torch.equal(model.state_dict()["roi_heads.box_head.fc1.weight"], theirs)
    # A .pth of its trainer is the same model.
    torch.save({"model": load_arrays(file.read_bytes())["model"], "iteration": 9}, tmp_path / "model_final.pth")
    assert import_model(tmp_path / "model_final.pth", "--from", "detectron2", "--out", tmp_path / "b").exit_code == 0
    assert (tmp_path / "b" / "model.json").read_text() == (out / "model.json").read_text()


class Dangerous:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (subprocess.getoutput, ("echo code of a stranger",))


def test_what_cannot_be_read_leaves_one_line_and_nothing_else(
    state: dict[str, Tensor], file: Path, tmp_path: Path
) -> None:
    (tmp_path / "cut.pth").write_bytes(file.read_bytes()[:50_000])
    (tmp_path / "cut.pkl").write_bytes(pickle.dumps({"model": {"a": np.zeros(500)}})[:-40])
    (tmp_path / "code.pkl").write_bytes(pickle.dumps({"model": Dangerous()}))
    (tmp_path / "numbers.pkl").write_bytes(pickle.dumps({"model": {"a": 1}}))
    torch.save({"model": Dangerous()}, tmp_path / "code.pth")
    torch.save({**state, "extra.weight": torch.zeros(1)}, tmp_path / "extra.pth")
    torch.save({name: tensor for name, tensor in state.items() if "fc7.bias" not in name}, tmp_path / "less.pth")
    (tmp_path / "two.json").write_text(json.dumps({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}))
    (tmp_path / "wrong.json").write_text(json.dumps({"categories": [{"id": "x", "name": "a"}]}))
    before = sorted(tmp_path.iterdir())
    for name, library, options, message in (
        ("cut.pth", "torchvision", (), "not readable as tensors"),
        ("cut.pkl", "detectron2", (), "not a whole pickle of arrays"),
        ("code.pkl", "detectron2", (), "it asks for subprocess.getoutput, which is no array"),
        ("numbers.pkl", "detectron2", (), "holds no state dict"),
        ("code.pth", "torchvision", (), "not readable as tensors"),
        ("extra.pth", "torchvision", (), "1 of .* tensors are of no model that maskray has: extra.weight"),
        ("less.pth", "torchvision", (), "1 tensors are missing: roi_heads.box_head.fc2.bias"),
        ("extra.pth", "detectron2", (), "its tensors bear the names of torchvision, not of detectron2"),
        ("nothing.pth", "torchvision", (), "no such weights"),
        ("nothing.pkl", "detectron2", (), "cannot be read: No such file"),
        (".", "torchvision", (), "is a folder"),
        (file, "torchvision", ("--labels", tmp_path / "two.json"), "the model has 3 classes, the label map 2"),
        (file, "torchvision", ("--labels", tmp_path / "wrong.json"), "wrong.json: no label map: categories.0.id"),
        (
            file,
            "torchvision",
            ("--shorter-edge", 2000),
            r"model_25.pth: longer_edge_max 1333 is below shorter_edge 2000$",
        ),
        (file, "torchvision", ("--norm-eps", -1), "model_25.pth: backbone.norm_eps: .* greater than or equal to 0"),
        ("cut.pkl", "detectron2", ("--norm-eps", 0), "it is for torchvision's"),
    ):
        done = import_model(tmp_path / name, "--from", library, "--out", tmp_path / "out", *options)
        assert done.exit_code == 1
        assert isinstance(done.exception, ValueError), name
        with pytest.raises(ValueError, match=message):
            raise done.exception
        assert "\n" not in str(done.exception)
        assert "stranger" not in done.output
        assert sorted(tmp_path.iterdir()) == before


def test_a_process_says_so_on_stderr_and_overwrites_nothing(file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    command = [sys.executable, "-m", "maskray.platform.cli.main", "models", "import", file, "--from", "torchvision"]
    done = subprocess.run([*command, "--out", tmp_path], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path}: exists already; a model folder is never overwritten\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_model_that_torchvision_publishes_is_taken_by_its_name(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "HASH_REGEX", torch.hub.re.compile("(?!)"))  # other weights have another hash
    name = "maskrcnn_resnet50_fpn"
    file = cached_file(weights_of_torchvision(name))
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    done = import_model(f"torchvision:{name}", "--out", tmp_path / "imported")
    assert done.exit_code == 0, done.exception
    assert "assumed: epsilon of the backbone's normalisation 0" in done.stdout  # which the name of the file tells
    refused = import_model(file, "--out", tmp_path / "other")
    assert "say whose it is: --from torchvision or --from detectron2" in str(refused.exception)
