"""A model read from another library's file, and its rebuilding with every tensor in its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maskray.model.build_model import build_model
from maskray.model.config import InputConfig, ModelConfig
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.weights import STEP_COUNTER

Rule = tuple[str, str | Callable[[re.Match[str]], str]]  # pattern of a whole name, and what stands for it


@dataclass(frozen=True)
class Imported:
    """Configuration and tensors under the names of maskray; `notes` tell what no tensor shows."""

    model: ModelConfig
    input: InputConfig
    num_classes: int
    tensors: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)


def rename_tensors(state: Mapping[str, Tensor], rules: Sequence[Rule]) -> dict[str, Tensor]:
    """The tensors under the names that the first rule that fits gives them.

    Raises ValueError naming the first tensors that no rule fits: nothing is left out in silence.
    """
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in state.items():
        new_name = _rename(name, rules)
        if new_name is None:
            unknown.append(name)
        else:
            renamed[new_name] = tensor
    if unknown:
        raise ValueError(f"{len(unknown)} of {len(state)} tensors are of no model that maskray has: {_some(unknown)}")
    return renamed


def build_imported(imported: Imported) -> MaskRCNN:
    """The model with the imported tensors, in eval mode on the CPU.

    Raises ValueError naming the tensors that are missing, too many or of another shape.
    """
    with torch.device("meta"):  # nothing is allocated before every shape is known to be that of the file
        wanted = build_model(imported.model, imported.input, imported.num_classes).state_dict()
    # A stage that is frozen has constant batch norm, which counts no steps.
    tensors = {
        name: tensor
        for name, tensor in imported.tensors.items()
        if name in wanted or not name.endswith("." + STEP_COUNTER)
    }
    for names, what in (
        (wanted.keys() - tensors.keys(), "are missing"),
        (tensors.keys() - wanted.keys(), "have no place in the model"),
    ):
        if names:
            raise ValueError(f"{len(names)} tensors {what}: {_some(sorted(names))}")
    for name, tensor in tensors.items():
        if tensor.device.type != "meta" and tensor.nbytes > tensor.untyped_storage().nbytes():
            raise ValueError(f"{name} states more numbers than the file holds of it")
        if tensor.shape != wanted[name].shape:
            shape, needed = tuple(tensor.shape), tuple(wanted[name].shape)
            raise ValueError(f"{name} has shape {shape}, a {imported.model.backbone.name} of this width has {needed}")
    model = build_model(imported.model, imported.input, imported.num_classes)
    model.load_state_dict(tensors)
    return model.eval()


def _rename(name: str, rules: Sequence[Rule]) -> str | None:
    for pattern, replacement in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(replacement) if isinstance(replacement, str) else replacement(match)
    return None


def _some(names: Sequence[str]) -> str:
    """The first three names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
