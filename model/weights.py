"""Loads weights into a model: ImageNet ResNets of torchvision, .safetensors and .pth files, model folders."""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskray.model.backbone.timm_network import rename_timm

TORCHVISION_PREFIX = "torchvision:"
WEIGHTS_FILE = "model.safetensors"
_SECOND = "rpn_backbone."
STEP_COUNTER = "num_batches_tracked"  # of batch norm in training; frozen batch norm has no use for it


@dataclass(frozen=True)
class LoadReport:
    """Names of parameters and buffers, sorted: loaded; missing from the source; in the source but not in the model."""

    source: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{len(self.loaded)} loaded, {len(self.missing)} missing, {len(self.unexpected)} unexpected"
        return f"weights of {self.source}: {counts}"


def load_weights(model: nn.Module, source: str) -> LoadReport:
    """Copy the tensors of `source` whose names the model has, and report the rest.

    `source` is torchvision:resnet50 (its default ImageNet weights, for the backbone alone; the name must be that of
    the model's backbone), the path of a .safetensors file, of a .pth file (a state dict, or a dict that holds one under
    `model` or `state_dict`; read without pickled code) or of a model folder. Missing names keep their values. A file of
    timm's own names is for the backbone alone.
    Raises ValueError where the source cannot be read, a shape differs or no name fits.
    """
    state = _read_torchvision(model, source) if source.startswith(TORCHVISION_PREFIX) else read_state(Path(source))
    own = model.state_dict()
    state = rename_timm(own, state)
    if any(name.startswith(_SECOND) for name in own) and not any(name.startswith(_SECOND) for name in state):
        # Both backbones begin with the same weights (Ren et al. 2015, section 3.2).
        state |= {f"rpn_{name}": tensor for name, tensor in state.items() if name.startswith("backbone.")}
    loaded = sorted(own.keys() & state.keys())
    if not loaded:
        raise ValueError(f"{source}: none of its {len(state)} names fits the model, e.g. {next(iter(state), 'none')!r}")
    for name in loaded:
        if own[name].shape != state[name].shape:
            raise ValueError(
                f"{source}: {name} has shape {tuple(state[name].shape)}, the model needs {tuple(own[name].shape)}"
            )
    model.load_state_dict({name: state[name] for name in loaded}, strict=False)
    unexpected = (name for name in state.keys() - own.keys() if not name.endswith(STEP_COUNTER))
    return LoadReport(source, loaded, sorted(own.keys() - state.keys()), sorted(unexpected))


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


def _read_torchvision(model: nn.Module, source: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights  # a second of imports that only this source needs

    name = source.removeprefix(TORCHVISION_PREFIX)
    wanted: str = model.config.backbone.name  # type: ignore[union-attr, assignment]
    if ":" in wanted:
        raise ValueError(f"{source}: the backbone is {wanted}, whose weights come from a file")
    if name != wanted:
        raise ValueError(f"{source}: the backbone is {wanted}, so its weights are {TORCHVISION_PREFIX}{wanted}")
    norm: str = model.config.backbone.norm  # type: ignore[union-attr, assignment]
    if norm == "group_norm":
        raise ValueError(f"{source}: its weights were trained with batch norm, model.backbone.norm is group_norm")
    try:
        weights = get_model_weights(name).DEFAULT
    except ValueError:
        raise ValueError(
            f"{source}: torchvision has no weights of this network; of ResNeXt it has resnext50_32x4d, "
            "resnext101_32x8d and resnext101_64x4d"
        ) from None
    file = weights.url.rsplit("/", 1)[-1]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except OSError as error:  # urllib's errors are OSErrors
        raise ValueError(f"{source}: download failed ({error}); put the file {file} into {folder}") from None
    except RuntimeError as error:  # wrong hash or a truncated file
        raise ValueError(f"{source}: {file} is not usable ({error}); put a whole copy into {folder}") from None
    return rename_torchvision(state)


def read_state(path: Path) -> dict[str, Tensor]:
    """Names and tensors of a .safetensors or .pth file or of a model folder, as load_weights reads them, on the CPU.

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


def _read_pth(path: Path) -> dict[str, Tensor]:
    try:
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
