"""The kinds of job, a line of one table each: configuration, plan, how it is shown and run, how it goes to a cluster.

A new kind is a configuration class, what plans and runs it, and its line here. Nothing else asks of what kind a job is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskray.platform.job.config import JobConfig
from maskray.platform.job.data_config import FilesSource
from maskray.platform.job.load import load_kind
from maskray.platform.job.plan import Plan, PlanRows, move_job, plan_job, plan_rows, read_paths
from maskray.platform.job.sweep_config import SweepConfig
from maskray.platform.sweep.sweep_plan import SweepPlan, plan_sweep, sweep_rows
from maskray.platform.sweep.trials import move_sweep, read_sweep_paths

AnyJob = JobConfig | SweepConfig
AnyPlan = Plan | SweepPlan


@dataclass(frozen=True)
class Kind:
    """What can be done with the jobs of one kind.

    `plan` starts nothing; `rows` are a plan for the terminal; `run` gets the job and whether it goes on; `move` sets
    the address of the cluster; `paths` are what every node has to see, as dotted key and path.
    """

    config: type[AnyJob]
    plan: Callable[[Any], AnyPlan]
    rows: Callable[[Any, Any], PlanRows]
    run: Callable[[Any, bool], object]
    move: Callable[[Any, str], AnyJob]
    paths: Callable[[Any], Iterator[tuple[str, str]]]


def _plan_training(job: JobConfig) -> Plan:
    return plan_job(job, count_files=_count_files)


def _count_files(source: FilesSource) -> int | None:
    from maskray.platform.data.formats.reading import count_images  # numpy and Pillow: only who has such a source waits

    return count_images(source)


def _run_training(job: JobConfig, resume: bool) -> object:
    from maskray.platform.runs.training import run_training  # torch and Ray: only who runs a job waits for them

    return run_training(job, resume)


def _run_sweep(sweep: SweepConfig, resume: bool) -> object:
    """A sweep goes on where it was without being asked to."""
    from maskray.platform.sweep.sweep_run import run_sweep

    return run_sweep(sweep)


KINDS: dict[str, Kind] = {
    "train": Kind(JobConfig, _plan_training, plan_rows, _run_training, move_job, read_paths),
    "sweep": Kind(SweepConfig, plan_sweep, sweep_rows, _run_sweep, move_sweep, read_sweep_paths),
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
