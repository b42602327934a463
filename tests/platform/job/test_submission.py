"""Sending jobs to a real cluster: two nodes, token authentication, jobs that succeed and fail."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
import yaml
from ray_tests import PATIENCE
from small_network import SMALL_INPUT, SMALL_MODEL

from maskray.platform.job.load import load_job
from maskray.platform.job.submission import JOB_FILE, DashboardLostError, ask_patiently, submission_name, submit_job
from maskray.platform.train.run_files import RunFiles

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.ray
NOBODY = "http://127.0.0.1:9"  # the discard port: nothing answers


@dataclass
class LocalCluster:
    """A cluster that cluster/local.sh started."""

    address: str
    folder: Path
    variables: dict[str, str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """The environment without Ray's settings, and with this Python first on the PATH, where the nodes find it too."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_") or key in PATIENCE}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{kept['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}


@pytest.fixture(scope="module")
def cluster():
    # Not below tmp_path: the sockets of Ray do not fit into a long path.
    folder = Path(os.environ["MASKRAY_TESTS_FOLDER"], "two")
    variables = clean_environment() | {"CLUSTER_FOLDER": str(folder), "MEMORY_PER_NODE": "100000000"}
    script = [str(ROOT / "cluster/local.sh")]
    try:
        for _ in range(4):  # `ray start` gives up after half a minute, which busy cores may take
            variables |= (ports := {"GCS_PORT": str(free_port()), "DASHBOARD_PORT": str(free_port())})
            done = subprocess.run([*script, "start"], env=variables, capture_output=True, text=True, timeout=600)
            if done.returncode == 0:
                break
        assert done.returncode == 0, done.stderr
        yield LocalCluster(f"http://127.0.0.1:{ports['DASHBOARD_PORT']}", folder, variables)
    finally:
        subprocess.run([*script, "stop"], env=variables, check=True, timeout=300)
        shutil.rmtree(folder, ignore_errors=True)


def maskray(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "maskray.platform.cli.main", *map(str, arguments)]
    return subprocess.run(command, env=clean_environment() | variables, capture_output=True, text=True, timeout=600)


def write_job(folder: Path, **changes: object) -> Path:
    job = {
        "name": "tiny",
        "output": str(folder / "runs"),
        "data": {
            "train": {"kind": "synthetic", "num_images": 8},
            "val": {"kind": "coco", "annotations": "/nowhere/instances.json", "images": "/nowhere"},
        },
        "train": {"steps": 2, "images_per_batch": 2},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(job | changes))
    return path


def token_of(cluster: LocalCluster) -> dict[str, str]:
    return {"RAY_AUTH_TOKEN_PATH": str(cluster.folder / "token")}


def test_cluster_has_two_nodes(cluster):
    script = [str(ROOT / "cluster/local.sh"), "status"]
    deadline = time.monotonic() + 300  # the status is gathered every few seconds
    while True:
        shown = subprocess.run(script, env=cluster.variables, capture_output=True, text=True, timeout=600).stdout
        if len(set(re.findall(r"node_[0-9a-f]{20,}", shown))) == 2 or time.monotonic() > deadline:
            break
    assert "/4.0 CPU" in shown


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "the cluster wants a token"),
        ({"RAY_AUTH_TOKEN": "0" * 64}, "the cluster does not accept this token"),
        ({"RAY_AUTH_MODE": "token", "HOME": "/nonexistent"}, "no token was found"),
    ],
    ids=["no token", "wrong token", "mode without token"],
)
def test_refused_token_is_one_line(cluster, tmp_path, variables, reason):
    done = maskray("submit", write_job(tmp_path), "--address", cluster.address, **variables)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert reason in done.stderr
    assert "export RAY_AUTH_MODE=token" in done.stderr


def test_failing_job_tells_why_and_gives_its_exit_code(cluster, tmp_path):
    job_file = write_job(tmp_path)
    arguments = ("submit", job_file, "--address", cluster.address, "--wait")
    done = maskray(*arguments, **token_of(cluster))
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^submitted tiny-[0-9a-f]{10}$", done.stdout, re.MULTILINE)
    assert "/nowhere/instances.json" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(": FAILED")
    assert "Traceback" not in done.stdout + done.stderr
    again = maskray(*arguments, **token_of(cluster))
    assert again.returncode == 1
    assert re.search(r"^submitted tiny-[0-9a-f]{10}-again-1$", again.stdout, re.MULTILINE), "it left no run behind"
    assert "/nowhere/instances.json" in again.stdout


def test_job_travels_resolved_with_its_digest(cluster, tmp_path):
    job_file = write_job(tmp_path, name="resolved")
    done = maskray("submit", job_file, "--address", cluster.address, "--set", "seed=7", **token_of(cluster))
    assert done.returncode == 0, done.stderr
    code = (
        "import json, sys; from ray.job_submission import JobSubmissionClient\n"
        "job = JobSubmissionClient(sys.argv[1]).get_job_info(sys.argv[2])\n"
        "print(json.dumps([job.metadata, job.entrypoint]))"
    )
    submission_id = done.stdout.split()[-1]
    variables = clean_environment() | token_of(cluster) | {"RAY_AUTH_MODE": "token"}
    command = [sys.executable, "-c", code, cluster.address, submission_id]
    shown = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=600)
    metadata, entrypoint = yaml.safe_load(shown.stdout)
    assert metadata["maskray_job"] == "resolved"
    assert submission_id == f"resolved-{metadata['maskray_job_sha256'][:10]}"
    assert entrypoint.endswith(f"run {JOB_FILE}")
    listed = maskray("jobs", "list", "--address", cluster.address, "--json", **token_of(cluster)).stdout
    assert (submission_id, "resolved") in [(one["submission_id"], one["name"]) for one in json.loads(listed)]


def test_follow_gives_the_exit_code_of_the_job(cluster):
    code = (
        "import sys; from maskray.platform.job.submission import connect, follow_job, readable\n"
        "with readable(sys.argv[1]): client = connect(sys.argv[1])\n"
        "for status in (0, 3):\n"
        "    key = client.submit_job(entrypoint=f'echo line one; sleep 1; echo line two; exit {status}')\n"
        "    print('code', follow_job(key, sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, cluster.address]
    done = subprocess.run(
        command, env=clean_environment() | token_of(cluster), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^code (\d)$", done.stdout, re.MULTILINE) == ["0", "3"]
    assert done.stdout.count("line one\n") == done.stdout.count("line two\n") == 2


@pytest.mark.long
def test_a_job_is_listed_stopped_and_gone_on_with(cluster, tmp_path):
    """Stopped in training, after a checkpoint, and sent again by its id alone."""
    image = {"kind": "synthetic", "num_images": 8, "seed": 1, "height": 64, "width": 96, "max_objects": 3}
    changes = {
        "name": "stopped", "data": {"train": image, "val": image}, "input": SMALL_INPUT, "model": SMALL_MODEL,
        "train": {"steps": 5000, "images_per_batch": 2, "checkpoint_every": 5000, "log_every": 1},
        "resources": {"num_workers": 1, "num_evaluators": 1},
    }  # fmt: skip
    at = ("--address", cluster.address)
    sent = maskray("submit", write_job(tmp_path, **changes), *at, **token_of(cluster))
    assert sent.returncode == 0, sent.stderr
    first = sent.stdout.split()[-1]
    files = RunFiles(tmp_path / "runs/stopped")
    deadline = time.monotonic() + 600
    while (files.newest_metrics() or {"step": 0})["step"] < 2:
        assert time.monotonic() < deadline, maskray("jobs", "logs", first, *at, **token_of(cluster)).stdout
        time.sleep(0.2)
    refused = maskray("jobs", "resume", first, *at, **token_of(cluster))
    assert (refused.returncode, refused.stderr) == (1, f"error: {first}: is RUNNING; stop it first\n")
    stopped = maskray("jobs", "stop", first, *at, **token_of(cluster))
    assert stopped.stdout == f"{first}: STOPPED\n", stopped.stderr
    log = maskray("jobs", "logs", first, *at, **token_of(cluster)).stdout
    (step,) = map(int, re.findall(r"stopped by SIGTERM after step (\d+), whose checkpoint is written", log))

    again = maskray("jobs", "resume", first, *at, **token_of(cluster))
    assert again.returncode == 0, again.stderr
    second = again.stdout.split()[-1]
    assert second == f"{first}-resume-1"
    while (files.newest_metrics() or {"step": 0})["step"] <= step:
        assert time.monotonic() < deadline, maskray("jobs", "logs", second, *at, **token_of(cluster)).stdout
        time.sleep(0.2)
    assert maskray("jobs", "stop", second, *at, **token_of(cluster)).stdout == f"{second}: STOPPED\n"
    listed = json.loads(maskray("jobs", "list", "--json", *at, **token_of(cluster)).stdout)
    known = {one["submission_id"]: (one["name"], one["status"]) for one in listed}
    assert known[first] == known[second] == ("stopped", "STOPPED")
    table = maskray("jobs", "list", *at, **token_of(cluster), COLUMNS="160").stdout
    assert first in table
    assert "STOPPED" in table
    none = maskray("jobs", "stop", "nobody", *at, **token_of(cluster))
    assert (none.returncode, none.stderr) == (1, f"error: nobody: {cluster.address} has no such job of maskray\n")


def test_nobody_there_is_one_line(tmp_path):
    done = maskray("submit", write_job(tmp_path), "--address", NOBODY)
    assert done.returncode == 1
    assert re.fullmatch(r"error: http://127.0.0.1:9: no Ray dashboard answers there .*\n", done.stderr)


def test_paths_that_the_cluster_cannot_see(tmp_path):
    source = {"kind": "coco", "annotations": "a.json", "images": "/photographs"}
    weights = {"steps": 2, "images_per_batch": 2, "initial_weights": "w.pth"}
    job = load_job(write_job(tmp_path, output="runs", data={"train": source, "val": source}, train=weights))
    with pytest.raises(ValueError, match=r"^output: 'runs' is relative") as caught:
        submit_job(job, NOBODY)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "output",
        "data.train.annotations",
        "data.val.annotations",
        "train.initial_weights",
    ]
    (tmp_path / "a.json").touch()
    (tmp_path / "w.pth").touch()
    with pytest.raises(ValueError, match=r"^output: 'runs' is relative[^\n]*$"):
        submit_job(job, NOBODY, working_dir=tmp_path)


def test_wheel_must_be_one(tmp_path):
    job = load_job(write_job(tmp_path))
    with pytest.raises(ValueError, match=r"--wheel .*: not a wheel file"):
        submit_job(job, NOBODY, wheel=tmp_path / "maskray.whl")


def test_id_changes_with_the_job():
    assert submission_name("a", "x: 1") == submission_name("a", "x: 1")
    assert submission_name("a", "x: 1") != submission_name("a", "x: 2")


def test_wheel_is_sent_unpacked(tmp_path):
    from maskray.platform.job.submission import _unpack

    wheel = tmp_path / "maskray-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("maskray/model/config.py", "NAME = 1\n")
    assert (_unpack(wheel, tmp_path / "out") / "model/config.py").read_text() == "NAME = 1\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other/config.py", "")
    with pytest.raises(ValueError, match="holds no package maskray"):
        _unpack(wheel, tmp_path / "again")


def test_a_dashboard_that_is_away_for_a_while_is_waited_for(capsys):
    """It was told as a failure of the job."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    server = []

    def begin():
        time.sleep(1.5)
        server.append(ThreadingHTTPServer(("127.0.0.1", port), SimpleHTTPRequestHandler))
        server[0].serve_forever()

    threading.Thread(target=begin, daemon=True).start()
    answer = ask_patiently(lambda: requests.head(f"http://127.0.0.1:{port}/", timeout=30))
    server[0].shutdown()
    server[0].server_close()
    assert answer.ok
    assert capsys.readouterr().err.count("does not answer, waiting up to 900 s") == 1


def test_a_dashboard_that_stays_away_is_no_failure_of_the_job():
    with pytest.raises(DashboardLostError, match=r"has not answered for 0\.5 s .*; the job may go on"):
        ask_patiently(lambda: requests.get(NOBODY, timeout=30), seconds=0.5)
    answers = iter([RuntimeError("Request failed with status code 404: no such job")])

    def refuse():
        raise next(answers)

    with pytest.raises(RuntimeError, match="404"):
        ask_patiently(refuse)
