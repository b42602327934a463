"""The table of a sweep as Markdown, HTML, CSV and in the terminal."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Canvas
from rich.console import Console
from rich.table import Table

from maskray.platform.evaluation.charts import COLORS, INK, dress_axes, to_svg
from maskray.platform.evaluation.pages import page_environment
from maskray.platform.files.storage import write_whole
from maskray.platform.job.plain_text import csv_cell
from maskray.platform.machine.terminal import escape
from maskray.platform.sweep.table import Estimate, Finding, Row, SweepTable

TABLE_FILES = ("table.md", "table.html", "table.csv")
KINDS = {"bbox": "box", "segm": "mask", "keypoints": "keypoint"}
NOTHING = "-"


def write_table(table: SweepTable, folder: Path) -> None:
    """Write table.md, table.html and table.csv into a folder, each whole or not at all."""
    texts = (markdown(table), html(table), as_csv(table))
    for file, text in zip(TABLE_FILES, texts, strict=True):
        write_whole(folder / file, text)


def print_table(table: SweepTable, folder: Path, console: Console) -> None:
    """Print the table and its findings, and where the files lie."""
    head, rows = cells(table)
    # Of the differences the first; the rest is in the files, a terminal is narrow.
    kept = 2 + len(table.metrics) + bool(_compared(table))
    shown = Table(*head[:kept], title=escape(table.title), title_justify="left")
    for column in shown.columns[1:]:
        column.justify = "right"
    for row in rows:
        shown.add_row(*map(escape, row[:kept]))
    console.print(shown)
    colors = {"yes": "green", "uncertain": "yellow", "no": "red", "unknown": "red"}
    for finding in table.findings:
        text = f"{escape(finding.config.text)}: {describe_finding(finding)}"
        console.print(f"[{colors[finding.verdict]}]{finding.verdict:>9}[/]  {text}", highlight=False, soft_wrap=True)
    console.print(f"[bold]    table[/]  {escape(str(folder / TABLE_FILES[1]))}", soft_wrap=True)


def markdown(table: SweepTable) -> str:
    """The table, its notes and the findings as Markdown."""
    head, rows = cells(table)
    lines = [f"# {table.title}", "", _line(head), f"|{'---|' + '--:|' * (len(head) - 1)}", *map(_line, rows)]
    lines += ["", notes(table)]
    if table.findings:
        lines += ["", "| finding | measured | holds |", "|---|--:|---|"]
        lines += [_line([f.config.text, describe_finding(f), f.verdict]) for f in table.findings]
    return "\n".join(lines) + "\n"


def html(table: SweepTable) -> str:
    """The same as one page without outside resources, with a chart of every seed."""
    environment = page_environment(Path(__file__).parent)
    head, rows = cells(table)
    findings = [(finding, describe_finding(finding)) for finding in table.findings]
    return environment.get_template("table.html.jinja").render(
        table=table, head=head, rows=rows, notes=notes(table), findings=findings, chart=chart(table)
    )


def as_csv(table: SweepTable) -> str:
    """One line for each variant, seed and metric in AP points; seed is empty in lines of means, which say more."""
    text = io.StringIO()
    names = ("variant", "seed", "figure", "value", "spread", "difference", "low", "high", "paper")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in table.rows:
        for metric in table.metrics:
            for seed, metrics in row.seeds.items():
                writer.writerow(
                    [csv_cell(row.label), seed, metric, _number(metrics.get(metric, math.nan)), "", "", "", "", ""]
                )
            difference = row.differences.get(metric, Estimate(math.nan))
            values = (row.mean(metric), row.spread(metric), difference.value, difference.low, difference.high)
            paper = row.paper.get(metric, math.nan)
            writer.writerow([csv_cell(row.label), "", metric, *(_number(value) for value in (*values, paper))])
    return text.getvalue()


def cells(table: SweepTable) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table as text."""
    metrics = [_short_name(metric) for metric in table.metrics]
    with_paper = [metric for metric in table.metrics if any(metric in row.paper for row in table.rows)]
    compared = _compared(table)
    head = ["", "seeds", *metrics, *(f"Δ {_short_name(metric)}" for metric in compared)]
    head += [f"paper {_short_name(metric)}" for metric in with_paper]
    rows = []
    for row in table.rows:
        line = [row.label, _count(row)]
        line += [_with_spread(row.mean(metric), row.spread(metric)) for metric in table.metrics]
        line += [_with_interval(row.differences.get(metric)) for metric in compared]
        line += [_point(row.paper.get(metric, math.nan)) for metric in with_paper]
        rows.append(line)
    return head, rows


def _compared(table: SweepTable) -> list[str]:
    """Metrics with a difference to show; a baseline without masks gives none in mask AP."""
    return [metric for metric in table.metrics if any(metric in row.differences for row in table.rows)]


def notes(table: SweepTable) -> str:
    """What the numbers of the table are."""
    text = "AP points, mean ± standard deviation over the seeds"
    if _compared(table):
        text += f"; Δ to {table.baseline}"
    if table.num_samples:
        text += (
            f", with the interval of 95 % of a paired bootstrap over {table.num_images} images "
            f"({table.num_samples} resamples, means over the seeds)"
        )
    text += "."
    if table.paper:
        text += f" Paper: {table.paper}; other data, so its differences compare and its values do not."
    return text


def describe_finding(finding: Finding) -> str:
    """The measured value with its interval, and the range it should lie in."""
    config = finding.config
    digits = 3 if config.relative else 1
    value = _with_interval(finding.estimate, digits)
    bounds = [f"at least {config.at_least:g}"] if config.at_least is not None else []
    bounds += [f"at most {config.at_most:g}"] if config.at_most is not None else []
    return f"{value} ({' and '.join(bounds)}{', logarithm of a ratio' if config.relative else ''})"


def chart(table: SweepTable) -> str:
    """Every seed of every variant as a dot, the mean as a line, and the paper's number as an open diamond."""
    canvas = Canvas(figsize=(9.2, 1.1 + 0.42 * len(table.rows)), layout="constrained")
    panels = canvas.subplots(1, len(table.metrics), squeeze=False, sharey=True)[0]
    for axes, metric in zip(panels, table.metrics):
        dress_axes(axes, _short_name(metric), "AP points", "")
        for index, row in enumerate(table.rows):
            values = row.values(metric)
            color = COLORS[index % len(COLORS)]
            axes.plot(values, np.full(len(values), index), "o", color=color, markersize=5, alpha=0.7)
            axes.plot([row.mean(metric)], [index], "|", color=color, markersize=20, markeredgewidth=3)
            if metric in row.paper:
                axes.plot([row.paper[metric]], [index], "D", color=INK, markersize=5, fillstyle="none")
        axes.set_yticks(range(len(table.rows)), [row.label for row in table.rows], parse_math=False)
        axes.set_ylim(len(table.rows) - 0.5, -0.5)
    return to_svg(canvas)


def _line(row: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |"


def _short_name(metric: str) -> str:
    kind, _, name = metric.partition("/")
    return f"{KINDS.get(kind, kind)} {name}"


def _count(row: Row) -> str:
    text = f"{len(row.seeds)}" if len(row.seeds) == row.num_trials else f"{len(row.seeds)} of {row.num_trials}"
    return text + (f", {row.stopped} stopped" if row.stopped else "") + (f", {row.failed} failed" if row.failed else "")


def _with_spread(mean: float, spread: float) -> str:
    return _point(mean) if math.isnan(spread) else f"{mean:.1f} ± {spread:.1f}"


def _with_interval(estimate: Estimate | None, digits: int = 1) -> str:
    if estimate is None or math.isnan(estimate.value):
        return NOTHING
    text = f"{estimate.value:+.{digits}f}"
    return text if math.isnan(estimate.low) else f"{text} [{estimate.low:+.{digits}f}, {estimate.high:+.{digits}f}]"


def _point(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.1f}"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"
