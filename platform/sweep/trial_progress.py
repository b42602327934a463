"""Shows in the terminal how a sweep goes, from the files its trials write."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from maskray.platform.machine.progress_bar import FollowedProgress
from maskray.platform.sweep.trial_record import OUTCOMES, TrialRecord

POLL_SECONDS = 1.0
LINE_SECONDS = 60.0


class SweepProgress(FollowedProgress):
    """Context manager: while it is open a thread follows the trials; a line when one ends, a bar of all steps."""

    def __init__(self, records: Sequence[TrialRecord], metric: str, console: Console) -> None:
        self._records = records
        self._metric = metric
        self._console = console
        self._ended = {record.trial.name for record in records if record.state in OUTCOMES}
        self._line_at = time.monotonic()
        progress = Progress(
            TextColumn("sweep"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps  {task.description}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        steps = sum(record.trial.job.train.total_steps for record in records)
        self._task = progress.add_task("starting", total=steps)
        super().__init__(progress, POLL_SECONDS)

    def _update(self, final: bool) -> None:
        done, running = 0, []
        for record in self._records:
            state = record.state
            if state in OUTCOMES:
                done += record.trial.job.train.total_steps
                if record.trial.name not in self._ended:
                    self._ended.add(record.trial.name)
                    self._console.print(self._describe(record), highlight=False, markup=False, soft_wrap=True)
            elif state == "begun":
                step = record.step()
                done += step
                running.append(f"{record.trial.name} {step}/{record.trial.job.train.total_steps}")
        text = f"{len(self._ended)}/{len(self._records)} trials; {', '.join(running)}"
        self._progress.update(self._task, completed=done, description=text)
        if not self._console.is_terminal and time.monotonic() - self._line_at >= LINE_SECONDS:
            self._line_at = time.monotonic()
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _describe(self, record: TrialRecord) -> str:
        state, name = record.state, record.trial.name
        if state == "finished":
            return f"{name}: {self._metric} {100 * record.metrics().get(self._metric, float('nan')):.1f}"
        outcome = record.outcome()
        return f"{name}: " + (
            f"stopped at step {outcome['step']}" if state == "stopped" else f"failed: {outcome['error']}"
        )
