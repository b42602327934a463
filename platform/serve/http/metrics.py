"""What the server counts: each metric for GET /metrics of this process, and the sums of the cluster through Ray too.

GET /metrics shows the process that answers. With one gateway, which is the rule, that is everything. The exporter of
Ray, one on every node, has the counters and gauges of all gateways (names with ray_ before them), and Serve's own
durations of every deployment beside them; the durations here are not sent to it, each would cost as much as the rest.
"""

from __future__ import annotations

from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
IMAGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
Kind = Literal["counter", "gauge", "histogram"]
VERBS: dict[Kind, str] = {"counter": "inc", "gauge": "set", "histogram": "observe"}


class ServerMetric:
    """One metric with labels."""

    def __init__(
        self,
        registry: CollectorRegistry,
        to_ray: bool,
        kind: Kind,
        name: str,
        description: str,
        labels: tuple[str, ...] = (),
        buckets: tuple[float, ...] = SECONDS,
    ) -> None:
        self._kind = kind
        self._ray: Any = None
        self._own: Any
        if kind == "histogram":
            self._own = Histogram(name, description, labels, registry=registry, buckets=buckets)
        else:
            self._own = (Counter if kind == "counter" else Gauge)(name, description, labels, registry=registry)
        if to_ray and kind != "histogram":
            from ray.serve import metrics

            self._ray = (metrics.Counter if kind == "counter" else metrics.Gauge)(name, description, labels)

    def record(self, value: float = 1.0, **labels: str) -> None:
        """Add to a counter, set a gauge, or observe for a histogram."""
        verb = VERBS[self._kind]
        getattr(self._own.labels(**labels) if labels else self._own, verb)(value)
        if self._ray is not None:
            getattr(self._ray, verb)(value, labels)


class ServerMetrics:
    """All metrics of a gateway."""

    def __init__(self, to_ray: bool = False) -> None:
        self._registry = CollectorRegistry()

        def server_metric(kind: Kind, name: str, description: str, *labels: str, **more: Any) -> ServerMetric:
            return ServerMetric(self._registry, to_ray, kind, f"maskray_{name}", description, labels, **more)

        self.requests = server_metric("counter", "requests", "Answered requests.", "route", "status")
        self.request_seconds = server_metric(
            "histogram", "request_seconds", "From the first byte to the answer.", "route"
        )
        self.waiting = server_metric("gauge", "waiting_pictures", "Accepted images, in work or waiting.")
        self.images = server_metric("counter", "pictures", "Images by model version and outcome.", "version", "outcome")
        self.batch_size = server_metric(
            "histogram", "batch_size", "Images computed together, seen by each of them.", buckets=IMAGES
        )
        self.stage_seconds = server_metric(
            "histogram", "stage_seconds", "Time of an image in a replica, by stage.", "stage"
        )
        self.retries = server_metric("counter", "retries", "Images sent again because their replica died.")

    def text(self) -> bytes:
        """The metrics of this process in Prometheus' text format."""
        return generate_latest(self._registry)
