"""`maskray models export`: a model as a file that other programs, or other machines, take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskray.platform.cli.models import Output, TrackingUri
from maskray.platform.job.plain_text import shown_name

if TYPE_CHECKING:
    from maskray.model.config import ModelSpec
    from maskray.model.mask_rcnn import MaskRCNN


class Target(StrEnum):
    """What the file is to be read by."""

    safetensors = "safetensors"
    torchvision = "torchvision"
    onnx = "onnx"


SUFFIXES = {
    Target.safetensors: (".safetensors",),
    Target.torchvision: (".pth", ".safetensors"),
    Target.onnx: (".onnx",),
}
TO = "safetensors: a whole model in one file of maskray; torchvision: a state dict for its R-CNN; onnx: for runtimes."
TOLERANCE = (
    "onnx: how far file and model may differ on the images compared, of boxes and keypoints in pixels, of scores and "
    "masks in probability, and still be written; without it boxes=0.05 scores=0.001 masks=0.01 keypoints=0.5. "
    "It stands in the file with what was measured; repeatable."
)


def export(
    model: Annotated[str, typer.Argument(help="Model folder or file, or models:/NAME@alias.", show_default=False)],
    to: Annotated[Target, typer.Option("--to", help=TO, show_default=False)],
    out: Annotated[Path, typer.Option(help="File to write; never overwritten.", show_default=False)],
    image_size: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="H W", help="onnx: height and width of the padded image.", show_default=False),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option("--image", help="onnx: image to compare file and model on; repeatable.", show_default=False),
    ] = None,
    tolerances: Annotated[
        list[str] | None, typer.Option("--tolerance", metavar="KIND=VALUE", help=TOLERANCE, show_default=False)
    ] = None,
    tracking_uri: TrackingUri = None,
    output: Output = "outputs",
) -> None:
    """Write a model as one file: whole for maskray, or for other programs.

    Example: maskray models export models:/demo@champion --to onnx --out demo.onnx --image-size 192 256
    """
    if out.suffix not in SUFFIXES[to]:
        raise ValueError(f"{out}: --to {to.value} writes {' or '.join(SUFFIXES[to])} files")
    if (to is Target.onnx) != (image_size is not None) or ((images or tolerances) and to is not Target.onnx):
        raise ValueError("--to onnx needs --image-size H W; that, --image and --tolerance are of --to onnx alone")
    from maskray.platform.files.atomic import refuse_existing
    from maskray.platform.files.model_folder import read_model_folder
    from maskray.platform.registry.models import model_folder

    refuse_existing(out)
    if to is Target.onnx:
        from maskray.platform.export.onnx_file import check_packages

        check_packages()
    network, spec = read_model_folder(model_folder(model, tracking_uri, output))
    if to is Target.safetensors:
        _write_safetensors(out, network, spec)
    elif to is Target.torchvision:
        _write_torchvision(out, network, spec)
    else:
        assert image_size is not None
        _write_onnx(out, network, spec, image_size, images or [], tolerances or [])


def _write_safetensors(out: Path, network: MaskRCNN, spec: ModelSpec) -> None:
    from maskray.platform.files.atomic import new_file
    from maskray.platform.files.model_folder import write_model_file

    with new_file(out) as temporary:
        write_model_file(temporary, network, spec)
    print(f"{out}: {spec.model.backbone.name}, {spec.labels.num_classes} classes, a whole model")


def _write_torchvision(out: Path, network: MaskRCNN, spec: ModelSpec) -> None:
    """The file, the code that reads it, and what is computed otherwise there."""
    import torch
    from safetensors.torch import save_file

    from maskray.model.torchvision_export import to_torchvision
    from maskray.platform.files.atomic import new_file

    exported = to_torchvision(network, spec.input)
    tensors = {name: tensor.contiguous() for name, tensor in exported.tensors.items()}
    with new_file(out) as temporary:
        if out.suffix == ".pth":
            torch.save(tensors, temporary)
        else:
            save_file(tensors, temporary)
    names = ", ".join((*map(shown_name, spec.labels.names[:3]), "...")[: spec.labels.num_classes])
    print(f"{out}: {len(tensors)} tensors; class 0 is the background, from 1 on: {names}")
    reading = f"torch.load({str(out)!r}, weights_only=True)"
    if out.suffix == ".safetensors":
        reading = f"safetensors.torch.load_file({str(out)!r})"
    for line in (*exported.code, f"model.load_state_dict({reading})"):
        print(f"    {line}")
    for note in exported.notes:
        print(f"differs: {note}")


def _write_onnx(
    out: Path, network: MaskRCNN, spec: ModelSpec, image_size: tuple[int, int], paths: list[Path], accepted: list[str]
) -> None:
    """The file, which stays only where it finds what the model finds, and the comparison."""
    import numpy as np

    from maskray.platform.export.onnx_file import record_parity, write_onnx
    from maskray.platform.export.parity import compare_onnx, read_tolerances
    from maskray.platform.files.atomic import new_file
    from maskray.platform.inference.image_files import read_image

    heads = [name for name, there in (("masks", spec.model.masks), ("keypoints", spec.model.keypoints)) if there]
    tolerances = read_tolerances(accepted, ["boxes", "scores", *heads])
    images = {str(path): read_image(path) for path in paths}
    if not images:
        noise = np.random.default_rng(0).integers(0, 256, (*image_size, 3), dtype=np.uint8)
        images = {"random image (no --image was given)": noise}
    with new_file(out) as temporary:
        write_onnx(temporary, network, spec, *image_size)
        comparisons = compare_onnx(temporary, network, spec, images, *image_size, tolerances)
        for comparison in comparisons:
            print(comparison)
        wrong = [comparison.name for comparison in comparisons if not comparison.agrees]
        if wrong:
            limits = ", ".join(f"{key} {value:g}" for key, value in tolerances.items())
            raise ValueError(
                f"{', '.join(wrong)}: file and model differ by more than {limits}; no file was written "
                "(--tolerance KIND=VALUE accepts more)"
            )
        record_parity(temporary, comparisons)
    if not any(comparison.num_expected for comparison in comparisons):
        print("nothing was found, so little was compared: give images with --image")
    print(
        f"{out}: {spec.model.backbone.name}, {spec.labels.num_classes} classes, image {image_size[0]} x {image_size[1]}"
    )
