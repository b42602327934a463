"""Weights from torchvision's cache and from files, and what is said when they do not fit."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from maskray.model.build_model import build_model
from maskray.model.config import BackboneConfig, InputConfig, ModelConfig
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.weights import (
    cached_file,
    download_torchvision,
    read_state,
    rename_torchvision,
    weights_of_torchvision,
)


@pytest.mark.parametrize("form", ["safetensors", "folder", "pth", "pth under model"])
def test_files_are_read_whole(tiny_model: MaskRCNN, tmp_path: Path, form: str) -> None:
    state = tiny_model.state_dict()
    if form in ("safetensors", "folder"):
        path = tmp_path / "model.safetensors"
        save_file(state, path)
        path = tmp_path if form == "folder" else path
    else:
        path = tmp_path / "weights.pth"
        torch.save({"model": state, "step": 3} if form == "pth under model" else state, path)
    found = read_state(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in found.items())


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
    (tmp_path / "weights.bin").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("cut.safetensors", "not a readable safetensors file"),
        ("cut.pth", "not readable as tensors"),
        ("code.pth", r"not readable as tensors \(Unsupported global: GLOBAL eval"),
        ("noise.pth", r"not readable as tensors \(at position 0, opcode .* unknown\)"),
        ("numbers.pth", "holds no state dict"),
        ("weights.bin", r"weights are .safetensors or .pth files, not .bin"),
        ("nothing.pth", "no such weights"),
        ("empty", "no such weights"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            read_state(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "weights_only" not in str(caught.value)  # torch's advice to run what the file holds
    assert "stranger" not in capsys.readouterr().out


def test_torchvision_weights_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    weights = torchvision.models.ResNet18_Weights.DEFAULT
    monkeypatch.setattr(torch.hub, "HASH_REGEX", torch.hub.re.compile("(?!)"))  # random weights have no known hash
    reference = torchvision.models.resnet18(weights=None)
    assert cached_file(weights) == tmp_path / "checkpoints" / Path(weights.url).name
    cached_file(weights).parent.mkdir()
    torch.save(reference.state_dict(), cached_file(weights))
    state, file = download_torchvision("resnet18")
    assert file == cached_file(weights)
    stem = rename_torchvision(state)["backbone.resnet.stem.conv1.conv.weight"]
    assert torch.equal(stem, reference.conv1.weight)


def test_a_file_cut_short_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    file = cached_file(torchvision.models.ResNet18_Weights.DEFAULT)
    file.parent.mkdir()
    file.write_bytes(b"PK")
    with pytest.raises(ValueError, match=rf"{file.name} is not usable .*put a whole copy into") as caught:
        download_torchvision("resnet18")
    assert "\n" not in str(caught.value)


def test_a_download_that_fails_says_which_file_goes_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ValueError, match=r"put the file resnet18-\w+\.pth into") as caught:
        download_torchvision("resnet18")
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
    with pytest.raises(ValueError, match=r"torchvision:resnext152_32x8d: torchvision has no weights of this network"):
        weights_of_torchvision("resnext152_32x8d")


def test_a_pth_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    inner: list[Any] = []
    for _ in range(60):
        inner = [inner, inner]
    torch.save({"model": inner}, tmp_path / "new.pth")
    torch.save({"model": inner}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("new.pth", "old.pth"):
        with pytest.raises(ValueError, match=rf"{name}: not readable as tensors \(more than 5000000 values"):
            read_state(tmp_path / name)
    torch.save({"a": torch.zeros(3_000_000)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for part in plain.infolist():
            packed.writestr(part.filename, plain.read(part))
    with pytest.raises(ValueError, match=r"packed\.pth: not readable as tensors \(its parts are packed"):
        read_state(tmp_path / "packed.pth")


def test_old_files_of_torch_are_read(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3.0)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_state(tmp_path / "old.pth")["a"].tolist() == [0, 1, 2]
