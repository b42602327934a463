"""`maskray data`: check a data set of any format, write it as shards, draw a synthetic one."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from maskray.platform.cli import data_formats
from maskray.platform.job.data_config import ROWS_PER_SHARD

app = typer.Typer(help="Check, convert, divide, join, show and shard data sets of any format.", no_args_is_help=True)
app.command("convert")(data_formats.convert)
app.command("split")(data_formats.split)
app.command("merge")(data_formats.merge)
app.command("show")(data_formats.show)

Annotations = Annotated[
    Path, typer.Argument(metavar="SOURCE", help="Folder or annotation file of any format.", show_default=False)
]
Images = Annotated[
    Path | None, typer.Argument(help="Folder of the images, where they lie elsewhere.", show_default=False)
]


@app.command()
def validate(
    annotations: Annotations,
    images: Images = None,
    format: data_formats.FormatName = "auto",
    split: data_formats.SplitName = None,
    check_images: Annotated[bool, typer.Option(help="Open every image; without, only the annotations.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Find every mistake in a data set: broken images, boxes outside, dangling ids, ...; exit code 1 if any."""
    from maskray.platform.data.formats.reading import read_annotated
    from maskray.platform.data.validate import validate_tree

    found = read_annotated(annotations, format, split, images, need_images=check_images)
    report = validate_tree(found.tree, found.images, check_images=check_images)
    if as_json:
        left_out = [asdict(one) for one in found.left_out]
        print(json.dumps(_plain(report) | {"format": found.format, "left_out": left_out}, indent=1))
    else:
        from maskray.platform.cli.tables import print_validation

        data_formats.tell(found)
        print_validation(report)
    if report.problems:
        raise typer.Exit(1)


@app.command()
def shard(
    annotations: Annotations,
    out: Annotated[str, typer.Option(help="Folder or file-system URI (s3://, gs://, ...) of the shards.")],
    images: Images = None,
    format: data_formats.FormatName = "auto",
    split: data_formats.SplitName = None,
    rows_per_shard: Annotated[int, typer.Option(min=1, help="Images in one shard.")] = ROWS_PER_SHARD,
    max_bad_images: Annotated[int, typer.Option(min=0, help="Unreadable images that may be left out.")] = 0,
    address: Annotated[str | None, typer.Option(help="Ray cluster; none starts one on this machine.")] = None,
    cpus: Annotated[int, typer.Option(min=1, help="Logical CPUs of the cluster on this machine.")] = 4,
) -> None:
    """Write a data set as Parquet shards, in parallel; safe to run again after an interruption."""
    from maskray.platform.data.formats.reading import dataset_of_tree, read_annotated

    found = read_annotated(annotations, format, split, images)
    dataset = dataset_of_tree(found.name, found.tree, found.images)
    data_formats.tell(found)
    from maskray.platform.data.shards import write_shards
    from maskray.platform.machine.ray_cluster import connect

    connect(address, cpus)
    manifest = write_shards(dataset, found.images, out, rows_per_shard, max_bad_images)
    print(f"{out}: {manifest.num_images} images, {manifest.num_annotations} annotations, {len(manifest.shards)} shards")
    for bad in manifest.bad_images:
        print(f"left out: image {bad.image_id} ({bad.file_name}): {bad.reason}")


@app.command()
def synthesize(
    folder: Annotated[Path, typer.Argument(help="Folder to write images and annotations to.", show_default=False)],
    num_images: Annotated[int, typer.Option(min=1, help="Images to draw.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    height: Annotated[int, typer.Option(min=64, help="Pixels.")] = 192,
    width: Annotated[int, typer.Option(min=64, help="Pixels.")] = 256,
    max_objects: Annotated[int, typer.Option(min=1, help="Most instances in an image.")] = 8,
    split: Annotated[str, typer.Option(help="Name of the split: FOLDER/SPLIT/*.jpg.")] = "train",
    persons: Annotated[bool, typer.Option("--persons", help="Let every other object be a person.")] = False,
) -> None:
    """Draw images with exact masks, boxes and keypoints, in COCO format."""
    from maskray.platform.data.synthetic.dataset import synthesize as draw

    paths = draw(folder, num_images, seed, height, width, max_objects, split, persons)
    print(f"{num_images} images in {paths.images}, annotations in {paths.annotations}")


def _plain(value: Any) -> Any:
    """Dataclasses as dictionaries, for JSON."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
