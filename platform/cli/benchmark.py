"""`maskray benchmark`: where the time of a prediction goes on this machine, beside what the paper measured."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskray.platform.cli.inference import PrecisionOption, RangesOption, RuntimeOption
from maskray.platform.cli.models import Output, TrackingUri

if TYPE_CHECKING:
    from numpy import ndarray

    from maskray.platform.inference.stage_times import StageTimes

MOST_IMAGES = 20
DRAWN = 4  # images of shapes, where none are given
SIZE = (480, 640)
# He et al. 2017, section 4.3 "Timing": an Nvidia Tesla M40, an image at a time.
PAPER = "paper, one M40: R101-FPN 195 ms and 15 ms of a CPU for resizing, R101-C4 400 ms; about 5 images a second"


def benchmark(
    model: Annotated[str, typer.Argument(help="Model folder or file, or models:/NAME@alias.", show_default=False)],
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE...", help="Images, or folders of them; none are drawn ones.")
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, max=256, help="Images given at once; repeatable. [default: 1 2 4 8]")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Times that each image is predicted.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the CPU; none is torch's number.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    runtime: RuntimeOption = "torch",
    precision: PrecisionOption = None,
    ranges: RangesOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print seconds as JSON and nothing else.")] = False,
    tracking_uri: TrackingUri = None,
    output: Output = "outputs",
) -> None:
    """Time a model by stage: resize, backbone, proposals, boxes, masks, paste and encode; and images a second.

    Times are of this machine as it is now: other programs on it count. At most 20 images are taken.

    Example: maskray benchmark models:/demo@champion --batch 1 --batch 4
    """
    from maskray.platform.inference.image_files import list_images

    paths = list_images(images) if images else []
    import torch

    from maskray.platform.inference.engine import make_engine, open_predictor
    from maskray.platform.inference.stage_times import measure_stages
    from maskray.platform.registry.models import model_folder

    if threads is not None:
        torch.set_num_threads(threads)
    engine = make_engine(runtime, precision, ranges)
    predictor = open_predictor(model_folder(model, tracking_uri, output), device, engine, threads)
    times = measure_stages(predictor, _pixels(paths[:MOST_IMAGES]), repeats, batch or (1, 2, 4, 8))
    facts = _facts(device) | {"runtime": runtime, "precision": precision or predictor.precision}
    if as_json:
        print(json.dumps(asdict(times) | facts))
        return
    print_times(times)
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(PAPER)


def _pixels(paths: list[Path]) -> list[ndarray]:
    """The images of files, or drawn ones where there are none."""
    import numpy as np

    from maskray.platform.data.synthetic.scene import draw_scene
    from maskray.platform.inference.image_files import read_image

    if paths:
        return [read_image(path) for path in paths]
    return [draw_scene(*SIZE, 12, np.random.default_rng(number))[0] for number in range(DRAWN)]


def print_times(times: StageTimes) -> None:
    """Print milliseconds by stage, what is left of a whole prediction, and images a second."""
    from rich.console import Console
    from rich.table import Table

    title = f"{times.num_images} images, {times.detections:.0f} objects found in each"
    table = Table("stage", "median ms", "p90 ms", "share", title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    rest = times.whole.median - sum(one.median for one in times.stages.values())
    for name, one in times.stages.items():
        table.add_row(name, f"{1e3 * one.median:.1f}", f"{1e3 * one.p90:.1f}", _share(one.median, times))
    table.add_row("rest", f"{1e3 * rest:.1f}", "", _share(rest, times))
    table.add_row("an image", f"{1e3 * times.whole.median:.1f}", f"{1e3 * times.whole.p90:.1f}", "")
    Console().print(table)
    rates = ", ".join(f"{rate:.2f} of {size} at once" for size, rate in times.images_per_second.items())
    print(f"images a second: {rates}")


def _share(seconds: float, times: StageTimes) -> str:
    return f"{100 * seconds / times.whole.median:.0f} %"


def _facts(device: str) -> dict[str, Any]:
    """Where it was measured, and the most memory that this process has had, in MB."""
    import resource

    import torch

    from maskray.platform.machine.environment import describe_environment

    facts = describe_environment()
    threads = torch.get_num_threads()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    if device.startswith("cuda"):
        memory = torch.cuda.max_memory_allocated() / 1e6
    processor = facts["gpus"] if device.startswith("cuda") else facts["cpu"]
    return {"processor": processor, "threads": threads, "peak_mb": round(memory), "torch": facts["torch"]}
