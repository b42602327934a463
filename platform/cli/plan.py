"""How `maskray check` shows the plan of a job."""

from __future__ import annotations

from typing import cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from maskray.platform.job.config import JobConfig
from maskray.platform.job.load import AnyJob
from maskray.platform.job.plan import DATA_CPUS, Plan
from maskray.platform.job.sweep_config import SweepConfig
from maskray.platform.sweep.trial_record import OUTCOMES, TrialRecord
from maskray.platform.sweep.trials import SweepPlan


def print_plan(job: AnyJob, plan: Plan | SweepPlan) -> None:
    """Print the plan as a table, then warnings and problems, one line each; of a sweep that of its first trial too."""
    console = Console()
    if isinstance(plan, SweepPlan):
        _print_rows(console, _sweep_rows(cast(SweepConfig, job), plan))
        console.print("[bold]first trial[/]")
        job, shown = plan.trials[0].job, plan.first
    else:
        shown = plan
    _print_rows(console, _rows(cast(JobConfig, job), shown))
    for warning in shown.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    for problem in plan.problems:
        console.print(f"[red]wrong:[/] {escape(problem)}", soft_wrap=True)
    if not plan.problems:
        console.print("[green]ok:[/] this job can run", soft_wrap=True)


def _print_rows(console: Console, rows: list[tuple[str, str]]) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, escape(value))
    console.print(table)


def _sweep_rows(sweep: SweepConfig, plan: SweepPlan) -> list[tuple[str, str]]:
    ended = sum(TrialRecord(trial).state in OUTCOMES for trial in plan.trials)
    scheduler = sweep.scheduler.name if sweep.scheduler.name != "none" else "none, every trial runs to its end"
    return [
        ("sweep folder", plan.folder),
        (
            "trials",
            f"{len(plan.trials)} = {len(plan.labels)} variants x {len(sweep.seeds)} seeds, {ended} ended already",
        ),
        ("variants", "; ".join(plan.labels)),
        ("scheduler", f"{scheduler}; metric {sweep.metric}, {sweep.max_concurrent} trials at a time"),
        ("CPUs", f"{plan.cpus_needed:g}" + ("" if plan.cpus_local is None else f" of {plan.cpus_local}")),
    ]


def _rows(job: JobConfig, plan: Plan) -> list[tuple[str, str]]:
    train, resources, backbone = job.train, job.resources, job.model.backbone
    parts = f"{resources.num_workers} workers" if resources.num_workers > 1 else "1 worker"
    if train.accumulate_steps > 1:
        parts += f" x {train.accumulate_steps} accumulation steps"
    epochs = "unknown before the data are read" if plan.epochs is None else f"{plan.epochs:.4g}"
    if plan.decay_at:
        decays = ", ".join(str(step) for step in plan.decay_at)
        schedule = f"x {train.decay:g} after {decays}"
    else:
        schedule = "constant after warm-up"
    place = "this machine" if resources.address is None else f"cluster {resources.address}"
    cpus = (
        f"{resources.num_workers} workers x {resources.cpus_per_worker:g} + {DATA_CPUS:g} for Ray Data "
        f"= {plan.cpus_needed:g}" + ("" if plan.cpus_local is None else f" of {plan.cpus_local}")
    )
    return [
        ("run folder", plan.run_folder),
        ("data", f"train {_images(plan.train_images, job.data.train.kind)}, val "
                 f"{_images(plan.val_images, job.data.val.kind)}"),
        ("model", f"{'Mask' if job.model.masks else 'Faster'} R-CNN {backbone.name} {backbone.features.upper()}"
                  f"{' with keypoints' if job.model.keypoints else ''}, {backbone.norm}, "
                  f"from {train.initial_weights or 'random weights'}"),
        ("input", f"shorter edge {job.input.shorter_edge}, longer edge up to {job.input.longer_edge_max} pixels"),
        ("batch", f"{plan.images_per_batch} images = {parts} x {plan.images_per_worker} images"),
        ("length", f"{plan.steps} steps x {plan.images_per_batch} images, epochs: {epochs}"),
        ("learning rate", f"linear scaling rule: {plan.lr_rule}"),
        ("schedule", f"warm-up {plan.warmup_steps} steps, {schedule}"),
        ("checkpoints", f"{plan.num_checkpoints}, evaluations in training: {plan.num_evaluations}"),
        ("CPUs", f"{cpus}, on {place}"),
        ("GPUs", f"{plan.gpus_needed:g}"),
    ]  # fmt: skip


def _images(count: int | None, kind: str) -> str:
    return f"{kind}, {'number of images unknown yet' if count is None else f'{count} images'}"
