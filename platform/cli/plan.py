"""How `maskray check` shows the plan of a job."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from maskray.platform.job.config import JobConfig
from maskray.platform.job.kinds import KINDS, AnyJob, AnyPlan, plan_any
from maskray.platform.machine.terminal import escape


def plan_all(job: AnyJob) -> tuple[AnyPlan, list[tuple[str, str]]]:
    """The plan of a job and, where it names no problem, the table of what is taken of the initial weights.

    Raises ValueError where those cannot be read or are of another architecture.
    """
    plan = plan_any(job)
    return plan, [] if plan.problems else KINDS[job.kind].weights(job)


def precision_lines(job: AnyJob) -> list[str]:
    """What inference.precision means on this machine, where a job leaves that open or asks for what is slower here.

    For auto it is measured where it never was, in some seconds. What a GPU does is for the machine that has it.
    """
    if not isinstance(job, JobConfig) or job.resources.gpus_per_worker > 0:
        return []
    from maskray.platform.machine.precision import measured_precision, remembered_precision

    asked = job.model.inference.precision
    if asked == "auto":
        return [f"model.inference.precision: auto takes {measured_precision()}, this machine"]
    known = remembered_precision() if asked == "bfloat16" else None
    if known is None or known.ratio >= 1:
        return []
    return [
        f"model.inference.precision: bfloat16 takes {1 / known.ratio:.1f} times as long as float32 on "
        f"{known.processor}, this machine; auto would take {known.precision}"
    ]


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
    for line in precision_lines(job):
        console.print(f"[bold]note:[/] {escape(line)}", soft_wrap=True)
    for warning in plan.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    for problem in plan.problems:
        console.print(f"[red]wrong:[/] {escape(problem)}", soft_wrap=True)
    if not plan.problems:
        console.print("[green]ok:[/] this job can run", soft_wrap=True)
