"""Weights from torchvision's cache and from files, and what is said when they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from maskray.model.build_model import build_model
from maskray.model.config import BackboneConfig, InputConfig, ModelConfig
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.weights import load_weights, rename_torchvision


@pytest.fixture
def other(tiny_config: ModelConfig) -> MaskRCNN:
    torch.manual_seed(99)
    return build_model(tiny_config, InputConfig(), num_classes=2)


@pytest.mark.parametrize("form", ["safetensors", "folder", "pth", "pth under model"])
def test_files_load_whole(tiny_model: MaskRCNN, other: MaskRCNN, tmp_path: Path, form: str) -> None:
    state = other.state_dict()
    if form in ("safetensors", "folder"):
        path = tmp_path / "model.safetensors"
        save_file(state, path)
        path = tmp_path if form == "folder" else path
    else:
        path = tmp_path / "weights.pth"
        torch.save({"model": state, "step": 3} if form == "pth under model" else state, path)
    report = load_weights(tiny_model, str(path))
    assert report.loaded == sorted(state)
    assert (report.missing, report.unexpected) == ([], [])
    assert all(torch.equal(value, state[name]) for name, value in tiny_model.state_dict().items())
    assert str(report) == f"weights of {path}: {len(state)} loaded, 0 missing, 0 unexpected"


def test_missing_and_unexpected_names_are_reported(tiny_model: MaskRCNN, other: MaskRCNN, tmp_path: Path) -> None:
    state = other.state_dict()
    kept = tiny_model.state_dict()["rpn.head.convs.0.weight"].clone()
    del state["rpn.head.convs.0.weight"]
    state["extra.weight"] = torch.zeros(1)
    save_file(state, tmp_path / "part.safetensors")
    report = load_weights(tiny_model, str(tmp_path / "part.safetensors"))
    assert (report.missing, report.unexpected) == (["rpn.head.convs.0.weight"], ["extra.weight"])
    assert torch.equal(tiny_model.state_dict()["rpn.head.convs.0.weight"], kept)


def test_another_shape_names_the_key_and_changes_nothing(
    tiny_model: MaskRCNN, tiny_config: ModelConfig, tmp_path: Path
) -> None:
    save_file(build_model(tiny_config, InputConfig(), 5).state_dict(), tmp_path / "five.safetensors")
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    with pytest.raises(ValueError, match=r"classifier.bias has shape \(6,\), the model needs \(3,\)"):
        load_weights(tiny_model, str(tmp_path / "five.safetensors"))
    assert all(torch.equal(value, before[name]) for name, value in tiny_model.state_dict().items())


class Dangerous:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("print('code of a stranger')",))


def test_unusable_files_are_named(tiny_model: MaskRCNN, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = tmp_path / "whole.safetensors"
    save_file(tiny_model.state_dict(), whole)
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:1000])
    torch.save(tiny_model.state_dict(), tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:5000])
    torch.save({"model": Dangerous()}, tmp_path / "code.pth")
    (tmp_path / "noise.pth").write_bytes(bytes(range(44, 256)))
    torch.save({"a": 1}, tmp_path / "numbers.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "foreign.pth")
    (tmp_path / "weights.bin").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("cut.safetensors", "not a readable safetensors file"),
        ("cut.pth", "not readable as tensors"),
        ("code.pth", r"not readable as tensors \(Unsupported global: GLOBAL eval"),
        ("noise.pth", r"not readable as tensors \(Unsupported"),
        ("numbers.pth", "holds no state dict"),
        ("foreign.pth", "none of its 1 names fits the model, e.g. 'a'"),
        ("weights.bin", r"weights are .safetensors or .pth files, not .bin"),
        ("nothing.pth", "no such weights"),
        ("empty", "no such weights"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            load_weights(tiny_model, str(tmp_path / name))
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "weights_only" not in str(caught.value)  # torch's advice to run what the file holds
    assert "stranger" not in capsys.readouterr().out


@pytest.fixture
def imagenet_model() -> MaskRCNN:
    return build_model(ModelConfig(backbone=BackboneConfig(name="resnet18", fpn_channels=8)), InputConfig(), 2)


def test_torchvision_weights_from_its_cache(
    imagenet_model: MaskRCNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    weights = torchvision.models.ResNet18_Weights.DEFAULT
    monkeypatch.setattr(torch.hub, "HASH_REGEX", torch.hub.re.compile("(?!)"))  # random weights have no known hash
    reference = torchvision.models.resnet18(weights=None)
    (tmp_path / "checkpoints").mkdir()
    torch.save(reference.state_dict(), tmp_path / "checkpoints" / Path(weights.url).name)
    report = load_weights(imagenet_model, "torchvision:resnet18")
    assert report.unexpected == []
    assert not [name for name in report.missing if name.startswith("backbone.resnet")]
    stem = imagenet_model.state_dict()["backbone.resnet.stem.conv1.conv.weight"]
    assert torch.equal(stem, reference.conv1.weight)


def test_a_download_that_fails_says_which_file_goes_where(
    imagenet_model: MaskRCNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ValueError, match=r"put the file resnet18-\w+\.pth into") as caught:
        load_weights(imagenet_model, "torchvision:resnet18")
    assert str(tmp_path / "checkpoints") in str(caught.value)


@pytest.mark.parametrize("name", ["resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"])
def test_weights_of_a_resnext_have_their_places(name: Literal["resnext50_32x4d"]) -> None:
    with torch.device("meta"):
        theirs = rename_torchvision(getattr(torchvision.models, name)(weights=None).state_dict())
        model = build_model(ModelConfig(backbone=BackboneConfig(name=name)), InputConfig(), 2)
    ours = {key: value for key, value in model.state_dict().items() if key.startswith("backbone.resnet.")}
    theirs = {key: value for key, value in theirs.items() if not key.endswith("num_batches_tracked")}
    assert {key: value.shape for key, value in theirs.items()} == {key: value.shape for key, value in ours.items()}
    assert torchvision.models.get_model_weights(name).DEFAULT.url.endswith(".pth")


def test_torchvision_has_no_weights_of_other_resnexts() -> None:
    with torch.device("meta"):
        model = build_model(ModelConfig(backbone=BackboneConfig(name="resnext152_32x8d")), InputConfig(), 2)
    with pytest.raises(ValueError, match=r"torchvision:resnext152_32x8d: torchvision has no weights of this network"):
        load_weights(model, "torchvision:resnext152_32x8d")


def test_torchvision_weights_must_suit_the_backbone(imagenet_model: MaskRCNN, tiny_model: MaskRCNN) -> None:
    with pytest.raises(ValueError, match="the backbone is resnet18, so its weights are torchvision:resnet18"):
        load_weights(imagenet_model, "torchvision:resnet50")
    with pytest.raises(ValueError, match=r"backbone.norm is group_norm"):
        load_weights(tiny_model, "torchvision:resnet18")
