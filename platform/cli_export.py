"""`maskray models export`: a model as a file that other programs, or other machines, take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskray.platform.cli_models import Output, TrackingUri, model_folder

if TYPE_CHECKING:
    from maskray.model.config import ModelSpec
    from maskray.model.mask_rcnn import MaskRCNN


class Target(StrEnum):
    """What the file is to be read by."""

    safetensors = "safetensors"
    torchvision = "torchvision"


SUFFIXES = {Target.safetensors: (".safetensors",), Target.torchvision: (".pth", ".safetensors")}
TO = "safetensors: a whole model in one file of maskray; torchvision: a state dict for its R-CNN."


def export(
    model: Annotated[str, typer.Argument(help="Model folder or file, or models:/NAME@alias.", show_default=False)],
    to: Annotated[Target, typer.Option("--to", help=TO, show_default=False)],
    out: Annotated[Path, typer.Option(help="File to write; never overwritten.", show_default=False)],
    tracking_uri: TrackingUri = None,
    output: Output = "outputs",
) -> None:
    """Write a model as one file: whole for maskray, or for other programs."""
    if out.suffix not in SUFFIXES[to]:
        raise ValueError(f"{out}: --to {to.value} writes {' or '.join(SUFFIXES[to])} files")
    from maskray.platform.registry.folder import read_model_folder
    from maskray.platform.registry.new_file import refuse_existing

    refuse_existing(out)
    network, spec = read_model_folder(model_folder(model, tracking_uri, output))
    if to is Target.safetensors:
        _write_safetensors(out, network, spec)
    else:
        _write_torchvision(out, network, spec)


def _write_safetensors(out: Path, network: MaskRCNN, spec: ModelSpec) -> None:
    from maskray.platform.registry.folder import write_model_file
    from maskray.platform.registry.new_file import new_file

    with new_file(out) as temporary:
        write_model_file(temporary, network, spec)
    print(f"{out}: {spec.model.backbone.name}, {spec.labels.num_classes} classes, a whole model")


def _write_torchvision(out: Path, network: MaskRCNN, spec: ModelSpec) -> None:
    """The file, the code that reads it, and what is computed otherwise there."""
    import torch
    from safetensors.torch import save_file

    from maskray.model.torchvision_export import to_torchvision
    from maskray.platform.registry.new_file import new_file

    exported = to_torchvision(network, spec.input)
    tensors = {name: tensor.contiguous() for name, tensor in exported.tensors.items()}
    with new_file(out) as temporary:
        if out.suffix == ".pth":
            torch.save(tensors, temporary)
        else:
            save_file(tensors, temporary)
    names = ", ".join((*spec.labels.names[:3], "...")[: spec.labels.num_classes])
    print(f"{out}: {len(tensors)} tensors; class 0 is the background, from 1 on: {names}")
    reading = f"torch.load({str(out)!r}, weights_only=True)"
    if out.suffix == ".safetensors":
        reading = f"safetensors.torch.load_file({str(out)!r})"
    for line in (*exported.code, f"model.load_state_dict({reading})"):
        print(f"    {line}")
    for note in exported.notes:
        print(f"differs: {note}")
