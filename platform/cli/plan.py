"""How `maskray check` shows the plan of a job."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from maskray.platform.job.kinds import CheckedJob
from maskray.platform.machine.terminal import escape


def print_plan(checked: CheckedJob) -> None:
    """Print the plan as tables, then what it means on this machine, warnings and problems, one line each."""
    console = Console()
    for heading, rows in checked.rows():
        if heading:
            console.print(f"[bold]{escape(heading)}[/]")
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, escape(value))
        console.print(table)
    for line in checked.notes:
        console.print(f"[bold]note:[/] {escape(line)}", soft_wrap=True)
    for warning in checked.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    for problem in checked.problems:
        console.print(f"[red]wrong:[/] {escape(problem)}", soft_wrap=True)
    if not checked.problems:
        console.print("[green]ok:[/] this job can run", soft_wrap=True)
