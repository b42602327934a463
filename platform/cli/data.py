"""`maskray data`: check a data set of any format, write it as shards, draw a synthetic one."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskray.platform.cli import data_formats
from maskray.platform.job.data_config import MAX_BAD_ANNOTATIONS, ROWS_PER_SHARD

if TYPE_CHECKING:
    from maskray.platform.data.validate import ValidationReport

app = typer.Typer(help="Check, convert, divide, join, show and shard data sets of any format.", no_args_is_help=True)
app.command("convert")(data_formats.convert)
app.command("split")(data_formats.split)
app.command("merge")(data_formats.merge)
app.command("show")(data_formats.show)

Images = Annotated[
    Path | None, typer.Argument(help="Folder of the images, where they lie elsewhere.", show_default=False)
]


class WithoutMasks(StrEnum):
    """What becomes of objects without a segmentation."""

    keep = "keep"
    drop = "drop"


class Scene(StrEnum):
    """What is drawn."""

    shapes = "shapes"
    street = "street"


MaxBadAnnotations = Annotated[
    float,
    typer.Option(
        min=0, help="Unreadable annotations that may be left out: below 1 a share, one in any case; from 1 a number."
    ),
]


@app.command()
def validate(
    annotations: data_formats.Source,
    images: Images = None,
    format: data_formats.FormatName = "auto",
    split: data_formats.SplitName = None,
    check_images: Annotated[bool, typer.Option(help="Open every image; without, only the annotations.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    fix: Annotated[
        Path | None, typer.Option(metavar="OUT.json", help="New file for repaired annotations.", show_default=False)
    ] = None,
    max_bad_annotations: MaxBadAnnotations = MAX_BAD_ANNOTATIONS,
) -> None:
    """Find every mistake in a data set: broken images, boxes outside, dangling ids, ...

    What is plainly meant, such as ids written 1.0, is told and no mistake; exit code 1 if there is any other.

    Example: maskray data validate my-images
    """
    from maskray.platform.data.formats.reading import read_annotated
    from maskray.platform.data.validate import validate_tree

    if fix is not None:
        from maskray.platform.files.atomic import refuse_existing

        refuse_existing(fix)
    found = read_annotated(annotations, format, split, images, need_images=check_images)
    report = validate_tree(found.name, found.tree, found.images, check_images, max_bad_annotations, fix is not None)
    if as_json:
        left_out = [asdict(one) for one in found.left_out]
        print(json.dumps(_plain_report(report) | {"format": found.format, "left_out": left_out}, indent=1))
    else:
        from maskray.platform.cli.tables import print_validation

        data_formats.tell(found)
        print_validation(report)
    if fix is not None:
        _write_repair(report, fix, quiet=as_json)
    elif not report.is_clean:
        raise typer.Exit(1)


@app.command()
def shard(
    annotations: data_formats.Source,
    out: Annotated[str, typer.Option(help="Folder or file-system URI (s3://, gs://, ...) of the shards.")],
    images: Images = None,
    format: data_formats.FormatName = "auto",
    split: data_formats.SplitName = None,
    rows_per_shard: Annotated[int, typer.Option(min=1, help="Images in one shard.")] = ROWS_PER_SHARD,
    max_bad_images: Annotated[int, typer.Option(min=0, help="Unreadable images that may be left out.")] = 0,
    max_bad_annotations: MaxBadAnnotations = MAX_BAD_ANNOTATIONS,
    without_masks: Annotated[
        WithoutMasks, typer.Option(help="Objects without segmentation: keep them, or leave them out.")
    ] = WithoutMasks.keep,
    address: Annotated[str | None, typer.Option(help="Ray cluster; none starts one on this machine.")] = None,
    cpus: Annotated[int, typer.Option(min=1, help="Logical CPUs of the cluster on this machine.")] = 4,
) -> None:
    """Write a data set as Parquet shards, in parallel; safe to run again after an interruption.

    Example: maskray data shard my-images --out shards/train --split train
    """
    from maskray.platform.data.formats.problem import verdict_lines
    from maskray.platform.data.formats.reading import read_checked

    found = read_checked(annotations, format, split, images, max_bad_annotations)
    dataset = found.dataset
    data_formats.tell(found)
    if without_masks is WithoutMasks.drop:
        from maskray.platform.data.suitability import ReadingRules, fit_masks

        dataset = fit_masks(dataset, found.name, ReadingRules(masks="all", without_masks="drop"))
    from maskray.platform.data.shards import write_shards
    from maskray.platform.machine.ray_cluster import connect

    connect(address, cpus)
    manifest = write_shards(dataset, found.images, out, rows_per_shard, max_bad_images)
    print(f"{out}: {manifest.num_images} images, {manifest.num_annotations} annotations, {len(manifest.shards)} shards")
    for bad in manifest.bad_images:
        print(f"left out: image {bad.image_id} ({bad.file_name}): {bad.reason}")
    for left in manifest.left_out:
        print(f"left out: image {left.image_id}, annotation {left.annotation_id}: {left.reason}")
    for line in verdict_lines(manifest.problems, "suspect", "read"):
        print(line)


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
    scene: Annotated[
        Scene, typer.Option(help="shapes in COCO format, or street: a tree of Cityscapes (splits train, val, test).")
    ] = Scene.shapes,
) -> None:
    """Draw images with exact masks, boxes and keypoints, in COCO format, or streets as Cityscapes is distributed.

    Example: maskray data synthesize drawn --num-images 50
    """
    if scene is Scene.street:
        from maskray.platform.data.synthetic.street_tree import StreetSettings, synthesize_streets

        if persons:
            raise ValueError("--persons is of shapes, not of streets")
        settings = StreetSettings(num_images, seed, height, width, max_objects)
        print(f"{num_images} images of the split {split} in {synthesize_streets(folder, settings, split)}")
        return
    from maskray.platform.data.synthetic.dataset import synthesize as draw

    paths = draw(folder, num_images, seed, height, width, max_objects, split, persons)
    print(f"{num_images} images in {paths.images}, annotations in {paths.annotations}")


def _plain_report(report: ValidationReport) -> dict[str, Any]:
    """A report as plain values for JSON, without the repaired file."""
    return {
        "problems": [asdict(problem) | {"verdict": problem.verdict} for problem in report.problems],
        "counts": report.counts,
        "refusal": report.refusal,
        "changes": None if report.repair is None else list(report.repair.changes),
    }


def _write_repair(report: ValidationReport, out: Path, quiet: bool) -> None:
    """Write the repaired annotations and print what was changed; ValueError where they cannot be repaired."""
    from maskray.platform.files.atomic import new_file

    repair = report.repair
    assert repair is not None
    if not quiet:
        for line in repair.changes:
            print(line)
    if repair.tree is None:
        raise ValueError(f"{out}: not written: {len(repair.changes)} mistakes that only a person can mend")
    with new_file(out) as temporary:
        temporary.write_text(json.dumps(repair.tree), encoding="utf-8")
    if not quiet:
        print(f"{out}: {len(repair.tree['annotations'])} annotations of {len(repair.tree['images'])} images")
