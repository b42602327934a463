"""A model in one .safetensors file: it is taken wherever a model folder is, and nothing else is taken for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from maskray.model.build_model import build_model
from maskray.model.config import ModelSpec
from maskray.model.transfer import transfer
from maskray.platform.files.atomic import new_file
from maskray.platform.files.initial_weights import open_source
from maskray.platform.files.model_folder import (
    read_model_folder,
    read_model_spec,
    read_weights,
    write_model_file,
    write_model_folder,
)
from maskray.platform.registry.models import resolve_model
from maskray.platform.registry.registration import register_model

SPEC = ModelSpec.model_validate(
    {
        "model": {
            "backbone": {"name": "resnet18", "norm": "group_norm", "freeze_stages": 0, "fpn_channels": 16},
            "box_head": {"hidden_channels": 16},
            "masks": False,
        },
        "input": {"shorter_edge": 64, "longer_edge_max": 96},
        "labels": {"categories": [{"id": 3, "name": "circle"}, {"id": 8, "name": "Dreieck für ▲"}]},
    }
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return build_model(SPEC.model, SPEC.input, SPEC.labels.num_classes)


@pytest.fixture
def file(model, tmp_path):
    path = tmp_path / "whole.safetensors"
    write_model_file(path, model, SPEC)
    return path


def test_a_file_is_read_as_a_folder_is(model, file):
    read, spec = read_model_folder(file)
    assert spec == SPEC == read_model_spec(str(file))
    assert not read.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor), name
    assert resolve_model(str(file)) == str(file)


def test_a_file_gives_initial_weights(model, file):
    other = build_model(SPEC.model, SPEC.input, 2)
    taken = transfer(other, SPEC.input, SPEC.labels, open_source(str(file)), {})
    assert all((row.anew, row.left) == (0, 0) for row in taken.parts)
    assert torch.equal(other.state_dict()["rpn.head.convs.0.weight"], model.state_dict()["rpn.head.convs.0.weight"])


def test_the_weights_of_a_folder_are_a_whole_model_by_themselves(model, tmp_path):
    folder = write_model_folder(tmp_path / "model", model, SPEC)
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes((folder / "model.safetensors").read_bytes())
    assert read_model_folder(moved)[1] == SPEC


def test_a_folder_from_before_has_no_description_in_its_weights(model, tmp_path):
    folder = write_model_folder(tmp_path / "model", model, SPEC)
    path = folder / "model.safetensors"
    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata()
    del metadata["spec"]
    save_file(load_file(path), path, metadata=metadata)
    assert read_model_folder(folder)[1] == SPEC
    with pytest.raises(ValueError, match=r"model\.safetensors: holds weights and no description of their model"):
        read_model_folder(path)


@pytest.mark.parametrize("kept", [0, 7, 3000, -1])
def test_a_truncated_file_is_an_error_of_one_line(file, kept):
    file.write_bytes(file.read_bytes()[:kept])
    for read in (read_model_folder, read_model_spec, read_weights, resolve_model):
        with pytest.raises(ValueError, match=r"whole\.safetensors: damaged or cut short") as caught:
            read(str(file))
        assert "\n" not in str(caught.value)


def test_a_foreign_file_is_refused(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(2)}, foreign, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="format 'pt', this version reads 'maskray-1'"):
        read_model_folder(foreign)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" * 99)
    with pytest.raises(ValueError, match=r"photo\.jpg: damaged or cut short"):
        resolve_model(str(tmp_path / "photo.jpg"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree["model"]["anchors"].update(sizes=[8, 16, 32, 64, 128]), "another description than the one"),
        (lambda tree: tree.update(format=2), "not a model description: format: Input should be 1"),
    ],
)
def test_a_changed_description_is_refused(file, change, message):
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    tree = json.loads(metadata["spec"])
    change(tree)
    save_file(load_file(file), file, metadata=metadata | {"spec": json.dumps(tree)})
    with pytest.raises(ValueError, match=message):
        read_model_folder(file)


def test_a_file_is_not_registered(file):
    with pytest.raises(ValueError, match="a model folder is registered, not a file"):
        register_model(None, "run", "name", file, {})


def test_a_new_file_is_whole_or_absent_and_overwrites_nothing(tmp_path):
    path = tmp_path / "deep" / "file.bin"

    def write(path: Path, meanwhile: Callable[[], object] = lambda: None) -> None:
        with new_file(path) as temporary:
            assert temporary.suffix == path.suffix
            temporary.write_bytes(b"mine")
            assert not path.exists()
            meanwhile()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, interrupt)
    assert list(path.parent.iterdir()) == []
    write(path)
    assert path.read_bytes() == b"mine"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]
    with pytest.raises(ValueError, match=r"file\.bin: exists already"):
        write(path, lambda: pytest.fail("the block is not entered"))
    late = tmp_path / "late"
    with pytest.raises(ValueError, match=r"late: exists already"):
        write(late, lambda: late.write_bytes(b"theirs"))  # another process was quicker
    assert late.read_bytes() == b"theirs"
