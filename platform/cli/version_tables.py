"""What `maskray models` prints of versions, comparisons and moves when no JSON is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from maskray.platform.machine.terminal import escape
from maskray.platform.registry.gate import shown

if TYPE_CHECKING:
    from maskray.platform.registry.description import VersionDetails, VersionDifferences
    from maskray.platform.registry.gate import Comparison


def print_details(details: VersionDetails) -> None:
    """Print a version: what it is, its metrics, its files, the comparisons at gates and the moves of its aliases."""
    console = Console()
    latency = details["latency"]
    lines = {
        "version": f"models:/{details['name']}/{details['version']}",
        "aliases": ", ".join(details["aliases"]) or "none",
        "created": details["created"],
        "run": details["run_url"] or details["run_id"],
        "classes": details["labels"],
        "weights": f"{_bytes(details['size_bytes'])}, SHA-256 {details['sha256'] or 'unknown'}",
        "latency": None if latency is None else f"{latency['seconds']:.4f} s, {latency['measured']}",
        **details["data"],
        **details["code"],
        "files": ", ".join(f"{name} ({_bytes(size)})" for name, size in details["files"].items()),
    }
    for name, text in lines.items():
        if text is not None:
            console.print(f"[bold]{name:>18}[/]  {escape(text)}", soft_wrap=True, highlight=False)
    for name, value in details["metrics"].items():
        console.print(f"{name:>18}  {_metric(value)}", highlight=False)
    for comparison in details["comparisons"]:
        print_comparison(comparison)
    if details["moves"]:
        table = Table("alias", "version", "before", "time", "by", "how", "reason", title="moves", title_justify="left")
        for move in details["moves"]:
            row = (
                move["alias"],
                move["version"],
                move["before"],
                move["time"][:19],
                move["by"],
                move["way"],
                move["reason"],
            )
            table.add_row(*(escape(text or "-") for text in row))
        console.print(table)


def print_comparison(comparison: Comparison) -> None:
    """Print what a gate found: one row per thing it asks, then the verdict."""
    console = Console()
    holder = comparison["holder"]
    beside = "no version before it" if holder is None else f"version {holder}"
    title = f"version {comparison['version']} beside {beside}, for {comparison['alias']}, {comparison['time']}"
    table = Table("", "version", "holder", "limit", "", title=escape(title), title_justify="left")
    for check in comparison["checks"]:
        limit = "-"
        if check["least"] is not None:
            limit = f"at least {shown(check['least'])}"
        elif check["most"] is not None:
            limit = f"at most {shown(check['most'])}"
        verdict = "[green]passed[/]" if check["passed"] else "[red]refused[/]"
        table.add_row(escape(check["name"]), shown(check["candidate"]), shown(check["holder"]), limit, verdict)
    console.print(table)
    for refusal in comparison["refusals"]:
        console.print(f"[red]refused:[/] {escape(refusal)}", soft_wrap=True)


def print_differences(differences: VersionDifferences) -> None:
    """Print two versions side by side."""
    console = Console()
    sides = (escape(differences["first"]), escape(differences["second"]))
    table = Table("metric", *sides, "difference")
    for name, (one, other) in differences["metrics"].items():
        change = "-"
        if one is not None and other is not None and min(one, other) >= 0:
            change = f"{other - one:+.4f}"
        table.add_row(escape(name), _metric(one), _metric(other), change)
    sizes = differences["size_bytes"]
    table.add_row("weights", _bytes(sizes[0]), _bytes(sizes[1]), "")
    console.print(table)
    labels = differences["labels"]
    groups: dict[str, Mapping[str, tuple[Any, Any]]] = {
        differences["config_file"]: differences["config"],
        "data": differences["data"],
        "code": differences["code"],
        "classes": {"labels": labels} if labels[0] != labels[1] else {},
    }
    for group, keys in groups.items():
        if not keys:
            console.print(f"{group}: the same", highlight=False)
            continue
        table = Table(group, *sides)
        for key, (one, other) in keys.items():
            table.add_row(escape(key), escape("-" if one is None else one), escape("-" if other is None else other))
        console.print(table)


def _metric(value: float | None) -> str:
    return "-" if value is None or value < 0 else shown(value)


def _bytes(size: int | None) -> str:
    return "unknown size" if size is None else f"{size:,} bytes"
