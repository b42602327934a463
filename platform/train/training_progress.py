"""Shows in the terminal how a run goes, from the files it writes: a bar, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from maskray.platform.machine.progress_bar import FollowedProgress
from maskray.platform.train.run_files import RunFiles

LINE_SECONDS = 10.0
POLL_SECONDS = 0.5


class TrainingProgress(FollowedProgress):
    """Context manager: while it is open a thread follows the run's history and events."""

    def __init__(self, record: RunFiles, steps: int, images_per_batch: int, console: Console | None = None) -> None:
        self._record = record
        self._steps = steps
        self._images_per_batch = images_per_batch
        self._console = console or Console()
        self._events_shown = len(record.events())
        self._started = False  # lines of the history before that are of an earlier try
        self._line_shown: tuple[float, int] = (time.monotonic(), -1)
        progress = Progress(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = progress.add_task("starting the workers", total=steps)
        super().__init__(progress, POLL_SECONDS)

    def _update(self, final: bool) -> None:
        events = self._record.events()
        for event in events[self._events_shown :]:
            self._started |= event["event"] == "start"
            text = describe_event(event)
            if text is not None:
                self._console.print(text, highlight=False, markup=False)
        self._events_shown = len(events)
        metrics = self._record.newest_metrics()
        if metrics is None or not self._started:
            return
        text = self.describe(metrics)
        self._progress.update(self._task, completed=metrics["step"], description=text)
        shown_at, shown_step = self._line_shown
        due = final or time.monotonic() - shown_at >= LINE_SECONDS
        if not self._console.is_terminal and due and metrics["step"] != shown_step:
            self._console.print(f"step {metrics['step']}/{self._steps}  {text}", highlight=False, markup=False)
            self._line_shown = (time.monotonic(), metrics["step"])

    def describe(self, metrics: dict[str, Any]) -> str:
        """One line of a step: loss, rate, speed, share of time spent waiting for data, time left."""
        speed = metrics["images_per_second"]
        left = (self._steps - metrics["step"]) * self._images_per_batch / max(speed, 1e-9)
        return (
            f"loss {metrics['loss']:.4f}  lr {metrics['lr']:.2g}  {speed:.1f} images/s  "
            f"data wait {metrics['data_wait_share']:.0%}  left {format_seconds(left)}"
        )


def describe_event(event: dict[str, Any]) -> str | None:
    """What a person wants to read of an event; None for one that the bar shows anyway."""
    kind = event["event"]
    if kind == "start":
        begins = f"resumed after step {event['step']}" if event["step"] else "started"
        hosts = sorted({worker["host"] for worker in event["workers"]})
        begins += f" with {event['stage']}" if event.get("stage", "joint") != "joint" else ""
        return f"training {begins}: {len(event['workers'])} workers on {event['device']}, {', '.join(hosts)}"
    if kind == "proposals":
        return f"proposals: {event['done']} of {event['images']} images of the first worker"
    if kind == "checkpoint_passed_over":
        return f"checkpoint passed over: {event['reason']}"
    if kind == "evaluation":
        metrics = "  ".join(
            f"{name} {value:.3f}"
            for name, value in event["metrics"].items()
            if name.endswith("/AP") and value is not None
        )
        return f"evaluation after step {event['step']}: {metrics or event['metrics']}"
    if kind == "early_stop":
        best = f"better than after step {event['best_step']}" if event["best_step"] else "a number"
        return f"training ends after step {event['step']}: none of {event['patience']} evaluations was {best}"
    if kind == "metrics_not_sent":
        return f"metrics of {event['steps']} steps were not sent to the tracking server: {event['error']}"
    return None


def format_seconds(seconds: float) -> str:
    """Hours, minutes and seconds as 1:02:03 or 02:03."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute:02d}:{second:02d}"
