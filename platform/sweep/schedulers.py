"""Schedulers of Ray Tune that stop trials early, and what they are told of trials that ran before a restart."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from maskray.platform.job.sweep_config import SweepConfig
from maskray.platform.sweep.trial_record import TrialRecord


def build_scheduler(sweep: SweepConfig, longest: int, ended: Iterable[TrialRecord]) -> TrialScheduler:
    """The scheduler that a sweep names, told the evaluations of trials that have ended; no trial has more than
    `longest` steps.

    Ray would restore its own state by unpickling it; the histories of the trials hold the same, as text.
    """
    config = sweep.scheduler
    if config.name == "none":
        return FIFOScheduler()
    names = {"time_attr": "step", "metric": sweep.metric, "mode": "max", "grace_period": config.grace_steps}
    if config.name == "median":
        # With a time slice it would pause trials in favour of waiting ones until it has enough to compare.
        scheduler = MedianStoppingRule(**names, min_samples_required=config.min_trials, min_time_slice=math.inf)
    else:
        # The last rung is never reached: what has come so far is evaluated as a whole.
        most = max(config.grace_steps + 1, longest)
        scheduler = ASHAScheduler(**names, max_t=most, reduction_factor=config.reduction_factor, stop_last_trials=False)
    for record in ended:
        _replay(scheduler, record, sweep.metric)
    return scheduler


def _replay(scheduler: TrialScheduler, record: TrialRecord, metric: str) -> None:
    """Tell a scheduler what a trial has reported; both look at nothing of a trial but who it is."""
    results = [{"step": step, metric: value} for step, value in record.evaluations(metric)]
    if not results:
        return
    trial = _Ended(record.trial.name)
    scheduler.on_trial_add(None, trial)
    for result in results:
        if scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP:
            break  # it forgets the trial at this point, and would trip over more
    scheduler.on_trial_complete(None, trial, result)


class _Ended:
    """Stands for a trial of an earlier process."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id
