"""A real server that follows an alias of a real registry under load: new versions, broken ones, killed processes."""

import os
import re
import signal
import sqlite3
import threading
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import ray
import torch
from ray import serve

from maskray.model.build_model import build_model
from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.job.config import TrackingConfig
from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.registry.registration import register_model
from maskray.platform.registry.tracking import Tracking
from maskray.platform.serve.cluster.deploy import APPLICATION, deploy_source
from maskray.platform.serve.cluster.model_source import find_source
from maskray.platform.serve.cluster.ray_environment import shorten

NAME, ALIAS = "shapes", "champion"


def move(tracking, version):
    tracking.client.set_registered_model_alias(NAME, ALIAS, version)


@pytest.fixture(scope="module")
def registry(tmp_path_factory, spec):
    """Versions 1 and 2 are good; the weights of 3 are not finite; those of 4 were changed after it was registered."""
    folder = tmp_path_factory.mktemp("registry")
    tracking = Tracking(TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db"))
    client = tracking.client
    experiment = client.create_experiment("serve", artifact_location=(folder / "store").as_uri())
    for version in (1, 2, 3, 4):
        torch.manual_seed(version)
        model = build_model(spec.model, spec.input, spec.labels.num_classes)
        if version == 3:
            with torch.no_grad():
                model.roi_heads.box_head.classifier.bias[0] = float("nan")
        made = write_model_folder(folder / f"model-{version}", model, spec)
        assert register_model(tracking, client.create_run(experiment).info.run_id, NAME, made, {}) == str(version)
    last = max((folder / "store").rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    data = bytearray(last.read_bytes())
    data[-1] ^= 255
    last.write_bytes(data)
    move(tracking, "1")
    return tracking


@pytest.fixture(scope="module")
def server(registry, tmp_path_factory, forget_hops, start_ray):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        forget_hops(patch)
        config = shorten(ServeConfig(port=0, poll_alias_seconds=0.3, drain_seconds=10))
        start_ray(1)
        try:
            source = find_source(f"models:/{NAME}@{ALIAS}", registry)
            server = deploy_source(source, config)
            yield server
            server.stop()
        finally:
            ray.shutdown()


class Load:
    """Clients that ask without a pause and note every answer: status and version."""

    def __init__(self, url, data):
        self.answers = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url, data)) for _ in range(3)]

    def _ask(self, url, data):
        with httpx.Client(base_url=url, timeout=3000) as client:
            while not self._ended.is_set():
                try:
                    answer = client.post("/v1/predict", content=data, headers={"Content-Type": "image/jpeg"})
                except httpx.HTTPError as error:
                    self.answers.append((repr(error), ""))
                    continue
                body = answer.json()
                self.answers.append((answer.status_code, body.get("model", body).get("version", body)))

    @contextmanager
    def running(self):
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            for thread in self._threads:
                thread.join(300)

    def wait_for(self, version, seconds=300):
        until, start = time.monotonic() + seconds, len(self.answers)
        while not any(answer == (200, version) for answer in self.answers[start:]):
            assert time.monotonic() < until, self.answers[start:][-3:]
            time.sleep(0.05)


@pytest.fixture
def load(server, jpeg):
    with Load(server.url, jpeg).running() as load:
        yield load
    assert {status for status, _ in load.answers} == {200}


def wait_for_state(server, version, state, seconds=300):
    """The entry of a version in /v1/models, once it is in a state."""
    until = time.monotonic() + seconds
    while True:
        listed = httpx.get(f"{server.url}/v1/models", timeout=300).json()
        for entry in listed["models"]:
            if (entry["version"], entry["state"]) == (version, state):
                return entry
        assert time.monotonic() < until, listed
        time.sleep(0.1)


def wait_for_registry(server, wanted, seconds=300):
    """What the server says of its registry, once that is as wanted."""
    until = time.monotonic() + seconds
    while True:
        listed = httpx.get(f"{server.url}/v1/models", timeout=300).json()
        error = (listed.get("follows") or {"registry_error": "no follower yet"})["registry_error"]
        if "follows" in listed and wanted(error):
            return error
        assert time.monotonic() < until, listed
        time.sleep(0.1)


def process_of(deployment):
    handle = serve.get_deployment_handle(deployment, APPLICATION)
    return handle.broadcast("process_id").results(timeout_s=300)


def test_promotion_and_rollback_reach_the_replica_without_a_lost_request(server, registry, load):
    load.wait_for("1")
    move(registry, "2")
    load.wait_for("2")
    move(registry, "1")
    load.wait_for("1")
    assert wait_for_state(server, "1", "serving")["replicas"] == 1
    assert {version for _, version in load.answers} == {"1", "2"}


@pytest.mark.parametrize(("version", "reason"), [("3", "not finite"), ("4", "SHA-256")])
def test_broken_version_leaves_the_old_one_alone_and_says_why(server, registry, load, version, reason):
    load.wait_for("1")
    move(registry, version)
    assert reason in wait_for_state(server, version, "failed")["error"]
    assert wait_for_state(server, "1", "serving")["replicas"] == 1
    move(registry, "1")
    start = len(load.answers)
    load.wait_for("1")
    assert {version for _, version in load.answers[:start]} == {"1"}


def test_killed_replica_loses_no_accepted_request_and_comes_back_with_the_version_of_the_alias(server, registry, load):
    move(registry, "2")
    wait_for_state(server, "2", "serving")
    (process,) = process_of("Replica")
    os.kill(process, signal.SIGKILL)
    start = len(load.answers)
    load.wait_for("2")
    assert process_of("Replica") != [process]
    assert {version for _, version in load.answers[start:]} == {"2"}
    metrics = httpx.get(f"{server.url}/metrics", timeout=300).text
    assert float(re.search(r"^maskray_retries_total (\S+)$", metrics, re.M)[1]) > 0


def test_killed_follower_and_a_registry_that_is_away_change_nothing(server, registry, load):
    """Version 2 goes on answering, and the alias is followed again by the new follower once the registry is back."""
    move(registry, "2")
    load.wait_for("2")
    (process,) = process_of("AliasWatcher")
    # It has fetched several versions by now; torch would be half a gigabyte of it.
    assert "libtorch" not in Path(f"/proc/{process}/maps").read_text()
    os.kill(process, signal.SIGKILL)
    start = len(load.answers)
    load.wait_for("2")
    with closing(sqlite3.connect(registry.uri.removeprefix("sqlite:///"), isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")  # whoever asks now gets no answer
        assert "locked" in wait_for_registry(server, lambda error: error is not None)
        load.wait_for("2")
        database.execute("ROLLBACK")
    assert {version for _, version in load.answers[start:]} == {"2"}
    move(registry, "1")
    load.wait_for("1")
    wait_for_registry(server, lambda error: error is None)
    assert process_of("AliasWatcher") != [process]


def test_killed_gateway_comes_back_at_its_port(server, jpeg):
    (process,) = process_of("Gateway")
    os.kill(process, signal.SIGKILL)
    status, until = 0, time.monotonic() + 300
    while status != 200:
        assert time.monotonic() < until, status
        time.sleep(0.1)
        with suppress(httpx.HTTPError):
            answer = httpx.post(f"{server.url}/v1/predict", content=jpeg, headers={"Content-Type": "image/jpeg"})
            status = answer.status_code
