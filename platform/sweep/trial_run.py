"""What runs in one trial of Ray Tune: a whole run of its job in its own folder, gone on with where it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.integration.ray_train import TuneReportCallback

from maskray.platform.job.sweep_config import SweepConfig
from maskray.platform.runs.training import Parent, run_training
from maskray.platform.sweep.trial_record import TrialRecord
from maskray.platform.sweep.trials import Trial
from maskray.platform.train.launch import TrainingInterruptedError


class EvaluationReport(TuneReportCallback):
    """Hands evaluations in training to the scheduler; not the last one, after which there is nothing left to stop."""

    def __init__(self, metric: str) -> None:
        super().__init__()
        self._metric = metric

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Called by Ray Train with what each rank has reported; rank 0 has the metrics."""
        if self._metric in metrics[0] and not metrics[0]["last"]:
            super().after_report(run_context, metrics, checkpoint)


def run_trial(config: Mapping[str, str], sweep: SweepConfig, trials: Mapping[str, Trial], parent_id: str) -> None:
    """Run the trial named in `config` to its end, or on from where it was left.

    A mistake that another try would repeat (ValueError) and workers lost too often are kept as the trial's failure, and
    other trials go on; a process that is lost is for Ray Tune to start again.
    """
    trial = trials[config["trial"]]
    record = TrialRecord(trial)
    tags = {"sweep": sweep.name, "variant": trial.label}
    tags |= {key: str(value) for key, value in trial.changes.items()}
    callbacks = []
    if sweep.scheduler.name != "none":
        callbacks = [EvaluationReport(sweep.metric)]
    resume = record.state != "new"
    if not resume:
        record.reopen()
    try:
        summary = run_training(trial.job, resume, Parent(parent_id, tags), callbacks)
    except (ValueError, TrainingInterruptedError) as error:
        record.close("failed", error=" ".join(str(error).split()))
        return
    record.close("finished", figures=summary.metrics, seconds=summary.seconds)
