"""From a job of any kind to what runs it."""

from __future__ import annotations

from typing import Any

from maskray.platform.job.config import JobConfig
from maskray.platform.job.load import AnyJob
from maskray.platform.job.plan import Plan, plan_job
from maskray.platform.job.sweep_config import SweepConfig
from maskray.platform.sweep.trials import SweepPlan, plan_sweep


def plan_any(job: AnyJob) -> Plan | SweepPlan:
    """What a job is going to do; starts nothing."""
    return plan_sweep(job) if isinstance(job, SweepConfig) else plan_job(job)


def run_any(job: AnyJob, resume: bool = False) -> Any:
    """Run a job to its end; a sweep goes on where it was without being asked to `resume`."""
    if isinstance(job, JobConfig):
        from maskray.platform.runs.training import run_training

        return run_training(job, resume)
    from maskray.platform.sweep.sweep_run import run_sweep

    return run_sweep(job)
