"""Model folders: what is written is what is read, and nothing else is read as one."""

import hashlib
import json
import multiprocessing
import os
import signal
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from maskray.model.build_model import build_model
from maskray.model.config import BackboneConfig, Category, InputConfig, LabelMap, ModelConfig, ModelSpec
from maskray.platform.files.model_folder import (
    _check_sizes,
    read_model_folder,
    read_model_spec,
    read_weights,
    write_model_folder,
)


def small_spec(num_classes=2):
    model = ModelConfig(
        backbone=BackboneConfig(name="resnet18", norm="group_norm", freeze_stages=0, fpn_channels=16),
        box_head={"hidden_channels": 16},
        mask_head={"channels": 16, "num_convs": 1},
    )
    labels = LabelMap(categories=tuple(Category(id=10 + k, name=f"class {k}") for k in range(num_classes)))
    return ModelSpec(model=model, input=InputConfig(shorter_edge=64, longer_edge_max=96), labels=labels)


@pytest.fixture(scope="module")
def model_and_spec():
    spec = small_spec()
    torch.manual_seed(3)
    return build_model(spec.model, spec.input, spec.labels.num_classes), spec


@pytest.fixture
def folder(model_and_spec, tmp_path):
    return write_model_folder(tmp_path / "model", *model_and_spec)


def test_reads_back_every_tensor_and_the_spec(folder, model_and_spec):
    model, spec = model_and_spec
    read, read_spec = read_model_folder(folder)
    assert read_spec == spec
    assert not read.training
    state = read.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["model"], "a temporary folder is left"


def test_channels_last_and_sliced_tensors_are_stored_by_value(tmp_path, spec):
    model = nn.Conv2d(8, 4, 3).to(memory_format=torch.channels_last)
    model.register_buffer("part", torch.arange(10.0)[3:5])
    write_model_folder(tmp_path / "model", model, spec)
    stored = read_weights(tmp_path / "model")
    assert torch.equal(stored["weight"], model.weight)
    assert stored["part"].tolist() == [3.0, 4.0]


def test_existing_folder_is_not_overwritten(folder, model_and_spec):
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="exists already"):
        write_model_folder(folder, *model_and_spec)
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        read_model_folder(folder)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="absent: no such model folder"):
        read_model_folder(tmp_path / "absent")


@pytest.mark.parametrize("kept", [0, 7, 200, -1])
def test_truncated_weights_are_an_error(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged or cut short") as caught:
        read_model_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a model description"),
        ('{"format": 1, "model": {', "not a model description"),
        ("[]", "not a model description"),
        ('{"format": 2}', "format: Input should be 1"),
        ("\x00\xff", "not a model description"),
    ],
)
def test_damaged_description_is_an_error_of_one_line(folder, text, message):
    (folder / "model.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message) as caught:
        read_model_spec(folder)
    assert "\n" not in str(caught.value)


def test_description_of_another_model_is_refused(folder):
    """Other anchors fit the same shapes, so only the checksum can tell."""
    tree = json.loads((folder / "model.json").read_text())
    tree["model"]["anchors"]["sizes"] = [8.0, 16.0, 32.0, 64.0, 128.0]
    (folder / "model.json").write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=r"written with another model\.json"):
        read_model_folder(folder)


def test_weights_of_another_program_are_refused(folder):
    path = folder / "model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="format 'pt'"):
        read_model_folder(folder)


def test_mismatching_tensors_are_named(tmp_path, model_and_spec):
    model, spec = model_and_spec
    write_model_folder(tmp_path / "wide", model, small_spec(num_classes=3))
    with pytest.raises(ValueError, match=r"is float32 \[.*\], the model wants float32 \["):
        read_model_folder(tmp_path / "wide")
    write_model_folder(tmp_path / "half", nn.Linear(2, 2), spec)
    with pytest.raises(ValueError, match=r"lacks .* tensors that the model has"):
        read_model_folder(tmp_path / "half")


def test_additional_tensors_are_named(tmp_path, model_and_spec):
    _, spec = model_and_spec
    more = build_model(spec.model, spec.input, spec.labels.num_classes)
    more.register_buffer("surplus", torch.zeros(1))
    write_model_folder(tmp_path / "more", more, spec)
    with pytest.raises(ValueError, match="holds 1 tensors that the model lacks, the first is surplus"):
        read_model_folder(tmp_path / "more")


def _write_until_killed(parent, spec, ready):
    number = 0
    model = nn.Linear(2000, 2000)
    while True:
        write_model_folder(f"{parent}/{number}", model, spec)
        number += 1
        ready.set()


def test_killed_writer_leaves_whole_folders_only(tmp_path, spec):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    writer = context.Process(target=_write_until_killed, args=(str(tmp_path), spec, ready), daemon=True)
    writer.start()
    assert ready.wait(600)
    until = time.monotonic() + 300
    while not any(path.name.startswith(".") for path in tmp_path.iterdir()):  # the next one is being written
        assert time.monotonic() < until
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    visible = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert visible
    for path in visible:
        read_model_spec(path)
        assert read_weights(path)["weight"].shape == (2000, 2000)


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("mask_head", "channels", 10**12, "model.mask_head.channels: Input should be less than or equal to 16384"),
        ("rpn", "num_convs", 10**6, "model.rpn.num_convs: Input should be less than or equal to 256"),
        ("box_head", "hidden_channels", 16_384, r"fc1\.weight is float32 \[16, 784\], the model wants .*16384"),
        ("mask_head", "num_convs", 256, "lacks .* tensors that the model has"),
        ("backbone", "fpn_channels", 16_384, "the model wants"),
        ("anchors", "aspect_ratios", [1.0] * 1000, "model.anchors.aspect_ratios: Tuple should have at most 100"),
    ],
)
def test_a_description_of_a_giant_is_refused_before_it_is_built(folder, monkeypatch, part, key, value, message):
    """Both files say so, as one writes them who knows the checksum."""
    tree = json.loads((folder / "model.json").read_text())
    tree["model"][part][key] = value
    text = json.dumps(tree)
    (folder / "model.json").write_text(text)
    metadata = {"format": "maskray-1", "spec_sha256": hashlib.sha256(text.encode()).hexdigest()}
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors", metadata=metadata)
    on = []

    def build_watched(*arguments):
        on.append(torch.get_default_device().type)
        return build_model(*arguments)

    monkeypatch.setattr("maskray.platform.files.model_folder.build_model", build_watched)
    with pytest.raises(ValueError, match=message) as caught:
        read_model_folder(folder)
    assert "\n" not in str(caught.value)
    assert set(on) <= {"meta"}


def test_a_network_that_cannot_be_built_empty_is_measured_without_itself(folder, monkeypatch):
    spec = read_model_spec(folder)

    def build_or_not(model, *rest):
        if torch.get_default_device().type == "meta" and model.backbone.name != "resnet18":
            raise NotImplementedError("a value of a tensor without memory")
        return build_model(model, *rest)

    monkeypatch.setattr("maskray.platform.files.model_folder.build_model", build_or_not)
    timm = spec.model.backbone.model_copy(update={"name": "timm:any"})
    _check_sizes(folder, spec.model_copy(update={"model": spec.model.model_copy(update={"backbone": timm})}))
    wide = spec.model.mask_head.model_copy(update={"channels": 512})
    with pytest.raises(ValueError, match=r"the model wants .*512"):
        _check_sizes(
            folder,
            spec.model_copy(update={"model": spec.model.model_copy(update={"backbone": timm, "mask_head": wide})}),
        )


def test_a_description_of_a_gigabyte_is_not_read(folder):
    with (folder / "model.json").open("r+b") as file:
        file.truncate(10**9)
    with pytest.raises(ValueError, match=r"model\.json: 1000000000 bytes are too many"):
        read_model_spec(folder)
