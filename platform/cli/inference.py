"""`maskray evaluate` and `predict`: what is done with a model and images that are there already."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from maskray.platform.cli.models import Output, TrackingUri
from maskray.platform.cli.tta import TTAOption, read_tta
from maskray.platform.job.serve_config import Runtime, Whole

if TYPE_CHECKING:
    from maskray.platform.evaluation.cityscapes_ap import CityscapesMetrics
    from maskray.platform.evaluation.coco_ap import CocoMetrics
    from maskray.platform.evaluation.rules import IouType as Compared
    from maskray.platform.inference.engine import Engine
    from maskray.platform.inference.image_files import FilePrediction
    from maskray.platform.job.tta_config import TTAConfig

ModelSource = typer.Option(
    "--model", help="Model folder or file, checkpoint, or models:/NAME@alias, models:/NAME/3.", show_default=False
)
RuntimeOption = Annotated[
    Runtime, typer.Option(help="What computes the model: torch, or openvino on a CPU (pip install maskray[openvino]).")
]
PrecisionOption = Annotated[
    Whole | None,
    typer.Option(
        help="int8, of openvino alone: 8-bit whole numbers where `maskray models quantize` has measured ranges; none "
        "computes in inference.precision of the model.",
        show_default=False,
    ),
]
RangesOption = Annotated[
    Path | None, typer.Option(help="Folder of ranges for int8; none is that of the model.", show_default=False)
]
StatsJson = Annotated[bool, typer.Option("--json", help='Print {"stats": [metrics in order]} and nothing else.')]


class IouType(StrEnum):
    """What is compared: boxes, masks or keypoints."""

    bbox = "bbox"
    segm = "segm"
    keypoints = "keypoints"


def evaluate(
    gt: Annotated[
        Path, typer.Option(help="Ground truth: COCO file; of --model and cityscapes also a folder.", show_default=False)
    ],
    dt: Annotated[Path | None, typer.Option(help="Detections: COCO results file.")] = None,
    model: Annotated[str | None, typer.Option(help="In place of --dt: a model, to be run on --images.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the original image, for --model.")] = None,
    out: Annotated[Path | None, typer.Option(help="New folder for results and report of --model.")] = None,
    iou_type: Annotated[
        IouType | None,
        typer.Option(help="Compare boxes, masks or keypoints; none takes boxes of --dt, and all that --model finds."),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(help="coco or cityscapes; of --dt also boundary (boundary AP of masks), lvis and lvis-boundary."),
    ] = "coco",
    submission: Annotated[
        bool, typer.Option("--submission", help="Of --model: write OUT/submission as Cityscapes' server takes it.")
    ] = False,
    partitions: Annotated[int, typer.Option(min=1, help="Parts evaluated in parallel; the metrics are the same.")] = 1,
    as_json: StatsJson = False,
    device: Annotated[str, typer.Option(help="For --model: cpu or cuda.")] = "cpu",
    runtime: RuntimeOption = "torch",
    precision: PrecisionOption = None,
    ranges: RangesOption = None,
    tta: TTAOption = None,
    tracking_uri: TrackingUri = None,
    output: Output = "outputs",
) -> None:
    """Compute the COCO metrics of a results file, or of a model: 12 of boxes and of masks, 10 of keypoints.

    Boundary AP and LVIS's metrics of a results file by --protocol.

    Example: maskray evaluate --gt val.json --dt results.json --iou-type segm
    """
    views = read_tta(tta)
    if model is not None and protocol not in ("coco", "cityscapes"):
        raise ValueError(f"--protocol {protocol} is of --dt: evaluate the results.json that --model leaves in --out")
    if model is not None and dt is None and (images is not None or gt.is_dir()) and out is not None:
        folder, engine = _find(model, tracking_uri, output, runtime, precision, ranges)
        _evaluate_model(folder, gt, images, out, device, iou_type, engine, protocol, submission, views)
        return
    if submission:
        raise ValueError("--submission is of --model: it writes what the model finds")
    if views is not None:
        raise ValueError("--tta is of --model: a results file has been found already")
    if dt is None or model is not None:
        raise ValueError("evaluate takes --gt with --dt, or --gt with --model, --images and --out")
    from maskray.platform.evaluation.evaluate_files import evaluate_files

    compared: Compared = "segm" if protocol.endswith(("boundary", "cityscapes")) else "bbox"
    compared = compared if iou_type is None else iou_type.value
    _print(evaluate_files(str(gt), str(dt), compared, partitions, protocol), compared, protocol, as_json)


def _print(metrics: CocoMetrics | CityscapesMetrics, compared: Compared, protocol: str, as_json: bool) -> None:
    """Print figures, of protocols whose result they are those of every class too."""
    stats = [float(value) for value in metrics.stats]
    classes: dict[str, dict[str, float]] = getattr(metrics, "per_class", dict)()
    if as_json:
        print(json.dumps({"stats": stats} | ({"classes": classes} if classes else {})))
    else:
        from maskray.platform.cli.tables import print_classes, print_metrics

        print_metrics(stats, compared, protocol)
        print_classes(classes)


def _evaluate_model(
    folder: str,
    gt: Path,
    images: Path | None,
    out: Path,
    device: str,
    iou_type: IouType | None,
    engine: Engine,
    protocol: str,
    submission: bool,
    tta: TTAConfig | None,
) -> None:
    from rich.console import Console

    from maskray.platform.job.config import ResourceConfig
    from maskray.platform.runs.evaluation import evaluate_on_coco
    from maskray.platform.runs.summary import print_summary

    if device not in ("cpu", "cuda"):
        raise ValueError(f"device {device!r}: cpu or cuda")
    resources = ResourceConfig(num_workers=1, gpus_per_worker=float(device == "cuda"))
    compared: Compared | None = None if iou_type is None else iou_type.value
    by: Literal["coco", "cityscapes"] = "cityscapes" if protocol == "cityscapes" else "coco"
    done = evaluate_on_coco(folder, gt, images, out, resources, compared, engine, by, submission, tta)
    print_summary(done, Console())


def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images, or folders of images.")],
    model: Annotated[str, ModelSource],
    out: Annotated[Path | None, typer.Option(help="Folder for the images with masks and boxes drawn.")] = None,
    score_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least score; default is the model's.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    runtime: RuntimeOption = "torch",
    precision: PrecisionOption = None,
    ranges: RangesOption = None,
    tta: TTAOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print COCO results and nothing else.")] = False,
    tracking_uri: TrackingUri = None,
    output: Output = "outputs",
) -> None:
    """Find the objects in images; results are in COCO format with masks as RLE.

    Files that are no readable images are told while the others are answered; the exit code is 1 then. Hidden files of
    a folder, as macOS leaves them beside each image, are passed over and counted.

    Example: maskray predict photo.jpg --model models:/demo@champion --out found
    """
    views = read_tta(tta)
    from maskray.platform.inference.image_files import list_images, predict_files

    paths = list_images(images)
    folder, engine = _find(model, tracking_uri, output, runtime, precision, ranges)
    predictions = predict_files(paths, folder, device, score_threshold, out, engine, views)
    failed: list[FilePrediction] = []
    sound = _aside(predictions, failed)
    if as_json:
        print(json.dumps([result for prediction in sound for result in prediction.results]))
    else:
        from maskray.platform.cli.tables import print_predictions

        print_predictions(sound)
    if failed:
        if len(paths) > 1:
            print(f"error: {len(failed)} of {len(paths)} files are no readable images", file=sys.stderr)
        raise typer.Exit(1)


def _aside(predictions: Iterable[FilePrediction], failed: list[FilePrediction]) -> Iterator[FilePrediction]:
    """The predictions but for those without an image, which are told on stderr as they come and kept in `failed`."""
    for prediction in predictions:
        if prediction.error is None:
            yield prediction
        else:
            failed.append(prediction)
            print(f"error: {prediction.error}", file=sys.stderr)


def _find(
    model: str, uri: str | None, output: str, runtime: Runtime, precision: Whole | None, ranges: Path | None
) -> tuple[str, Engine]:
    """The folder of a model, and what computes it."""
    from maskray.platform.inference.engine import make_engine
    from maskray.platform.registry.models import model_folder

    return model_folder(model, uri, output), make_engine(runtime, precision, ranges)
