"""`maskray serve` as people run it: a key file, a log, options by --set, and an end that finishes what was accepted."""

import concurrent.futures
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from maskray.model.build import build_model
from maskray.model.config import BackboneConfig, Category, InputConfig, LabelMap, ModelConfig, ModelSpec
from maskray.platform.cli_serve import read_settings
from maskray.platform.registry.folder import write_model_folder

pytestmark = pytest.mark.timeout(180)
PROGRAM = [sys.executable, "-m", "maskray.platform.cli"]
ENVIRONMENT = os.environ | {"RAY_AUTH_MODE": "disabled", "COLUMNS": "120"}
NUM_REQUESTS = 12


def maskray(*arguments):
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=ENVIRONMENT
    )


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    model = ModelConfig(
        backbone=BackboneConfig(name="resnet18", norm="group_norm", freeze_stages=0, fpn_channels=16),
        box_head={"hidden_channels": 16},
        mask_head={"channels": 16, "num_convs": 1},
        inference={"score_threshold": 0.0, "detections_per_image": 20},
    )
    spec = ModelSpec(
        model=model, input=InputConfig(shorter_edge=256), labels=LabelMap(categories=(Category(id=1, name="circle"),))
    )
    torch.manual_seed(0)
    network = build_model(spec.model, spec.input, spec.labels.num_classes)
    return write_model_folder(tmp_path_factory.mktemp("model") / "shapes", network, spec)


@pytest.fixture(scope="module")
def picture():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)).save(file, format="JPEG")
    return file.getvalue()


def read_url(process):
    for line in process.stdout:
        if match := re.match(r"(http://\S+) answers", line):
            return match[1]
    raise AssertionError(process.stderr.read())


def test_accepted_requests_are_finished_after_sigterm_and_keys_and_log_are_kept(model_folder, picture, tmp_path):
    keys, log = tmp_path / "keys.jsonl", tmp_path / "requests.jsonl"
    key = maskray("keys", "add", keys, "probe").stdout.strip()
    assert key not in keys.read_text()
    command = ["serve", model_folder, "--port", "0", "--api-keys", keys, "--set", f"log_file={log}"]
    server = subprocess.Popen(
        [*PROGRAM, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    try:
        url = read_url(server)
        refused = httpx.post(f"{url}/v1/predict", content=picture, timeout=60)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert httpx.get(f"{url}/metrics").status_code == 401
        assert httpx.get(f"{url}/healthz").status_code == 200
        headers = {"Authorization": f"Bearer {key}", "X-Request-ID": "probe-1", "Content-Type": "image/jpeg"}

        def ask(number):
            return httpx.post(f"{url}/v1/predict", content=picture, headers=headers, timeout=60)

        first = ask(0)
        assert first.status_code == 200
        assert first.headers.get_list("X-Request-ID") == ["probe-1"]
        with concurrent.futures.ThreadPoolExecutor(NUM_REQUESTS) as threads:
            answers = [threads.submit(ask, number) for number in range(NUM_REQUESTS)]
            waiting = {"Authorization": f"Bearer {key}"}
            while f"maskray_waiting_pictures {float(NUM_REQUESTS)}" not in (
                httpx.get(f"{url}/metrics", headers=waiting, timeout=60).text
            ):
                if any(answer.done() for answer in answers):  # too quick to be seen all at once
                    break
                time.sleep(0.01)
            server.send_signal(signal.SIGTERM)
            statuses = [answer.result().status_code for answer in answers]
        assert statuses == [200] * NUM_REQUESTS
        assert server.wait(60) == 0
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
        server.stdout.close()
        server.stderr.close()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    predictions = [line for line in lines if line["path"] == "/v1/predict" and line["status"] == 200]
    assert len(predictions) == 1 + NUM_REQUESTS
    assert {(line["request_id"], line["key"], line["pictures"]) for line in predictions} == {("probe-1", "probe", 1)}


def test_keys_are_listed_and_removed_by_name(tmp_path):
    keys = tmp_path / "keys.jsonl"
    assert maskray("keys", "add", keys, "one").returncode == 0
    again = maskray("keys", "add", keys, "one")
    assert (again.returncode, again.stdout) == (1, "")
    assert "there is a key named one already" in again.stderr
    assert [key["name"] for key in json.loads(maskray("keys", "list", keys, "--json").stdout)] == ["one"]
    assert maskray("keys", "remove", keys, "one").returncode == 0
    assert json.loads(maskray("keys", "list", keys, "--json").stdout) == []


def test_settings_are_those_of_a_job():
    config = read_settings({"port": 1}, ["max_batch_size=8", "cors_origins=[https://a.example]", "port=2"])
    assert (config.max_batch_size, config.cors_origins, config.port) == (8, ("https://a.example",), 2)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("max_batch=8", "--set 'max_batch=8': write KEY=VALUE with one of host"),
        ("max_batch_size", "write KEY=VALUE"),
        ("max_batch_size=0", "serve: max_batch_size"),
        ("cors_origins=[a.example]", "does not begin with http"),
        ("max_batch_size=[", "is not a YAML value"),
    ],
)
def test_unfit_settings_are_refused_by_name(setting, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_settings({}, [setting])
