"""`maskray serve` as people run it: key file, log, options by --set, closed ports, and an end that loses nothing."""

import concurrent.futures
import importlib.util
import io
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from server_process import ENVIRONMENT, PROGRAM, children_of, running
from typer.testing import CliRunner

from maskray.model.build_model import build_model
from maskray.model.config import BackboneConfig, Category, InputConfig, LabelMap, ModelConfig, ModelSpec
from maskray.platform.cli.main import app
from maskray.platform.cli.serve import read_settings, warn_if_open
from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.job.serve_config import ServeConfig

pytestmark = pytest.mark.ray
NUM_REQUESTS = 12
# Of Serve's server in a replica, and of Ray's own in every worker; the first would unpickle what it is sent.
METHODS = ("/ray.serve.ASGIService/HandleRequest", "/ray.rpc.CoreWorkerService/GetCoreWorkerStats")


def maskray(*arguments):
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=600, env=ENVIRONMENT
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
def image():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)).save(file, format="JPEG")
    return file.getvalue()


def read_metric(text, name):
    """A metric of /metrics, 0 where it is not there yet."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
    return float(found[1]) if found else 0.0


def wait_until_accepted(url, headers, number):
    """Until so many images were answered or hold a place."""
    answered = 'maskray_requests_total{route="/v1/predict",status="200"}'
    until = time.monotonic() + 600
    while True:
        text = httpx.get(f"{url}/metrics", headers=headers, timeout=300).text
        if read_metric(text, "maskray_waiting_pictures") + read_metric(text, answered) >= number:
            return
        assert time.monotonic() < until, text
        time.sleep(0.01)


def test_accepted_requests_are_finished_after_sigterm_and_keys_and_log_are_kept(model_folder, image, tmp_path):
    keys, log = tmp_path / "keys.jsonl", tmp_path / "requests.jsonl"
    key = maskray("keys", "add", keys, "probe").stdout.strip()
    assert key not in keys.read_text()
    with running(model_folder, "--api-keys", keys, "--set", f"log_file={log}") as (server, url):
        refused = httpx.post(f"{url}/v1/predict", content=image, timeout=300)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert httpx.get(f"{url}/metrics").status_code == 401
        assert httpx.get(f"{url}/healthz").status_code == 200
        headers = {"Authorization": f"Bearer {key}", "X-Request-ID": "probe-1", "Content-Type": "image/jpeg"}

        def ask(number):
            return httpx.post(f"{url}/v1/predict", content=image, headers=headers, timeout=300)

        first = ask(0)
        assert first.status_code == 200
        assert first.headers.get_list("X-Request-ID") == ["probe-1"]
        # What Ray would decode wrongly does not reach it, and a half-closed client gets its answer.
        head, body = ask_half_closed(url, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: \xff\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"\xff" not in head
        assert json.loads(body) == {"status": "ok"}
        with concurrent.futures.ThreadPoolExecutor(NUM_REQUESTS) as threads:
            answers = [threads.submit(ask, number) for number in range(NUM_REQUESTS)]
            wait_until_accepted(url, {"Authorization": f"Bearer {key}"}, 1 + NUM_REQUESTS)
            server.send_signal(signal.SIGTERM)
            statuses = [answer.result().status_code for answer in answers]
        assert statuses == [200] * NUM_REQUESTS
        assert server.wait(600) == 0
        assert server.stdout.read() == ""  # nothing of Ray's about its own end
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    predictions = [line for line in lines if line["path"] == "/v1/predict" and line["status"] == 200]
    assert len(predictions) == 1 + NUM_REQUESTS
    assert {(line["request_id"], line["key"], line["pictures"]) for line in predictions} == {("probe-1", "probe", 1)}


def ask_half_closed(url, request):
    """Head and body of the answer to a client that says that it sends no more."""
    with socket.create_connection(("127.0.0.1", httpx.URL(url).port), timeout=300) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65536), b"")).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


def open_ports(process_id):
    """TCP ports on which a process listens."""
    sockets = {os.readlink(path) for path in Path(f"/proc/{process_id}/fd").iterdir() if path.is_symlink()}
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process_id}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def call(port, method):
    """What a stranger who calls a method on a port is told."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            channel.unary_unary(method)(b"", timeout=300)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"


def test_replicas_answer_no_stranger(model_folder, tmp_path):
    """They listen on every address: whoever may call them runs what he likes."""
    with running(model_folder, HOME=str(tmp_path)) as (server, url):
        http = int(url.rpartition(":")[2])  # of the gateway, which is there for strangers
        replicas = [child for child, title in children_of(server.pid).items() if "ServeReplica" in title]
        assert len(replicas) == 2, "the gateway and one copy of the model"
        told = [{call(port, method) for method in METHODS} for one in replicas for port in open_ports(one) - {http}]
        server.send_signal(signal.SIGTERM)
        assert server.wait(600) == 0
    assert told == [{"UNAUTHENTICATED", "UNIMPLEMENTED"}] * 4
    assert not (tmp_path / ".ray").exists(), "the token is of that process alone"


def test_keys_are_listed_and_removed_by_name(tmp_path):
    keys = tmp_path / "keys.jsonl"
    assert maskray("keys", "add", keys, "one").returncode == 0
    again = maskray("keys", "add", keys, "one")
    assert (again.returncode, again.stdout) == (1, "")
    assert "there is a key named one already" in again.stderr
    assert [key["name"] for key in json.loads(maskray("keys", "list", keys, "--json").stdout)] == ["one"]
    assert maskray("keys", "remove", keys, "one").returncode == 0
    assert json.loads(maskray("keys", "list", keys, "--json").stdout) == []


def test_a_runtime_that_is_not_installed_is_told_before_anything_starts(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))
    done = CliRunner().invoke(app, ["serve", "nowhere", "--runtime", "openvino"])
    assert str(done.exception) == "runtime openvino needs openvino: pip install maskray[openvino]"


def test_settings_are_those_of_a_job():
    config = read_settings({"port": 1}, ["max_batch_size=8", "cors_origins=[https://a.example]", "port=2"])
    assert (config.max_batch_size, config.cors_origins, config.port) == (8, ("https://a.example",), 2)


@pytest.mark.parametrize(
    ("host", "keys", "warns"),
    [
        ("0.0.0.0", None, True),
        ("::", None, True),
        ("192.0.2.1", None, True),
        ("a.example", None, True),
        ("0.0.0.0", "keys.jsonl", False),
        ("127.0.0.1", None, False),
        ("127.0.0.2", None, False),
        ("::1", None, False),
        ("localhost", None, False),
    ],
)
def test_server_open_to_the_network_without_keys_says_so_in_one_line(capsys, host, keys, warns):
    warn_if_open(ServeConfig(host=host, api_keys_file=keys))
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == warns
    assert (f"everybody who reaches {host}:8000 may ask" in told.err) == warns


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("max_batch=8", "max_batch: unknown key; did you mean max_batch_size? valid here: allowed_hosts"),
        ("max_batch_size", "write it as a.b=value"),
        ("max_batch_size=0", "max_batch_size: Input should be greater than or equal to 1 (got 0)"),
        ("cors_origins=[a.example]", "does not begin with http"),
        ("max_batch_size=[", "is not a YAML value"),
        ("samples={a: 1, a: 2}", "is not a YAML value"),
    ],
)
def test_unfit_settings_are_refused_by_name(setting, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_settings({}, [setting])
