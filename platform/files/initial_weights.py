"""Where a training may start from: torchvision's own weights, model folders and files, state dicts of any library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from maskray.model.coco_categories import labels_of_imported
from maskray.model.detectron2_names import read_detectron2
from maskray.model.imported import Imported
from maskray.model.torchvision_names import norm_eps_of, read_torchvision
from maskray.model.transfer import Source
from maskray.model.weights import (
    STEP_COUNTER,
    TORCHVISION_PREFIX,
    WEIGHTS_FILE,
    cached_file,
    download_torchvision,
    rename_torchvision,
    weights_of_torchvision,
)
from maskray.platform.files.foreign_weights import library_of, read_tensors
from maskray.platform.files.model_files import SPEC_FILE
from maskray.platform.files.model_folder import empty_tensors, read_model_spec

_WRAPPED = "module."  # before the names of a model that was saved inside DistributedDataParallel


def open_source(name: str, names_only: bool = False) -> Source:
    """Weights to start from, on the CPU; with `names_only` on the meta device, where that is quicker: nothing is
    downloaded and only the header of a .safetensors file is read.

    `name` is torchvision:NAME (an ImageNet network or a detection model, which brings COCO's categories), a model
    folder or file of maskray (with its label map), or a .pth, .safetensors or .pkl file of bare names and tensors,
    those of torchvision and detectron2 among them. Raises ValueError of one line.
    """
    if name.startswith(TORCHVISION_PREFIX):
        return _of_torchvision(name, names_only)
    path = Path(name)
    if (path / SPEC_FILE).is_file() or _is_whole_file(path):
        spec = read_model_spec(path)
        return Source(name, _read(path, names_only), spec.model, spec.input, spec.labels)
    return _of_state(name, _read(path, names_only), norm_eps_of(path.name))


def _of_torchvision(name: str, names_only: bool) -> Source:
    model_name = name.removeprefix(TORCHVISION_PREFIX)
    weights = weights_of_torchvision(model_name)
    file = cached_file(weights)
    if names_only and not file.is_file():
        from torchvision.models import get_model

        with torch.device("meta"):
            options = {"weights_backbone": None} if "fpn" in model_name else {}
            state: Mapping[str, Tensor] = get_model(model_name, weights=None, **options).state_dict()
        if not model_name.endswith("_v2"):  # of whose batch norm alone the statistics are trained
            state = {key: tensor for key, tensor in state.items() if not key.endswith(STEP_COUNTER)}
    else:
        state, file = download_torchvision(model_name)
    if "fc.weight" in state:
        return Source(name, rename_torchvision(state))
    source = _of_state(name, state, norm_eps_of(file.name))
    assert source.model is not None
    classes = source.tensors["roi_heads.box_head.classifier.weight"].shape[0] - 1
    keypoints = source.model.keypoint_head.num_keypoints if source.model.keypoints else 0
    return replace(source, labels=labels_of_imported(classes, keypoints))


def _of_state(name: str, state: Mapping[str, Tensor], norm_eps: float) -> Source:
    """Bare names and tensors under the names of maskray; whose they are is seen by the names."""
    if state and all(key.startswith(_WRAPPED) for key in state):
        state = {key.removeprefix(_WRAPPED): tensor for key, tensor in state.items()}
    if "layer1.0.conv1.weight" in state:
        return Source(name, rename_torchvision(state))
    library = library_of(state)
    if library is None:
        return Source(name, state)
    try:
        imported: Imported = (
            read_torchvision(state, norm_eps=norm_eps) if library == "torchvision" else read_detectron2(state)
        )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return Source(name, imported.tensors, imported.model, imported.input)


def _is_whole_file(path: Path) -> bool:
    """Whether a .safetensors file carries the description of a model."""
    if not path.is_file() or path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return "spec" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False  # which reading it tells


def _read(path: Path, names_only: bool) -> dict[str, Tensor]:
    file = path / WEIGHTS_FILE if path.is_dir() else path
    if not names_only or file.suffix != ".safetensors" or not file.is_file():
        return read_tensors(path if path.is_dir() else file)
    try:
        with safe_open(file, framework="pt") as content:
            return empty_tensors(content)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file}: not a readable safetensors file ({' '.join(str(error).split())})") from None
