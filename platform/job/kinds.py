"""The kinds of job, a line of one table each: configuration, plan, how it is shown and run, how it goes to a cluster.

A new kind is a configuration class, what plans and runs it, and its line here. Nothing else asks of what kind a job is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskray.platform.job.config import JobConfig
from maskray.platform.job.data_config import CocoSource, FilesSource
from maskray.platform.job.load import load_kind
from maskray.platform.job.places import move_job, read_paths
from maskray.platform.job.plan import Plan, PlanRows, plan_job, plan_rows
from maskray.platform.job.sweep_config import SweepConfig
from maskray.platform.sweep.sweep_plan import SweepPlan, plan_sweep, sweep_rows
from maskray.platform.sweep.trials import move_sweep, read_sweep_paths

AnyJob = JobConfig | SweepConfig
AnyPlan = Plan | SweepPlan


@dataclass(frozen=True)
class Kind:
    """What can be done with the jobs of one kind.

    `plan` starts nothing; `rows` are a plan for the terminal; `weights` says, in seconds and from names and shapes
    alone, what is taken of the weights that it starts from, as rows (none where there are none); `run` gets the job
    and whether it goes on; `move` sets the address of the cluster; `paths` are what every node has to see, as dotted
    key and path.
    """

    config: type[AnyJob]
    plan: Callable[[Any], AnyPlan]
    rows: Callable[[Any, Any], PlanRows]
    weights: Callable[[Any], list[tuple[str, str]]]
    run: Callable[[Any, bool], object]
    move: Callable[[Any, str], AnyJob]
    paths: Callable[[Any], Iterator[tuple[str, str]]]


def _plan_training(job: JobConfig) -> Plan:
    """The plan of a job, and what its annotation files tell where it names some."""
    if not any(isinstance(source, CocoSource | FilesSource) for source in (job.data.train, job.data.val)):
        return plan_job(job)
    from maskray.platform.runs.data_check import plan_with_data  # numpy and pyarrow: only who has annotation files

    return plan_with_data(job)


def _run_training(job: JobConfig, resume: bool) -> object:
    from maskray.platform.runs.training import run_training  # torch and Ray: only who runs a job waits for them

    return run_training(job, resume)


def _weights_of_training(job: JobConfig) -> list[tuple[str, str]]:
    if job.train.initial_weights is None:
        return []
    from maskray.platform.runs.starting_weights import explain_weights

    taken = explain_weights(job)
    return [] if taken is None else taken.lines()


def _run_sweep(sweep: SweepConfig, resume: bool) -> object:
    """A sweep goes on where it was without being asked to."""
    from maskray.platform.sweep.sweep_run import run_sweep

    return run_sweep(sweep)


KINDS: dict[str, Kind] = {
    "train": Kind(JobConfig, _plan_training, plan_rows, _weights_of_training, _run_training, move_job, read_paths),
    "sweep": Kind(SweepConfig, plan_sweep, sweep_rows, lambda sweep: [], _run_sweep, move_sweep, read_sweep_paths),
}


def load_any(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> AnyJob:
    """Read a job file of any kind; overrides and errors as load_kind."""
    return load_kind(path, {name: kind.config for name, kind in KINDS.items()}, overrides)


def plan_any(job: AnyJob) -> AnyPlan:
    """What a job is going to do; starts nothing."""
    return KINDS[job.kind].plan(job)


def run_any(job: AnyJob, resume: bool = False) -> object:
    """Run a job to its end."""
    return KINDS[job.kind].run(job, resume)
