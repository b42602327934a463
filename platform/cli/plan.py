"""How `maskray check` shows the plan of a job."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from maskray.platform.job.kinds import KINDS, AnyJob, AnyPlan, plan_any
from maskray.platform.machine.terminal import escape


def plan_all(job: AnyJob) -> tuple[AnyPlan, list[tuple[str, str]]]:
    """The plan of a job and, where it names no problem, the table of what is taken of the initial weights.

    Raises ValueError where those cannot be read or are of another architecture.
    """
    plan = plan_any(job)
    return plan, [] if plan.problems else KINDS[job.kind].weights(job)


def print_plan(job: AnyJob, plan: AnyPlan, weights: Sequence[tuple[str, str]] = ()) -> None:
    """Print the plan as tables, what is taken of the initial weights, then warnings and problems, one line each."""
    console = Console()
    tables = KINDS[job.kind].rows(job, plan)
    for heading, rows in [*tables, ("initial weights", list(weights))] if weights else tables:
        if heading:
            console.print(f"[bold]{escape(heading)}[/]")
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, escape(value))
        console.print(table)
    for warning in plan.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    for problem in plan.problems:
        console.print(f"[red]wrong:[/] {escape(problem)}", soft_wrap=True)
    if not plan.problems:
        console.print("[green]ok:[/] this job can run", soft_wrap=True)
