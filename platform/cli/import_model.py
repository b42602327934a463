"""`maskray models import`: a model that torchvision or detectron2 trained, as a model folder."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from maskray.model.config import LabelMap


class Library(StrEnum):
    """Whose file it is."""

    torchvision = "torchvision"
    detectron2 = "detectron2"


LABELS = "JSON with the categories: COCO annotations or a model.json; none is COCO's where their number fits."
EPS = (
    "Epsilon of the backbone's norm (torchvision); none goes by the name of the file: 0 for the released COCO weights."
)


def import_model(
    file: Annotated[
        str,
        typer.Argument(help="A .pth, .safetensors or .pkl file, or torchvision:NAME.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="Model folder to write; never overwritten.", show_default=False)],
    library: Annotated[
        Library | None, typer.Option("--from", help="Library that trained them.", show_default=False)
    ] = None,
    labels: Annotated[Path | None, typer.Option(help=LABELS, show_default=False)] = None,
    shorter_edge: Annotated[int, typer.Option(help="Pixels of the shorter edge at inference.")] = 800,
    longer_edge_max: Annotated[int, typer.Option(help="Most pixels of the longer edge.")] = 1333,
    norm_eps: Annotated[float | None, typer.Option(help=EPS, show_default=False)] = None,
) -> None:
    """Turn weights of torchvision or detectron2 into a model folder that gives the same answers.

    Example: maskray models import torchvision:maskrcnn_resnet50_fpn --out coco-model
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: exists already; a model folder is never overwritten")
    from maskray.platform.files.foreign_weights import read_foreign_file
    from maskray.platform.files.model_folder import write_model_folder

    categories = None if labels is None else read_labels(labels)
    path, trained_by = _locate(file, library)
    foreign = read_foreign_file(
        path,
        trained_by.value,
        labels=categories,
        norm_eps=norm_eps,
        shorter_edge=shorter_edge,
        longer_edge_max=longer_edge_max,
    )
    spec = foreign.spec
    if categories is not None:
        from maskray.platform.data.keypoints import check_keypoints

        check_keypoints(spec.model, categories, flip=False)
    folder = write_model_folder(out, foreign.model, spec)
    heads = " and ".join(
        name for name, has in (("masks", spec.model.masks), ("keypoints", spec.model.keypoints)) if has
    )
    print(
        f"{folder}: {spec.model.backbone.name} {spec.model.backbone.features}, {spec.labels.num_classes} classes, "
        f"boxes{' and ' + heads if heads else ''}"
    )
    for note in foreign.notes:
        print(f"assumed: {note}")


def _locate(file: str, library: Library | None) -> tuple[Path, Library]:
    """Where the weights are, downloaded if they are torchvision's own, and whose they are."""
    from maskray.model.weights import TORCHVISION_PREFIX, download_torchvision

    if file.startswith(TORCHVISION_PREFIX):
        return download_torchvision(file.removeprefix(TORCHVISION_PREFIX))[1], library or Library.torchvision
    if library is None:
        raise ValueError(f"{file}: say whose it is: --from {' or --from '.join(Library)}")
    return Path(file), library


def read_labels(path: Path) -> LabelMap:
    """The categories of a COCO annotation file, by increasing id, or of a label map or model.json, as they stand.

    Raises ValueError of one line naming the file.
    """
    from pydantic import ValidationError

    from maskray.model.config import LabelMap
    from maskray.platform.data.formats.coco import parse_json, read_bytes
    from maskray.platform.data.formats.coco import read_labels as read_coco_labels
    from maskray.platform.job.config import first_mistake

    raw = read_bytes(path)
    try:
        tree: Any = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if isinstance(tree, dict) and "annotations" in tree:
        return read_coco_labels(path, parse_json(path, raw))
    if isinstance(tree, dict) and "labels" in tree:
        tree = tree["labels"]
    try:
        return LabelMap.model_validate(tree)
    except ValidationError as error:
        raise ValueError(f"{path}: no label map: {first_mistake(error)}") from None
