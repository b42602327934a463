"""The kinds of job, a line of one table each: configuration, plan, how it is shown and run, how it goes to a cluster.

A new kind is a configuration class, what plans and runs it, and its line here. Nothing else asks of what kind a job is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from maskray.platform.distill.distill_plan import (
    DistillPlan,
    distill_rows,
    plan_distillation,
    weights_of_distillation,
)
from maskray.platform.job.config import JobConfig
from maskray.platform.job.distill_config import DistillConfig
from maskray.platform.job.load import load_kind
from maskray.platform.job.places import move_job, read_paths
from maskray.platform.job.plan import Plan, PlanRows, plan_rows
from maskray.platform.job.sweep_config import SweepConfig
from maskray.platform.runs.training_plan import plan_training, weights_of_training
from maskray.platform.sweep.sweep_plan import SweepPlan, plan_sweep, sweep_rows
from maskray.platform.sweep.trials import move_sweep, read_sweep_paths

AnyJob = JobConfig | SweepConfig | DistillConfig
AnyPlan = Plan | SweepPlan | DistillPlan
Progress = Literal["new", "started", "finished"]


@dataclass(frozen=True)
class Kind:
    """What can be done with the jobs of one kind.

    `plan` starts nothing; `rows` are a plan for the terminal; `weights` says, in seconds and from names and shapes
    alone, what is taken of the weights that it starts from, as rows (none where there are none); `run` gets the job
    and whether it goes on; `progress` is how far it has come, by what its folder says;
    `move` sets the address of the cluster; `paths` are what every node has to see, as dotted key and path.
    """

    config: type[AnyJob]
    plan: Callable[[Any], AnyPlan]
    rows: Callable[[Any, Any], PlanRows]
    weights: Callable[[Any], list[tuple[str, str]]]
    run: Callable[[Any, bool], object]
    progress: Callable[[Any], Progress]
    move: Callable[[Any, str], AnyJob]
    paths: Callable[[Any], Iterator[tuple[str, str]]]


def _run_training(job: JobConfig, resume: bool) -> object:
    from maskray.platform.runs.training import run_training  # torch and Ray: only who runs a job waits for them

    return run_training(job, resume)


def _progress_of_run(job: JobConfig) -> Progress:
    from maskray.platform.runs.run_folder import run_progress

    return run_progress(job)


def _run_sweep(sweep: SweepConfig, resume: bool) -> object:
    """A sweep goes on where it was without being asked to."""
    from maskray.platform.sweep.sweep_run import run_sweep

    return run_sweep(sweep)


def _run_distillation(job: DistillConfig, resume: bool) -> object:
    from maskray.platform.distill.distill_run import run_distillation

    return run_distillation(job, resume)


KINDS: dict[str, Kind] = {
    "train": Kind(
        JobConfig,
        plan_training,
        plan_rows,
        weights_of_training,
        _run_training,
        _progress_of_run,
        move_job,
        read_paths,
    ),
    "sweep": Kind(
        SweepConfig,
        plan_sweep,
        sweep_rows,
        lambda sweep: [],
        _run_sweep,
        lambda sweep: "new",  # one that was begun goes on all the same, one that is finished ends at once
        move_sweep,
        read_sweep_paths,
    ),
    "distill": Kind(
        DistillConfig,
        plan_distillation,
        distill_rows,
        weights_of_distillation,
        _run_distillation,
        _progress_of_run,
        move_job,
        read_paths,
    ),
}


def load_any(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> AnyJob:
    """Read a job file of any kind; overrides and errors as load_kind."""
    return load_kind(path, {name: kind.config for name, kind in KINDS.items()}, overrides)


def plan_any(job: AnyJob) -> AnyPlan:
    """What a job is going to do; starts nothing."""
    return KINDS[job.kind].plan(job)


def progress_of(job: AnyJob) -> Progress:
    """How far a job has come."""
    return KINDS[job.kind].progress(job)


def run_any(job: AnyJob, resume: bool = False) -> object:
    """Run a job to its end."""
    return KINDS[job.kind].run(job, resume)
