"""Progress bars: around a loop that takes longer than two seconds, and of work that other processes do."""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
PATIENCE_SECONDS = 2.0


def track(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    """Yield the items and show on the terminal how far it is; nothing when it is quick or stderr is no terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task(description, total=total)
    started = time.monotonic()
    shown = False
    try:
        for item in items:
            yield item
            progress.advance(task)
            if not shown and time.monotonic() - started > PATIENCE_SECONDS:
                progress.start()
                shown = True
    finally:
        if shown:
            progress.stop()


class FollowedProgress(ABC):
    """Context manager: while it is open a thread looks every so many seconds how far the work of others is."""

    def __init__(self, progress: Progress, poll_seconds: float) -> None:
        self._progress = progress
        self._poll_seconds = poll_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)

    @abstractmethod
    def _update(self, final: bool) -> None:
        """Look and show; `final` at the end."""

    def __enter__(self) -> Self:
        self._progress.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._update(final=True)
        self._progress.stop()

    def _follow(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            self._update(final=False)
