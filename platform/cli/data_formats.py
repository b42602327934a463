"""`maskray data convert, split, merge, show`: a data set of any format in another form; nothing is ever overwritten."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from maskray.platform.data.formats.annotated import AnnotatedFolder
    from maskray.platform.data.formats.reading import ReadFolder

Source = Annotated[
    Path, typer.Argument(metavar="SOURCE", help="Folder or annotation file of any format.", show_default=False)
]
FormatName = Annotated[
    str,
    typer.Option(
        "--format",
        help="auto, coco, roboflow, yolo, labelme, cvat, voc, lvis, instance_masks or cityscapes.",
        metavar="NAME",
    ),
]
SplitName = Annotated[str | None, typer.Option("--split", help="Part of the data: train, val or test; none is all.")]
ImagesFolder = Annotated[Path | None, typer.Option("--images", help="Folder of the images, where they lie elsewhere.")]


class Target(StrEnum):
    """What can be written."""

    coco = "coco"
    yolo = "yolo"


def convert(
    source: Source,
    to: Annotated[Target, typer.Option(help="coco: JSON and images/; yolo: data.yaml, images/ and labels/.")],
    out: Annotated[Path, typer.Option(help="New folder.")],
    format: FormatName = "auto",
    split: SplitName = None,
    images: ImagesFolder = None,
) -> None:
    """Write a data set as COCO or YOLO, with its images (linked where the disk is the same, else copied).

    Example: maskray data convert my-images --to yolo --out as-yolo
    """
    from maskray.platform.data.conversion import convert as write
    from maskray.platform.data.formats.coco import dataset_of_tree
    from maskray.platform.data.formats.reading import read_annotated
    from maskray.platform.files.atomic import refuse_existing

    refuse_existing(out)
    found = read_annotated(source, format, split, images)
    dataset = dataset_of_tree(found.name, found.tree, found.images)
    tell(found)
    done = write(found, dataset, to.value, out)
    for reason, count in done.left_out.items():
        print(f"left out: {count} x {reason}")
    print(f"{out}: {done.images} images, {done.objects} objects")


def split(
    source: Source,
    val: Annotated[float, typer.Option(min=0, max=1, help="Part of the images for validation, e.g. 0.2.")],
    out: Annotated[Path, typer.Option(help="New folder for train.json and val.json.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed divides the same data alike.")] = 0,
    format: FormatName = "auto",
    images: ImagesFolder = None,
) -> None:
    """Divide the images into train.json and val.json, every class in both where it can be; images stay in place.

    Example: maskray data split my-images --val 0.2 --out divided
    """
    from maskray.platform.data.formats.coco import dataset_of_tree
    from maskray.platform.data.formats.reading import read_annotated
    from maskray.platform.data.splitting import divide, divide_tree, write_parts
    from maskray.platform.files.atomic import refuse_existing

    refuse_existing(out)
    if not 0 < val < 1:
        raise ValueError(f"--val {val:g}: the part for validation is above 0 and below 1")
    found = read_annotated(source, format, None, images)
    dataset = dataset_of_tree(found.name, found.tree, found.images)
    tell(found)
    division = divide(dataset, val, seed)
    write_parts(out, divide_tree(found.tree, division))
    for told, names in (
        ("no object at all", division.without_objects),
        ("objects in train alone", division.only_in_train),
    ):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            print(f"{told}: {', '.join(names[:5])}{more}")
    print(f"{out}: {len(division.train)} images in train.json, {len(division.val)} in val.json. In a job:")
    for name in ("train", "val"):
        print(f"  {name}: {{kind: coco, annotations: {out / f'{name}.json'}, images: {found.images}}}")


def merge(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help="Folders or annotation files, two or more.")
    ],
    out: Annotated[Path, typer.Option(help="New COCO JSON.")],
    format: FormatName = "auto",
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of the images of all of them, where they lie elsewhere.")
    ] = None,
) -> None:
    """Join data sets into one COCO JSON: categories by name, new ids, images where they are.

    Example: maskray data merge first.json second.json --out all.json
    """
    from maskray.platform.data.formats.reading import read_annotated
    from maskray.platform.data.merging import merge as join
    from maskray.platform.files.atomic import new_file, refuse_existing

    refuse_existing(out)
    if len(sources) < 2:
        raise ValueError("merge takes two sources or more")
    parts = [read_annotated(source, format, None, images) for source in sources]
    for part in parts:
        tell(part)
    merged = join(parts)
    with new_file(out) as file:
        file.write_text(json.dumps(merged.tree))
    if merged.doubles:
        print(f"left out: {merged.doubles} annotations that were in two of them")
    counts = {key: len(merged.tree[key]) for key in ("images", "annotations", "categories")}
    print(f"{out}: {', '.join(f'{count} {name}' for name, count in counts.items())}. In a job:")
    print(f"  {{kind: coco, annotations: {out}, images: {merged.images}}}")


def show(
    source: Source,
    out: Annotated[Path, typer.Option(help="New HTML file.")],
    job_file: Annotated[
        Path | None, typer.Option("--job", metavar="JOB.yaml", help="Draw images as this job trains on them.")
    ] = None,
    num_images: Annotated[int, typer.Option("--images-shown", min=0, help="Images drawn on the page.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Draws which images are shown, and how they are augmented.")] = 0,
    format: FormatName = "auto",
    split: SplitName = None,
    images: ImagesFolder = None,
) -> None:
    """Write one HTML page of a data set: counts, classes, sizes, problems, and images as training sees them.

    Example: maskray data show my-images --out my-images.html
    """
    from maskray.platform.data.formats.reading import read_annotated
    from maskray.platform.evaluation.data_page import PageOptions, write_data_page
    from maskray.platform.files.atomic import refuse_existing
    from maskray.platform.job.load import load_job

    refuse_existing(out)
    found = read_annotated(source, format, split, images)
    job = None if job_file is None else load_job(job_file)
    write_data_page(out, found, PageOptions(num_images, seed, job))
    print(f"{out}: {len(found.tree['images'])} images, {len(found.tree['annotations'])} annotations")


def tell(found: AnnotatedFolder | ReadFolder) -> None:
    """Say in which format a data set was found and what of it was not taken, where standard output is not for JSON."""
    print(f"{found.name}: {found.format}, images in {found.images}")
    for left_out in found.left_out:
        print(f"left out: {left_out}")
