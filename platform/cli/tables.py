"""Tables that commands print on a terminal when no JSON is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from maskray.platform.data.formats.problem import verdict_lines
from maskray.platform.evaluation.protocols import PROTOCOLS
from maskray.platform.evaluation.rules import NO_LIMIT, IouType
from maskray.platform.job.plain_text import shown_name
from maskray.platform.machine.terminal import escape

if TYPE_CHECKING:
    from maskray.platform.data.validate import ValidationReport
    from maskray.platform.evaluation.comparison import Change
    from maskray.platform.inference.image_files import FilePrediction
    from maskray.platform.machine.doctor import Finding
    from maskray.platform.registry.models import ModelVersion
    from maskray.platform.runs.comparison import ComparedModels

SHOWN_CLASSES = 10
TITLES = {
    "coco": "COCO metrics",
    "boundary": "Boundary metrics",
    "lvis": "LVIS metrics",
    "lvis-boundary": "LVIS boundary metrics",
    "cityscapes": "Cityscapes metrics",
}


def print_metrics(stats: list[float], iou_type: IouType, protocol: str = "coco") -> None:
    """Print the metrics of an IoU type by a protocol; -1 (nothing to find) is shown as a dash."""
    overlap = "OKS" if iou_type == "keypoints" else "IoU"
    table = Table("metric", overlap, "objects", "detections", "value", title=f"{TITLES[protocol]}, {iou_type}")
    table.columns[-1].justify = "right"
    for metric, value in zip(PROTOCOLS[protocol].rules[iou_type].metrics, stats, strict=True):
        at = "0.50:0.95" if metric.overlap is None else f"{metric.overlap:.2f}"
        objects = metric.area if metric.group is None else f"{metric.group} classes"
        limit = "all" if metric.limit == NO_LIMIT else str(metric.limit)
        table.add_row(metric.name, at, objects, limit, _figure(value))
    Console().print(table)


def print_classes(classes: Mapping[str, Mapping[str, float]]) -> None:
    """Print the metrics of every class by name, if there are any."""
    if not classes:
        return
    table = Table("class", *next(iter(classes.values())))
    for name, row in classes.items():
        table.add_row(escape(shown_name(name)), *map(_figure, row.values()))
    for column in table.columns[1:]:
        column.justify = "right"
    Console().print(table)


def _figure(value: float) -> str:
    return "-" if value < 0 else f"{value:.4f}"


def print_predictions(predictions: Iterable[FilePrediction]) -> None:
    """Print one line per detection, best first, as the images are done."""
    console = Console()
    for prediction in predictions:
        console.print(f"[bold]{escape(str(prediction.path))}[/]: {len(prediction.results)} objects", soft_wrap=True)
        for result in prediction.results:
            x, y, width, height = result["bbox"]
            name = shown_name(prediction.categories.get(result["category_id"], str(result["category_id"])))
            console.print(
                f"  {escape(name):<16} {result['score']:.3f}  x {x:.1f}  y {y:.1f}  {width:.1f} x {height:.1f} pixels",
                highlight=False,
            )


def print_versions(versions: Sequence[ModelVersion]) -> None:
    """Print registered model versions, one a row, with the main metrics of their registration."""
    if not versions:
        print("no registered models")
        return
    metrics = [
        name
        for name in ("bbox/AP", "segm/AP", "keypoints/AP")
        if any(name in version["metrics"] for version in versions)
    ]
    table = Table("name", "version", "aliases", "created", "run", *metrics)
    for version in versions:
        values = [version["metrics"].get(name) for name in metrics]
        table.add_row(
            escape(version["name"]),
            version["version"],
            escape(", ".join(version["aliases"])),
            version["created"],
            version["run_id"][:8],
            *("-" if value is None else f"{value:.4f}" for value in values),
        )
    Console().print(table)


def print_validation(report: ValidationReport) -> None:
    """Print what is in a data set and what is wrong with it: counts, the first problems, how many of each code."""
    console = Console()
    for name, count in report.counts.items():
        console.print(f"{name:<28} {count}", highlight=False)
    mistakes = [problem for problem in report.problems if problem.verdict != "read"]
    for problem in mistakes[:50]:
        console.print(f"[red]wrong:[/] {escape(str(problem))}", soft_wrap=True)
    if len(mistakes) > 50:
        console.print(f"... and {len(mistakes) - 50} more (--json lists all)")
    for line in verdict_lines(report.problem_counts, "read", "suspect", "dropped", "refused"):
        console.print(line, soft_wrap=True)
    if report.refusal is not None:
        console.print(f"[red]refused:[/] {escape(report.refusal)}", soft_wrap=True)
    elif report.is_clean:
        console.print("[green]ok:[/] no problems" if not report.problems else "[green]ok:[/] every object is read")
    else:
        console.print(f"read by every command: {report.counts['annotations read']} annotations", soft_wrap=True)


def print_findings(findings: list[Finding]) -> None:
    """Print the findings as a table, the remedy under what is not ok."""
    console = Console(highlight=False, soft_wrap=True)
    colours = {"ok": "green", "warning": "yellow", "wrong": "red"}
    width = max(len(finding.name) for finding in findings) + 2
    for finding in findings:
        state = f"[{colours[finding.state]}]{finding.state:<8}[/]"
        console.print(
            f"{state} {escape(finding.name):<{width}}{escape(finding.detail)}", soft_wrap=True, highlight=False
        )
        if finding.remedy:
            console.print(f"{'':<{width + 9}}-> {escape(finding.remedy)}")


def print_compared(compared: ComparedModels) -> None:
    """Print the differences of two models, and the classes that differ beyond chance."""
    console = Console()
    names = [escape(source.name) for source in compared.sources]
    for one in compared.comparisons:
        title = f"{one.iou_type}, {one.num_images} images, percent"
        table = Table("", *names, "difference", "95 %", title=title, title_justify="left")
        for name, change in one.metrics.items():
            table.add_row(name, _percent(change.first), _percent(change.second), *_difference(change))
        changes = sorted(one.categories.items(), key=lambda item: -abs(item[1]["AP"].difference))
        sure = [(category, of["AP"]) for category, of in changes if of["AP"].is_sure]
        for category, change in sure[:SHOWN_CLASSES]:
            name = escape(shown_name(compared.categories.get(category, str(category))))
            table.add_row(f"AP {name}", _percent(change.first), _percent(change.second), *_difference(change))
        for column in table.columns[1:]:
            column.justify = "right"
        console.print(table)
        if len(sure) > SHOWN_CLASSES:
            console.print(f"{len(sure) - SHOWN_CLASSES} more classes differ beyond chance: --out or --json has all")


def _difference(change: Change) -> tuple[str, str]:
    color = "" if not change.is_sure else "green" if change.difference > 0 else "red"
    text = _percent(change.difference, "+")
    ends = f"{_percent(change.low, '+')} to {_percent(change.high, '+')}"
    return f"[{color}]{text}[/]" if color else text, ends


def _percent(value: float, sign: str = "") -> str:
    return "-" if value != value else f"{100 * value:{sign}.1f}"
