"""Tests of the thread that sends metrics: nothing lost while the server is away for a while, no step delayed."""

from __future__ import annotations

import threading
from pathlib import Path

from maskray.platform.job.config import TrackingConfig
from maskray.platform.registry.metric_delivery import MetricDelivery
from maskray.platform.registry.tracking import Tracking
from maskray.platform.train.metric_uploader import MetricRow, MetricUploader


def test_all_rows_arrive_once_and_in_order_after_failures() -> None:
    received: list[MetricRow] = []
    calls = 0

    def send(rows: list[MetricRow]) -> None:
        nonlocal calls
        calls += 1
        if calls <= 3:
            raise ValueError("the server does not answer")
        received.extend(rows)

    sender = MetricUploader(send, first_wait_seconds=0.01)
    for step in range(100):
        sender.put({"loss": float(step)}, step, 1_700_000_000_000 + step)
    assert sender.close(timeout_seconds=300) == 0
    assert [row[0] for row in received] == list(range(100))
    assert sender.last_error == "the server does not answer"


def test_a_slow_server_delays_no_step() -> None:
    free = threading.Event()
    received: list[MetricRow] = []

    def send(rows: list[MetricRow]) -> None:
        free.wait(600)
        received.extend(rows)

    sender = MetricUploader(send)
    for step in range(1000):
        sender.put({"loss": 1.0}, step, 1_700_000_000_000 + step)
    assert not received, "all was put while the server still kept the first request waiting"
    free.set()
    assert sender.close(timeout_seconds=300) == 0
    assert len(received) == 1000


def test_a_server_that_never_comes_back_is_counted() -> None:
    def send(rows: list[MetricRow]) -> None:
        raise OSError("connection refused")

    sender = MetricUploader(send, first_wait_seconds=3600.0)
    for step in range(7):
        sender.put({"loss": 1.0}, step, 1_700_000_000_000 + step)
    assert sender.close(timeout_seconds=1.0) == 7
    assert sender.last_error == "connection refused"


def test_rows_reach_a_real_tracking_store(tmp_path: Path) -> None:
    tracking = Tracking(TrackingConfig(), tmp_path)
    client = tracking.client
    run_id = client.create_run(client.create_experiment("training")).info.run_id
    sender = MetricUploader(MetricDelivery(tracking, run_id).send)
    for step in range(1, 6):
        sender.put({"loss": 1.0 / step, "val/segm/AP": step / 10}, step, 1_700_000_000_000 + step)
    assert sender.close(timeout_seconds=300) == 0
    history = client.get_metric_history(run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(step, 1.0 / step) for step in range(1, 6)]
    assert client.get_run(run_id).data.metrics["val/segm/AP"] == 0.5
