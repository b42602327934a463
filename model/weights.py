"""Reads weights: torchvision's own, .safetensors and .pth files, model folders; no pickled code runs."""

from __future__ import annotations

import argparse
import io
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskray.model.pickle_check import check_pickle

# Of files from before torch 1.6: magic number, version, system, the state dict, names of its storages.
LEGACY_PICKLES = 5
TORCHVISION_PREFIX = "torchvision:"
WEIGHTS_FILE = "model.safetensors"
STEP_COUNTER = "num_batches_tracked"  # of batch norm in training; frozen batch norm has no use for it


def from_torchvision(name: str) -> str | None:
    """The name in maskray of a tensor of a torchvision ResNet; None for its classifier, which a detector has not."""
    parts = name.split(".")
    if parts[0] == "fc":
        return None
    prefix = "backbone.resnet"
    if parts[0] == "conv1":
        return f"{prefix}.stem.conv1.conv.{parts[-1]}"
    if parts[0] == "bn1":
        return f"{prefix}.stem.conv1.norm.{parts[-1]}"
    stage, block, layer = int(parts[0].removeprefix("layer")) + 1, parts[1], parts[2]
    if layer == "downsample":
        kind = "conv" if parts[3] == "0" else "norm"
        return f"{prefix}.res{stage}.{block}.shortcut.{kind}.{parts[-1]}"
    kind, number = layer[:-1], layer[-1]
    return f"{prefix}.res{stage}.{block}.conv{number}.{'conv' if kind == 'conv' else 'norm'}.{parts[-1]}"


def rename_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a torchvision ResNet under the names of maskray, without its classifier."""
    renamed = {from_torchvision(name): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in renamed.items() if name is not None}


def weights_of_torchvision(name: str) -> Any:
    """The default weights of a network or detection model of torchvision; ValueError where it has none."""
    from torchvision.models import get_model_weights  # a second of imports that only this source needs

    try:
        return get_model_weights(name).DEFAULT
    except (ValueError, AttributeError):
        raise ValueError(
            f"{TORCHVISION_PREFIX}{name}: torchvision has no weights of this network; of ResNeXt it has "
            "resnext50_32x4d, resnext101_32x8d and resnext101_64x4d"
        ) from None


def cached_file(weights: Any) -> Path:
    """Where torchvision keeps a file of its weights, whether it is there or not."""
    return Path(torch.hub.get_dir()) / "checkpoints" / str(weights.url).rsplit("/", 1)[-1]


def download_torchvision(name: str) -> tuple[dict[str, Tensor], Path]:
    """Names and tensors of torchvision's default weights, checked by its hash, and the file that they are in.

    Raises ValueError that says which file goes into which folder where there is no network.
    """
    source = f"{TORCHVISION_PREFIX}{name}"
    weights = weights_of_torchvision(name)
    file = cached_file(weights)
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except OSError as error:  # urllib's errors are OSErrors
        raise ValueError(f"{source}: download failed ({error}); put the file {file.name} into {file.parent}") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:  # wrong hash or a truncated file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{source}: {file.name} is not usable ({reason}); put a whole copy into {file.parent}"
        ) from None
    return dict(state), file


def read_state(path: Path) -> dict[str, Tensor]:
    """Names and tensors of a .safetensors or .pth file or of a model folder, on the CPU.

    A .pth file holds a state dict, or a dict that holds one under `model` or `state_dict`.

    Raises ValueError of one line for a file that is missing, damaged or holds other things; no pickled code runs.
    """
    if path.is_dir():
        path = path / WEIGHTS_FILE
    if not path.is_file():
        raise ValueError(f"{path}: no such weights; give {TORCHVISION_PREFIX}NAME, a .safetensors, a .pth or a folder")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise ValueError(f"{path}: not a readable safetensors file ({error})") from None
    if path.suffix == ".pth":
        return _read_pth(path)
    raise ValueError(f"{path}: weights are .safetensors or .pth files, not {path.suffix or 'without a suffix'}")


def _reason(error: Exception) -> str:
    """What torch.load says of the file, without its advice to load what may run code."""
    told = str(error).strip() or type(error).__name__
    if isinstance(error, pickle.UnpicklingError):
        found = re.search(r"(Trying to load|Unsupported) .*", told)
        told = found[0] if found else "more than weights"
    return told.splitlines()[0].partition(". ")[0].rstrip(".")


def _check_pth(path: Path) -> None:
    """Raise ValueError for a .pth file that would grow while it is read: packed, or with a pickle of pickles."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            for _ in range(LEGACY_PICKLES):
                check_pickle(file)
        return
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise ValueError("its parts are packed, which those of torch are not")
        for part in parts:
            if part.filename.endswith("data.pkl"):
                check_pickle(io.BytesIO(archive.read(part)))


def _read_pth(path: Path) -> dict[str, Tensor]:
    try:
        _check_pth(path)
        # Training scripts of torchvision and others keep their arguments beside the weights: names and values alone.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no error class of its own: zip, pickle, EOF and runtime errors
        raise ValueError(f"{path}: not readable as tensors ({_reason(error)})") from None
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path}: holds no state dict (names and tensors)")
    return {str(name): tensor for name, tensor in content.items()}
