"""The model folder: model.safetensors (weights) and model.json (ModelSpec), written whole or not at all, no pickle.

The weights carry the ModelSpec in their metadata too, so that the one file is a whole model wherever it is taken.
"""

from __future__ import annotations

import hashlib
import json
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from maskray.model.build_model import build_model
from maskray.model.config import ModelConfig, ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.platform.files.atomic import new_folder
from maskray.platform.files.description import check_length, parse_spec
from maskray.platform.files.model_files import SPEC_FILE, WEIGHTS_FILE

WEIGHTS_FORMAT = "maskray-1"
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def write_model_folder(folder: str | Path, model: nn.Module, spec: ModelSpec) -> Path:
    """Write a new model folder under a temporary name and rename it, so that a reader never sees half of it.

    Returns the absolute path. Raises ValueError where the folder exists already and holds something.
    """
    folder = Path(folder).absolute()
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder}: exists already; a model folder is never overwritten")
    with new_folder(folder) as temporary:
        write_model_files(temporary, model, spec)
    return folder


def write_model_files(folder: str | Path, model: nn.Module, spec: ModelSpec) -> None:
    """Write the two files of a model into an existing folder, in place: see new_folder for one that is whole or absent.

    `model` is the bare module, not wrapped
    in DistributedDataParallel; its state dict is stored on the CPU with the dtypes it has.
    """
    folder = Path(folder)
    write_model_file(folder / WEIGHTS_FILE, model, spec)
    (folder / SPEC_FILE).write_text(spec_text(spec), encoding="utf-8")


def write_model_file(path: str | Path, model: nn.Module, spec: ModelSpec) -> None:
    """Write tensors and description as one .safetensors file, in place: see new_file for one that is whole or absent.

    `model` is as for write_model_files.
    """
    text = spec_text(spec)
    path = Path(path)
    path.touch()  # with the mode that the umask leaves, which the writer would make 0600
    mode = stat.S_IMODE(path.stat().st_mode)
    metadata = {"format": WEIGHTS_FORMAT, "spec": text, "spec_sha256": hashlib.sha256(text.encode()).hexdigest()}
    save_file(_stored_tensors(model), path, metadata=metadata)
    path.chmod(mode)
    _sort_header(path)


def _sort_header(path: Path) -> None:
    """Put the header's metadata in order, which is another one each time: equal weights are equal files then."""
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        data = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(data) <= length, "the same characters in another order"
        file.seek(8)
        file.write(data.ljust(length))


def read_model_folder(folder: str | Path, device: str | torch.device = "cpu") -> tuple[MaskRCNN, ModelSpec]:
    """Rebuild the model of a folder, or of a .safetensors file that holds a whole one, in eval mode, on a device.

    Every stored tensor must have its place with the same shape and dtype, and every place its tensor. Raises ValueError
    of one line for a missing, cut short, foreign or mismatching file.
    """
    spec = read_model_spec(folder)
    _check_sizes(folder, spec)
    tensors = read_weights(folder)
    model = build_model(spec.model, spec.input, spec.labels.num_classes)
    _check_tensors(_weights_path(Path(folder)), tensors, model.state_dict())
    model.load_state_dict(tensors, strict=True)
    # Channels last, as the activations are: weights of another layout are turned round in every call.
    return model.eval().to(device).to(memory_format=torch.channels_last), spec


def read_model_spec(folder: str | Path) -> ModelSpec:
    """What a folder's model.json says, or a file's metadata; checks that all is there, not the weights themselves.

    Raises ValueError of one line where the folder or a file is missing, foreign or holds no ModelSpec.
    """
    folder = Path(folder)
    if folder.is_file():
        with _open_weights(folder) as (_, metadata):
            return parse_spec(folder, _own_spec(folder, metadata))
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such model folder")
    for name in (SPEC_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ValueError(f"{folder}: not a model folder, {name} is missing")
    return parse_spec(folder / SPEC_FILE, _spec_bytes(folder))


def read_weights(folder: str | Path) -> dict[str, Tensor]:
    """The stored tensors of a model folder or file, on the CPU; checks that they were written with its description.

    Raises ValueError of one line where the file is cut short, is not ours or belongs to another description.
    """
    folder = Path(folder)
    path, whole = _weights_path(folder), folder.is_file()
    with _open_weights(path) as (file, metadata):
        text = _own_spec(path, metadata) if whole else _spec_bytes(folder)
        if metadata.get("spec_sha256") != hashlib.sha256(text).hexdigest():
            other = "description than the one in it" if whole else f"{SPEC_FILE} than the one beside it"
            raise ValueError(f"{path}: was written with another {other}")
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


def _check_sizes(source: str | Path, spec: ModelSpec) -> None:
    """Raise ValueError where a description is of another model than the header of its weights.

    Neither is allocated: a description from elsewhere may be of a model that no memory holds.
    """
    path = _weights_path(Path(source))
    with _open_weights(path) as (file, _):
        stored = empty_tensors(file)
    try:
        _check_tensors(path, stored, _empty_state(spec.model, spec))
    except (NotImplementedError, RuntimeError):
        if spec.model.backbone.family == "resnet":
            raise
        # Some networks of timm look at values while they are built. Their own size is known: the rest is looked at.
        known = spec.model.backbone.model_copy(update={"name": "resnet18", "norm": "frozen_batch_norm"})
        wanted = _empty_state(spec.model.model_copy(update={"backbone": known}), spec)
        _check_tensors(path, _without_backbone(stored), _without_backbone(wanted))


def empty_tensors(file: Any) -> dict[str, Tensor]:
    """What the header of an opened safetensors file says of its tensors: names, shapes and types, without memory."""
    parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    return {
        name: torch.empty(part.get_shape(), dtype=_DTYPES.get(part.get_dtype(), torch.bool), device="meta")
        for name, part in parts.items()
    }


def _empty_state(model: ModelConfig, spec: ModelSpec) -> dict[str, Tensor]:
    """Names and shapes of a model, without memory."""
    with torch.device("meta"):
        return build_model(model, spec.input, spec.labels.num_classes).state_dict()


def _without_backbone(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("backbone.")}


def _spec_bytes(folder: Path) -> bytes:
    """The description in a folder; ValueError where it is far longer than any."""
    path = folder / SPEC_FILE
    check_length(path, path.stat().st_size)
    return path.read_bytes()


def _weights_path(source: Path) -> Path:
    return source if source.is_file() else source / WEIGHTS_FILE


@contextmanager
def _open_weights(path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """A file of ours, opened, and its metadata; ValueError where it is damaged or foreign."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != WEIGHTS_FORMAT:
                raise ValueError(f"{path}: format {metadata.get('format')!r}, this version reads {WEIGHTS_FORMAT!r}")
            yield file, metadata
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: damaged or cut short ({' '.join(str(error).split())})") from None


def _own_spec(path: Path, metadata: dict[str, str]) -> bytes:
    """The description that weights carry themselves."""
    if "spec" not in metadata:
        raise ValueError(f"{path}: holds weights and no description of their model; give the folder it belongs to")
    return metadata["spec"].encode()


def spec_text(spec: ModelSpec) -> str:
    """The text of model.json: complete, every default written out."""
    return spec.model_dump_json(indent=2) + "\n"


def _stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state dict on the CPU, each tensor with memory of its own (safetensors refuses shared memory)."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        on_cpu = tensor.detach().to("cpu", memory_format=torch.contiguous_format)
        tensors[name] = on_cpu.clone() if on_cpu.untyped_storage().nbytes() != on_cpu.nbytes else on_cpu.contiguous()
    return tensors


def _check_tensors(path: Path, stored: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    missing = sorted(wanted.keys() - stored.keys())
    if missing:
        raise ValueError(f"{path}: lacks {len(missing)} tensors that the model has, the first is {missing[0]}")
    unknown = sorted(stored.keys() - wanted.keys())
    if unknown:
        raise ValueError(f"{path}: holds {len(unknown)} tensors that the model lacks, the first is {unknown[0]}")
    for name, tensor in wanted.items():
        if stored[name].shape != tensor.shape or stored[name].dtype != tensor.dtype:
            raise ValueError(f"{path}: {name} is {_describe(stored[name])}, the model wants {_describe(tensor)}")


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
