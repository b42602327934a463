"""What `maskray runs` prints of runs on a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from maskray.platform.machine.terminal import escape
from maskray.platform.runs.run_records import RunRecord
from maskray.platform.train.run_files import RunFiles

LAST_EVENTS = 8
SHOWN_METRICS = ("segm/AP", "bbox/AP", "keypoints/AP")
COLOURS = {"running": "cyan", "finished": "green", "failed": "red", "unreadable": "red", "interrupted": "yellow"}


def print_runs(records: Sequence[RunRecord]) -> None:
    """Print one row for each run, those that belong to another set in below it."""
    table = Table("run", "kind", "state", "step", "AP in percent", "last sign")
    for record in records:
        depth, last = record.name.count("/"), record.name.rpartition("/")[2]
        table.add_row(
            "  " * depth + escape(last),
            record.kind,
            _state(record),
            _steps(record),
            _metrics(record),
            _time(record.changed),
        )
    Console().print(table)


def print_run(record: RunRecord) -> None:
    """Print a run whole: state, checkpoints, metrics, last events."""
    console = Console()
    files = RunFiles(record.folder)
    lines = {
        "folder": str(record.folder),
        "kind": record.kind,
        "state": record.state + ("" if record.told is None else f": {record.told}"),
        "step": _steps(record),
        "last sign": _time(record.changed),
        "checkpoints": ", ".join(_checkpoint_lines(record)) or "none",
    }
    for name, text in lines.items():
        console.print(f"[bold]{name:>12}[/]  {escape(text)}", soft_wrap=True, highlight=False)
    for name, value in record.metrics.items():
        console.print(f"{escape(name):>12}  {'-' if value < 0 else f'{100 * value:.1f}'}", highlight=False)
    for event in files.events()[-LAST_EVENTS:]:
        when = _time(event.pop("time", None), "%Y-%m-%d %H:%M:%S")
        details = ", ".join(f"{key} {_short(value)}" for key, value in event.items() if _is_short(key, value))
        console.print(f"{when}  {escape(str(event.get('event')))}  {escape(details)}", soft_wrap=True, highlight=False)


def _is_short(key: str, value: object) -> bool:
    return key != "event" and not isinstance(value, dict | list)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _checkpoint_lines(record: RunRecord) -> list[str]:
    from maskray.platform.train.checkpoint import is_complete, list_checkpoints, step_of

    found = list_checkpoints(record.folder / "checkpoints")
    return [f"step {step_of(path)}{'' if is_complete(path) else ' (damaged)'}" for path in found]


def _state(record: RunRecord) -> str:
    colour = COLOURS[record.state]
    told = f": {escape(record.told[:60])}" if record.told is not None and record.state != "running" else ""
    return f"[{colour}]{record.state}[/]{told}"


def _steps(record: RunRecord) -> str:
    if record.step is None:
        return "-"
    return str(record.step) if record.steps is None else f"{record.step} of {record.steps}"


def _metrics(record: RunRecord) -> str:
    values = {name: record.metrics[name] for name in SHOWN_METRICS if record.metrics.get(name, -1) >= 0}
    return ", ".join(f"{name.partition('/')[0]} {100 * value:.1f}" for name, value in values.items()) or "-"


def _time(seconds: object, form: str = "%Y-%m-%d %H:%M") -> str:
    return time.strftime(form, time.localtime(seconds)) if isinstance(seconds, int | float) else "-"
