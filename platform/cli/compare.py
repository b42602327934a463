"""`maskray compare`: two models on the same images, on the terminal, as a page, or as JSON."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from maskray.platform.cli.inference import IouType
from maskray.platform.cli.models import Output, TrackingUri

Compared = Annotated[
    str,
    typer.Argument(
        help="Run folder, folder of an evaluation, results file, models:/NAME/3, models:/NAME@alias or runs:/ID.",
        show_default=False,
    ),
]


def compare(
    first: Compared,
    second: Compared,
    gt: Annotated[
        Path | None, typer.Option(help="Annotation file in COCO format, for results files.", show_default=False)
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images of --gt, for pictures in --out.", show_default=False)
    ] = None,
    iou_type: Annotated[
        IouType | None, typer.Option(help="Compare this alone; none takes all that both have, boxes with --gt.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New HTML file for the page.", show_default=False)] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Pictures in the page, those that changed most.")] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON and nothing else.")] = False,
    tracking_uri: TrackingUri = None,
    output: Output = "outputs",
) -> None:
    """Compare two models on the same images: differences with intervals by class and size, pictures that changed most.

    Differences are the second less the first. Each interval is of 95 % over images drawn with replacement, the same for
    both; where it leaves out 0, the difference is more than chance in the choice of images.

    Example: maskray compare models:/demo/1 models:/demo/2 --out changes.html
    """
    from maskray.platform.registry.models import open_tracking
    from maskray.platform.runs.comparison import compare_sources, draw_pictures, find_source

    if images is not None and (gt is None or out is None):
        raise ValueError("--images is for the pictures of --out, with --gt")
    if out is not None and out.exists():
        raise ValueError(f"{out}: exists already")
    remote = any(text.startswith(("models:/", "runs:/")) for text in (first, second))
    tracking = open_tracking(tracking_uri, output) if remote else None
    with tempfile.TemporaryDirectory() as scratch:
        one, other = (find_source(text, tracking, Path(scratch)) for text in (first, second))
        compared = compare_sources(one, other, gt, None if iou_type is None else iou_type.value)
        if out is not None:
            from maskray.platform.evaluation.comparison_page import render_comparison
            from maskray.platform.files.atomic import new_file

            drawn = draw_pictures(compared, pictures, gt, images)
            names = (compared.sources[0].name, compared.sources[1].name)
            text = render_comparison(names, compared.comparisons, compared.categories, drawn)
            with new_file(out) as file:
                file.write_text(text, encoding="utf-8")
    if as_json:
        print(json.dumps(compared.as_dict(), indent=1, allow_nan=False))
        return
    from maskray.platform.cli.tables import print_compared

    print_compared(compared)
    if out is not None:
        print(f"page {out}")
