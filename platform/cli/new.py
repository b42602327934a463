"""`maskray new`: looks at a data set and writes a job for it that runs as it is."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from maskray.platform.data.formats.annotated import AnnotatedFolder
    from maskray.platform.data.formats.records import CocoDataset
    from maskray.platform.runs.draft import Machine, Start

Trees = dict[str, dict[str, Any]]  # COCO trees by part, train and val
VAL_PART = 0.2
SPLIT_SEED = 0


class TaskName(StrEnum):
    """What is to be found beside the class of an object."""

    masks = "masks"
    boxes = "boxes"
    keypoints = "keypoints"


class Device(StrEnum):
    """What trains."""

    cpu = "cpu"
    gpu = "gpu"


def new(
    job_file: Annotated[
        Path, typer.Argument(metavar="JOB.yaml", help="Job file to write; never overwritten.", show_default=False)
    ],
    data: Annotated[Path, typer.Option(help="Folder or annotation file of any format.", show_default=False)],
    val: Annotated[
        Path | None, typer.Option(help="The same for validation; none takes the data's own, or a fifth.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, where they lie elsewhere.")] = None,
    val_images: Annotated[Path | None, typer.Option(help="The same of --val; none is --images.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="What to begin with: torchvision:maskrcnn_resnet50_fpn, a model folder, models:/NAME@alias."),
    ] = None,
    task: Annotated[TaskName | None, typer.Option(help="None is what the data have.")] = None,
    device: Annotated[Device | None, typer.Option(help="None is gpu where there is one.")] = None,
    format: Annotated[str, typer.Option(help="Format of the data; auto looks.", metavar="NAME")] = "auto",
) -> None:
    """Look at data and write a job for them: input size, anchors, schedule and batch, each with its reason.

    Example: maskray new first.yaml --data my-images --weights torchvision:maskrcnn_resnet50_fpn
    """
    from maskray.platform.cli.plan import print_plan
    from maskray.platform.data.facts import few_without_masks, measure
    from maskray.platform.data.splitting import write_parts
    from maskray.platform.files.atomic import new_file, refuse_existing
    from maskray.platform.job.config import check_plain_name
    from maskray.platform.job.kinds import check_any, load_any
    from maskray.platform.runs.draft import choose_task, draft_job

    refuse_existing(job_file)
    name = check_plain_name(job_file.stem)
    folder = job_file.with_name(f"{name}-data")
    datasets, sources, parts = choose_sources(data, val, (images, val_images or images), format, folder)
    facts = measure(datasets[0])
    wanted = choose_task(facts) if task is None else task.value
    lacking = few_without_masks(datasets) if wanted == "masks" else 0
    start = None if weights is None else open_start(weights, str(job_file.parent / "outputs"))
    text = draft_job(name, sources, facts, wanted, this_machine(device), start, lacking)
    if parts:
        write_parts(folder, parts)
        counts = {part: len(tree["images"]) for part, tree in parts.items()}
        print(f"{folder}: {counts['train']} images for training, {counts['val']} for validation")
    with new_file(job_file) as file:
        file.write_text(text + "\n", encoding="utf-8")
    checked = check_any(load_any(job_file))
    print_plan(checked)
    print(f"{job_file}: {wanted} of {len(facts.classes)} classes; run it: maskray run {job_file}")
    if checked.problems:
        raise typer.Exit(1)


def choose_sources(
    data: Path, val: Path | None, images: tuple[Path | None, Path | None], format: str, folder: Path
) -> tuple[tuple[CocoDataset, CocoDataset], dict[str, Any], Trees]:
    """The data sets and the sources of train and val, and what a single one is divided into, in `folder`.

    `images` are the folders of images of both, where they lie elsewhere. Nothing is written. ValueError where the data
    cannot be read, and where a folder to divide into is there already.
    """
    from maskray.platform.data.formats.coco import dataset_of_tree
    from maskray.platform.data.formats.reading import list_splits, read_annotated

    splits = () if val is not None else list_splits(data, format)
    both = "train" in splits and "val" in splits
    split = "train" if both else None
    found = read_annotated(data, format, split, images[0])
    dataset = dataset_of_tree(found.name, found.tree, found.images)
    if val is None and not both:
        return _divide(found, dataset, folder)
    place = (data, "val", images[0]) if val is None else (val, None, images[1])
    theirs = read_annotated(place[0], format, *place[1:])
    sources = {
        "train": _source(data, found.format, split, images[0]),
        "val": _source(place[0], theirs.format, *place[1:]),
    }
    return (dataset, dataset_of_tree(theirs.name, theirs.tree, theirs.images)), sources, {}


def _source(path: Path, format: str, split: str | None, images: Path | None) -> dict[str, str]:
    """The keys of a job's source of files, without those that say nothing."""
    keys = {"kind": "files", "format": format, "path": str(path)}
    return keys | {key: str(value) for key, value in (("split", split), ("images", images)) if value is not None}


def _divide(
    found: AnnotatedFolder, dataset: CocoDataset, folder: Path
) -> tuple[tuple[CocoDataset, CocoDataset], dict[str, Any], Trees]:
    """A fifth of the images for validation, drawn by a fixed seed, every class in both parts where it can be."""
    from maskray.platform.data.formats.coco import dataset_of_tree
    from maskray.platform.data.splitting import divide, divide_tree
    from maskray.platform.files.atomic import refuse_existing

    refuse_existing(folder)
    division = divide(dataset, VAL_PART, SPLIT_SEED)
    trees = divide_tree(found.tree, division)
    if division.only_in_train:
        print(f"objects in training alone: {', '.join(division.only_in_train[:5])}")
    sources = {
        part: {"kind": "coco", "annotations": str(folder / f"{part}.json"), "images": str(found.images)}
        for part in trees
    }
    train, val = (dataset_of_tree(found.name, trees[part], found.images) for part in ("train", "val"))
    return (train, val), sources, trees


def open_start(weights: str, output: str) -> Start:
    """The weights to begin with and what they are of, from names and shapes alone."""
    from maskray.platform.files.initial_weights import open_source
    from maskray.platform.registry.models import open_tracking
    from maskray.platform.runs.draft import Start
    from maskray.platform.runs.starting_weights import locate_weights

    source = open_source(locate_weights(weights, open_tracking(None, output)), names_only=True)
    return Start(weights, source.model, source.input)


def this_machine(device: Device | None) -> Machine:
    """CPUs that this process may use, and GPUs; one where a job for a GPU is wanted on a machine without."""
    import os

    import torch

    from maskray.platform.runs.draft import Machine

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device is Device.gpu and gpus == 0:
        gpus = 1  # a job for another machine
    return Machine(cpus=len(os.sched_getaffinity(0)), gpus=0 if device is Device.cpu else gpus)
