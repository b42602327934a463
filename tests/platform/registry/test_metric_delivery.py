"""Metrics sent twice, by two processes, or again after a restart: on the server each stands once."""

import math

import pytest

from maskray.platform.job.config import TrackingConfig
from maskray.platform.registry.metric_delivery import MetricDelivery
from maskray.platform.registry.server_errors import ServerAwayError, wait_for_server
from maskray.platform.registry.tracking import Tracking


def history(tracking, run_id, name):
    return sorted((point.step, point.value) for point in tracking.client.get_metric_history(run_id, name))


def rows(steps, start=1_700_000_000_000):
    return [(step, start + step, {"loss": 1.0 / step, "seconds": float(start + step)}) for step in steps]


def test_step_trained_again_after_a_restart_keeps_its_first_point(tracking, job):
    """Its time differs, and metrics of speed differ with it; what was never sent is not taken for sent."""
    run_id = tracking.start_run(job, {})
    MetricDelivery(tracking, run_id).send(rows(range(1, 8)))
    after = MetricDelivery(tracking, run_id)
    after.send(rows(range(5, 8), start=1_800_000_000_000))
    after.send(rows(range(5, 12), start=1_800_000_000_000))
    after.send([(12, 1_800_000_000_012, {"loss": math.nan})])
    MetricDelivery(tracking, run_id).send([(12, 1_900_000_000_000, {"loss": math.nan, "val/AP": 0.5})])
    losses = history(tracking, run_id, "loss")
    assert losses[:11] == [(step, 1.0 / step) for step in range(1, 12)]
    assert [step for step, _ in losses[11:]] == [12]
    assert history(tracking, run_id, "seconds")[6:8] == [(7, 1_700_000_000_007.0), (8, 1_800_000_000_008.0)]
    assert history(tracking, run_id, "val/AP") == [(12, 0.5)]


@pytest.mark.slow  # the server starts again
def test_row_that_could_not_be_sent_is_sent_again(sqlite_server, as_trainer, job, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracking = Tracking(TrackingConfig(uri=sqlite_server.uri, experiment="delivery"))
    run_id = tracking.start_run(job, {})
    delivery = MetricDelivery(tracking, run_id)
    delivery.send(rows([1]))
    sqlite_server.kill()
    told = []
    try:
        with pytest.raises(ServerAwayError, match="does not answer"):
            wait_for_server(lambda: delivery.send(rows([1, 2])), 0.7, told.append)
    finally:
        sqlite_server.start()
    assert len(told) == 1
    assert told[0].startswith("waiting up to 1 s for the tracking server: tracking.uri: the server http://127.0.0.1")
    wait_for_server(lambda: delivery.send(rows([1, 2])), 300, told.append)
    assert history(tracking, run_id, "loss") == [(1, 1.0), (2, 0.5)]


def test_what_no_waiting_mends_is_raised_at_once(on_sqlite, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    told = []
    with pytest.raises(ValueError, match="asks for a user: set MLFLOW_TRACKING_USERNAME") as caught:
        wait_for_server(lambda: MetricDelivery(on_sqlite, "0" * 32).send(rows([1])), 300, told.append)
    assert not isinstance(caught.value, ServerAwayError)
    assert told == [], "it did not wait"
