"""Metrics of a run on their way to the tracking server, where each arrives once, however often it is sent."""

from __future__ import annotations

from collections.abc import Iterable

from maskray.platform.registry.server_errors import readable_errors
from maskray.platform.registry.tracking import MetricRow, Tracking


class MetricDelivery:
    """Sends rows of metrics to a run and leaves out what the server has of that name and step already.

    What it has is asked of the server itself, so that a process that died, a step that was trained again after a
    restart and a request whose answer was lost make neither a gap nor a second point.
    """

    def __init__(self, tracking: Tracking, run_id: str) -> None:
        self._tracking = tracking
        self._run_id = run_id
        self._delivered: set[tuple[str, int]] | None = None

    def send(self, rows: Iterable[MetricRow]) -> None:
        """Log rows of (step, milliseconds since 1970, metrics); ServerAwayError where they must be sent again."""
        self._tracking.check_server()
        if self._delivered is None:
            self._delivered = self._ask()
        missing: list[MetricRow] = []
        for step, timestamp, metrics in rows:
            new = {name: value for name, value in metrics.items() if (name, step) not in self._delivered}
            if new:
                missing.append((step, timestamp, new))
        if not missing:
            return
        self._tracking.log_metric_rows(self._run_id, missing)
        self._delivered |= {(name, step) for step, _, metrics in missing for name in metrics}

    def _ask(self) -> set[tuple[str, int]]:
        with readable_errors(f"reading metrics of run {self._run_id}"):
            client = self._tracking.client
            names = client.get_run(self._run_id).data.metrics
            return {(name, point.step) for name in names for point in client.get_metric_history(self._run_id, name)}
