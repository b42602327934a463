"""What came of a run, and how the terminal shows it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from maskray.platform.machine.terminal import escape


@dataclass
class RunSummary:
    """A finished run: `checkpoint` is the model that was evaluated, `seconds` the wall time of each stage."""

    name: str
    folder: Path
    checkpoint: Path
    metrics: dict[str, float]
    report: Path
    seconds: dict[str, float]
    model_uri: str | None = None
    served_image: Path | None = None
    submission: Path | None = None


def print_summary(summary: RunSummary, console: Console) -> None:
    """Print metrics, times and where everything lies."""
    kinds = sorted({name.partition("/")[0] for name in summary.metrics})
    table = Table("", *kinds, title="metrics, %", title_justify="left")
    for name in dict.fromkeys(name.partition("/")[2] for name in summary.metrics):
        table.add_row(name, *(_percent(summary.metrics.get(f"{kind}/{name}", math.nan)) for kind in kinds))
    for column in table.columns[1:]:
        column.justify = "right"
    console.print(table)
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in summary.seconds.items())
    lines = {
        "run": f"{summary.name}, {sum(summary.seconds.values()):.0f} s: {stages}",
        "model": str(summary.checkpoint),
        "registered": summary.model_uri,
        "report": str(summary.report),
        "submission": None if summary.submission is None else str(summary.submission),
        "served": None if summary.served_image is None else str(summary.served_image),
    }
    for name, text in lines.items():
        if text is not None:
            console.print(f"[bold]{name:>10}[/]  {escape(text)}", soft_wrap=True)


def _percent(value: float) -> str:
    return "-" if not value > -1 else f"{100 * value:.1f}"
