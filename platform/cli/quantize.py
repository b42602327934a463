"""`maskray models quantize`: ranges for 8-bit layers from one's own images, and what they give and cost."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskray.platform.cli.models import Output, TrackingUri

if TYPE_CHECKING:
    from maskray.platform.runs.quantization import Cost

MOST_LOST = 0.3  # AP in per cent that 8 bits may cost and still be said to cost nothing


def quantize(
    model: Annotated[str, typer.Argument(help="Model folder or file, or models:/NAME@alias.", show_default=False)],
    images: Annotated[
        Path, typer.Option(help="Folder of images like those that it is going to see.", show_default=False)
    ],
    gt: Annotated[
        Path | None,
        typer.Option(help="Annotations of --images, as `evaluate` reads them: then AP is told.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the file of ranges, for --ranges; none is that of the model.", show_default=False
        ),
    ] = None,
    measure: Annotated[int, typer.Option(min=1, help="Images that the ranges are from.")] = 100,
    compare: Annotated[int, typer.Option(min=1, help="Other images that int8 is compared on.")] = 100,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the CPU; none is torch's number.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON and nothing else.")] = False,
    tracking_uri: TrackingUri = None,
    output: Output = "outputs",
) -> None:
    """Measure what --precision int8 needs to know of a model, write it to a file, and show what int8 gives and costs.

    The file belongs to these weights; another version needs its own. It is never overwritten.

    Example: maskray models quantize models:/demo@champion --images my-images --out ranges
    """
    if model.startswith("models:/") and out is None:
        raise ValueError(
            "a registered model lies in a cache, where nothing is kept: --out names a folder for its ranges"
        )
    import torch

    from maskray.platform.inference.image_files import list_images
    from maskray.platform.registry.models import model_folder
    from maskray.platform.runs.quantization import Photograph, annotated_photographs, quantize

    if threads is not None:
        torch.set_num_threads(threads)
    folder = model_folder(model, tracking_uri, output)
    if gt is None:
        photographs = [Photograph(path) for path in list_images([images])]
    else:
        photographs = annotated_photographs(folder, gt, images)
    cost = quantize(folder, photographs, out, measure, compare)
    if as_json:
        print(json.dumps(as_dict(cost), indent=1))
    else:
        print_cost(cost)


def as_dict(cost: Cost) -> dict[str, Any]:
    """What JSON holds; fractions and seconds."""
    both = cost.agreement
    found: dict[str, Any] = {"ranges": str(cost.path), "layers": cost.num_layers, "images_measured": cost.num_measured}
    found |= {"images_compared": cost.num_compared, "compared_on_measured": cost.is_seen, "precision": cost.precision}
    found |= {"found": both.first, "found_int8": both.second, "found_by_both": both.both}
    found["box_iou"] = None if math.isnan(both.mean_iou) else both.mean_iou
    found |= {"seconds": cost.seconds[0], "seconds_int8": cost.seconds[1]}
    return found | {"metrics": {name: {"before": a, "int8": b} for name, (a, b) in cost.metrics.items()}}


def print_cost(cost: Cost) -> None:
    """Print the table, what both find, and where the ranges are."""
    from rich.console import Console
    from rich.table import Table

    which = "those that the ranges are from" if cost.is_seen else "others than those that the ranges are from"
    title = f"{cost.num_compared} images, {which}"
    table = Table("", f"openvino {cost.precision}", "int8", "", title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, (before, after) in cost.metrics.items():
        table.add_row(name, f"{100 * before:.1f}", f"{100 * after:.1f}", f"{100 * (after - before):+.1f}")
    before, after = cost.seconds
    table.add_row("ms an image", f"{1e3 * before:.1f}", f"{1e3 * after:.1f}", f"{before / after:.2f} x as fast")
    Console().print(table)
    both = cost.agreement
    alike = f"int8 finds {both.both} of them and {both.second - both.both} others"
    overlap = f"; their boxes overlap by {both.mean_iou:.3f}" if both.both else ""
    print(f"{both.first} objects have a score of 0.5 or more; {alike}{overlap}")
    lost = [name for name, (a, b) in cost.metrics.items() if 100 * (a - b) > MOST_LOST]
    if lost:
        print(f"int8 costs more than {MOST_LOST} of {', '.join(lost)} here")
    print(f"{cost.path}: ranges of {cost.num_layers} layers from {cost.num_measured} images")
