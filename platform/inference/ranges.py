"""The file of ranges that 8-bit layers need, which belongs to the weights of one model; it may come from anybody."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, ValidationError
from torch import nn

from maskray.model.config_base import Config, Positive
from maskray.model.mask_rcnn import MaskRCNN
from maskray.platform.files.atomic import new_file
from maskray.platform.inference.int8_layers import Range, find_layers
from maskray.platform.job.config import first_mistake
from maskray.platform.job.plain_text import one_line, shown

MOST_BYTES = 2_000_000  # twenty thousand layers
LARGEST = 1e6  # of a value in a network that finds anything
REMEDY = "`maskray models quantize` measures them on your images"

End = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]


class Ranges(Config):
    """Of every layer that is computed in 8 bits what goes into it lies between, from so many images."""

    format: Literal["maskray-int8-1"] = "maskray-int8-1"
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    images: Positive
    layers: dict[str, tuple[End, End]] = Field(min_length=1)


def digest_weights(model: nn.Module) -> str:
    """SHA-256 of names, types, shapes and values of a model's tensors, wherever they are stored."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def ranges_file(model_folder: str | Path, folder: str | Path | None, digest: str) -> Path:
    """Where the ranges of weights are: in a folder of ranges, or beside the model where none is given."""
    path = Path(model_folder)
    beside = path.parent if path.is_file() else path
    return Path(beside if folder is None else folder) / f"int8-{digest[:16]}.json"


def find_ranges(model: MaskRCNN, model_folder: str | Path, folder: str | Path | None) -> Mapping[str, Range]:
    """The ranges of a model's layers; ValueError of one line where there are none, or not those of its weights."""
    digest = digest_weights(model)
    path = ranges_file(model_folder, folder, digest)
    if not path.is_file():
        raise ValueError(f"{path}: there are no ranges of the weights of {model_folder} for precision int8; {REMEDY}")
    ranges = read_ranges(path)
    if ranges.weights_sha256 != digest:
        there, here = ranges.weights_sha256[:16], digest[:16]
        raise ValueError(f"{path}: ranges of the weights {there}, not of {here} in {model_folder}; {REMEDY}")
    unknown = sorted(ranges.layers.keys() - find_layers(model).keys())
    if unknown:
        raise ValueError(f"{path}: {shown(unknown[0])} is no layer of {model_folder} that can be computed in 8 bits")
    return ranges.layers


def read_ranges(path: Path) -> Ranges:
    """What a file of ranges holds; ValueError of one line where it is none."""
    failure = f"{path}: not a file of ranges"
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if len(text) > MOST_BYTES:
        raise ValueError(f"{failure}: it has more than {MOST_BYTES} bytes")
    try:
        ranges = Ranges.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"{failure}: {one_line(first_mistake(error))}") from None
    for name, (low, high) in ranges.layers.items():
        if not low <= 0 <= high or math.isclose(low, high, abs_tol=1e-12):
            raise ValueError(f"{failure}: {shown(name)} lies between {low:g} and {high:g}, which is no range about 0")
    return ranges


def write_ranges(path: Path, ranges: Ranges) -> None:
    """Write a new file; ValueError where one is there: remove it to measure again."""
    with new_file(path) as temporary:
        temporary.write_text(ranges.model_dump_json(indent=1) + "\n", encoding="utf-8")
