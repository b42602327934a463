"""The kinds of job, a line of one table each: configuration, plan, how it is shown and run, how it goes to a cluster.

A new kind is a configuration class, what plans and runs it, and its line here. Nothing else asks of what kind a job is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from maskray.platform.distill.distill_plan import (
    DistillPlan,
    distill_rows,
    plan_distillation,
    weights_of_distillation,
)
from maskray.platform.job.config import JobConfig
from maskray.platform.job.distill_config import DistillConfig
from maskray.platform.job.load import Overrides, load_kind, read_kind
from maskray.platform.job.places import move_job, read_paths
from maskray.platform.job.plan import Plan, PlanRows, plan_rows
from maskray.platform.job.sweep_config import SweepConfig
from maskray.platform.runs.training_plan import plan_training, weights_of_training
from maskray.platform.sweep.sweep_plan import SweepPlan, plan_sweep, sweep_rows
from maskray.platform.sweep.trials import move_sweep, read_sweep_paths

if TYPE_CHECKING:  # who checks a job waits for none of it
    from maskray.platform.runs.summary import RunSummary
    from maskray.platform.sweep.table import SweepTable

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
    run: Callable[[Any, bool], RunSummary | SweepTable]
    progress: Callable[[Any], Progress]
    move: Callable[[Any, str], AnyJob]
    paths: Callable[[Any], Iterator[tuple[str, str]]]


def _run_training(job: JobConfig, resume: bool) -> RunSummary:
    from maskray.platform.runs.training import run_training  # torch and Ray: only who runs a job waits for them

    return run_training(job, resume)


def _progress_of_run(job: JobConfig) -> Progress:
    from maskray.platform.runs.run_folder import run_progress

    return run_progress(job)


def _run_sweep(sweep: SweepConfig, resume: bool) -> SweepTable:
    """A sweep goes on where it was without being asked to."""
    from maskray.platform.sweep.sweep_run import run_sweep

    return run_sweep(sweep)


def _run_distillation(job: DistillConfig, resume: bool) -> RunSummary:
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


@dataclass(frozen=True)
class CheckedJob:
    """A job and what it is going to do.

    `weights` are rows of what is taken of the weights that it starts from; `notes` say what it means on this machine.
    """

    job: AnyJob
    plan: AnyPlan
    weights: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the job cannot run, a line each; empty where it can."""
        return self.plan.problems

    @property
    def warnings(self) -> tuple[str, ...]:
        """What deserves a look before it runs, a line each."""
        return self.plan.warnings

    def rows(self) -> PlanRows:
        """The plan as tables: heading, "" for none, and name and value of each row."""
        tables = KINDS[self.job.kind].rows(self.job, self.plan)
        return [*tables, ("initial weights", list(self.weights))] if self.weights else tables

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON, with the job complete."""
        found: dict[str, Any] = {"plan": self.plan.as_dict(), "initial_weights": dict(self.weights)}
        return found | {"notes": list(self.notes), "job": self.job.model_dump(mode="json")}


def load_any(job: str | Path | Mapping[str, Any], overrides: Overrides = ()) -> AnyJob:
    """Read a job of any kind from its file, or from the keys and values of one; overrides and errors as load_kind."""
    kinds = {name: kind.config for name, kind in KINDS.items()}
    return read_kind(job, kinds, overrides) if isinstance(job, Mapping) else load_kind(job, kinds, overrides)


def check_any(job: AnyJob, weights: bool = True) -> CheckedJob:
    """Work out what a job is going to do; starts nothing.

    With weights, and where the plan names no problem, what is taken of the initial weights is looked at too: ValueError
    where they cannot be read or are of another architecture.
    """
    plan = plan_any(job)
    taken = KINDS[job.kind].weights(job) if weights and not plan.problems else []
    return CheckedJob(job, plan, tuple(taken), tuple(precision_lines(job)))


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


def plan_any(job: AnyJob) -> AnyPlan:
    """What a job is going to do; starts nothing."""
    return KINDS[job.kind].plan(job)


def progress_of(job: AnyJob) -> Progress:
    """How far a job has come."""
    return KINDS[job.kind].progress(job)


def run_any(job: AnyJob, resume: bool = False) -> RunSummary | SweepTable:
    """Run a job to its end; what came of it, or the table of a sweep."""
    return KINDS[job.kind].run(job, resume)
