"""Sends metrics to the tracking server from a thread of its own, so that a slow or absent server costs no step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

MetricRow = tuple[int, int, dict[str, float]]  # step, milliseconds since 1970, metrics


class MetricUploader:
    """A queue of metrics and the thread that empties it in batches, trying again while the server does not answer.

    `send` takes rows of (step, milliseconds since 1970, metrics) and raises ValueError or OSError where it fails.
    """

    def __init__(self, send: Callable[[list[MetricRow]], None], first_wait_seconds: float = 1.0) -> None:
        self._send = send
        self._first_wait_seconds = first_wait_seconds
        self._changed = threading.Condition()
        self._waiting: list[MetricRow] = []
        self._closed = False
        self._give_up_at = float("inf")
        self.last_error: str | None = None
        self._thread = threading.Thread(target=self._run, name="metric-sender", daemon=True)
        self._thread.start()

    def put(self, metrics: dict[str, float], step: int, milliseconds: int) -> None:
        """Queue the metrics of a step, made at a time since 1970, and return at once."""
        with self._changed:
            self._waiting.append((step, milliseconds, dict(metrics)))
            self._changed.notify()

    def close(self, timeout_seconds: float = 5.0) -> int:
        """Send what is left, for at most that long; returns how many rows could not be sent.

        Those are in the history of the run, from which the launcher sends what the server lacks.
        """
        with self._changed:
            self._closed = True
            self._give_up_at = time.monotonic() + timeout_seconds
            self._changed.notify()
        self._thread.join(timeout_seconds)
        with self._changed:
            return len(self._waiting)

    def _run(self) -> None:
        wait_seconds = self._first_wait_seconds
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                rows = list(self._waiting)
            if not rows:
                return
            try:
                self._send(rows)
            except (ValueError, OSError) as error:
                self.last_error = str(error)
                with self._changed:
                    left = self._give_up_at - time.monotonic()
                    if left <= 0:
                        return
                    # A close in the meantime ends the wait: the last try should come at once.
                    self._changed.wait_for(lambda: self._closed, timeout=min(wait_seconds, left))
                    if self._closed:
                        time.sleep(min(0.2, max(left, 0.0)))
                wait_seconds = min(2 * wait_seconds, 30.0)
                continue
            wait_seconds = self._first_wait_seconds
            with self._changed:
                del self._waiting[: len(rows)]
