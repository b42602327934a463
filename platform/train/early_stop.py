"""When training ends before its last step: after a number of evaluations that were no better than one before."""

from __future__ import annotations

import math
from typing import NamedTuple

from maskray.platform.job.train_config import TrainConfig
from maskray.platform.train.checkpoint import list_checkpoints, read_metrics, step_of
from maskray.platform.train.run_files import RunFiles


class EarlyStop(NamedTuple):
    """An end at `step`, since the metric was best at `best_step`; that is 0 where it never was a number."""

    step: int
    best_step: int
    best: float | None


def find_early_stop(record: RunFiles, train: TrainConfig, step: int) -> EarlyStop | None:
    """Whether a run ends at `step`, told by the evaluations up to there that its files hold; None where it goes on.

    It ends where the newest evaluation is of this step and the train.patience last ones were no better than the best
    of those before.
    """
    values = read_evaluations(record, train.best_metric, step)
    if train.patience == 0 or step not in values:
        return None
    best_step, best, since = 0, math.nan, 0
    for at in sorted(values):
        if values[at] > best or (math.isnan(best) and not math.isnan(values[at])):
            best_step, best, since = at, values[at], 0
        else:
            since += 1
    if since < train.patience:
        return None
    return EarlyStop(step, best_step, None if math.isnan(best) else best)


def read_evaluations(record: RunFiles, metric: str, last_step: int) -> dict[int, float]:
    """A metric by step of each evaluation in training up to `last_step`, NaN where it was no number.

    From the history, and from the checkpoints: a run may have been cut short between writing the one and the other.
    """
    values = {
        line["step"]: math.nan if line[f"val/{metric}"] is None else float(line[f"val/{metric}"])
        for line in record.history()
        if f"val/{metric}" in line
    }
    for path in list_checkpoints(record.checkpoints):
        metrics = read_metrics(path)
        if metrics is not None and metric in metrics:
            values[step_of(path)] = metrics[metric]
    return {step: value for step, value in values.items() if step <= last_step}
