"""SIGTERM and SIGINT: what asks a run to end, at a good moment where it has one, and how the program ends then."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

# Of sysexits.h: a failure for now, try again. Schedulers and people can tell it from an error.
TEMPORARY_FAILURE = 75
INTERRUPTED = 130


class StopRequested(KeyboardInterrupt):
    """A signal asked this process to end; `resumable` says whether what it did is kept."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number
        self.detail = ""
        self.resumable = True

    def __str__(self) -> str:
        return f"stopped by {self.number.name}{self.detail}"

    @property
    def exit_code(self) -> int:
        """What the program is to end with."""
        return INTERRUPTED if self.number == signal.SIGINT else TEMPORARY_FAILURE


class StopSignals:
    """While it is open both signals raise StopRequested, but for the first one within `waiting`, which is only noted.

    Signals reach the main thread of Python alone: in another one nothing changes, and `asked` stays None.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._waiting = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Take the signals, also back from who took them meanwhile, as ray.init() does with SIGTERM."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(number, self._hear)
            if before != signal.SIG_IGN:
                self._before.setdefault(number, signal.SIG_DFL if before is None else before)
                continue
            signal.signal(number, before)  # ignored by who started this program, as a shell does in the background

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The block looks at `asked` itself; a second signal raises there too."""
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        first, self.asked = self.asked is None, signal.Signals(number)
        if not (first and self._waiting):
            raise StopRequested(self.asked)
