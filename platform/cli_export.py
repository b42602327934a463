"""`maskray models export`: a model as a file that other programs, or other machines, take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from maskray.platform.cli_models import Output, TrackingUri, model_folder


class Target(StrEnum):
    """What the file is to be read by."""

    safetensors = "safetensors"


SUFFIXES = {Target.safetensors: (".safetensors",)}


def export(
    model: Annotated[str, typer.Argument(help="Model folder or file, or models:/NAME@alias.", show_default=False)],
    to: Annotated[Target, typer.Option("--to", help="safetensors: maskray's own, in one file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File to write; never overwritten.", show_default=False)],
    tracking_uri: TrackingUri = None,
    output: Output = "outputs",
) -> None:
    """Write a model as one file: whole for maskray, or for other programs."""
    if out.suffix not in SUFFIXES[to]:
        raise ValueError(f"{out}: --to {to.value} writes {' or '.join(SUFFIXES[to])} files")
    from maskray.platform.registry.folder import read_model_folder, write_model_file
    from maskray.platform.registry.new_file import new_file, refuse_existing

    refuse_existing(out)
    network, spec = read_model_folder(model_folder(model, tracking_uri, output))
    with new_file(out) as temporary:
        write_model_file(temporary, network, spec)
    print(f"{out}: {spec.model.backbone.name}, {spec.labels.num_classes} classes")
