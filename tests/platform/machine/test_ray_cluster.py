"""Clusters that this machine starts: who may speak to them, and that they start at all."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile

import pytest
import ray
from ray._private import services

from maskray.platform.machine import ray_cluster
from maskray.platform.machine.ray_cluster import connect, patience, private_folder

VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS")


@pytest.fixture
def started(monkeypatch):
    """Calls connect() with variables in the environment, and gives those that ray.init() would find."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what connect() sets is taken back
        monkeypatch.delenv(name)

    def start(**variables):
        found = {}
        monkeypatch.setattr(ray, "init", lambda **options: found.update(os.environ))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        connect()
        return {name: found[name] for name in VARIABLES if name in found}

    return start


def test_cluster_that_is_started_here_has_a_token_of_its_own(started):
    (token,) = started().values()
    assert len(token) == 64


@pytest.mark.parametrize(
    "variables",
    [
        {"RAY_AUTH_MODE": "disabled"},
        {"RAY_AUTH_MODE": "token"},
        {"RAY_AUTH_TOKEN": "0" * 64},
        {"RAY_AUTH_TOKEN_PATH": "/run/token"},
        {"RAY_ADDRESS": "10.0.0.1:6379"},
    ],
)
def test_what_the_environment_says_of_authentication_is_left_alone(started, variables):
    assert started(**variables) == variables


def test_cluster_that_someone_else_left_on_this_machine_is_not_joined(monkeypatch):
    """What `ray start` writes down would win over a cluster of one's own."""
    options = {}
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **given: options.update(given))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    connect()
    assert options["address"] == "local"


def test_node_that_is_slow_to_appear_is_waited_for(monkeypatch):
    tries = iter([RuntimeError("not yet"), RuntimeError("not yet"), None])

    def get_node(address, node):
        if error := next(tries):
            raise error
        return node

    monkeypatch.setattr(services, "get_node", get_node)
    with patience():
        assert services.get_node("127.0.0.1:1", "a") == "a"
    assert services.get_node is get_node


def test_files_of_a_cluster_are_for_its_user_alone(tmp_path, monkeypatch):
    options = {}
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **given: options.update(given))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "new"))
    own = tmp_path / "new" / f"maskray-{os.getuid()}"
    for _ in range(2):
        connect()
        assert options["_temp_dir"] == str(own / "ray")
        assert own.stat().st_mode & 0o777 == 0o700
        own.chmod(0o777)  # as one would find it that was opened, or made by an earlier hand
    assert options["_node_ip_address"] == "127.0.0.1"


def test_folder_of_someone_else_is_not_used(tmp_path, monkeypatch):
    """Who comes first on a machine may take the name: a link, a file, or a folder of another user."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    taken = tmp_path / f"maskray-{os.getuid()}"
    (tmp_path / "elsewhere").mkdir(mode=0o777)
    taken.symlink_to(tmp_path / "elsewhere")
    folders = {private_folder()}
    taken.unlink()
    taken.touch()
    folders.add(private_folder())
    if os.getuid() == 0:
        taken.unlink()
        taken.mkdir()
        os.chown(taken, 65534, 65534)
        folders.add(private_folder())
    assert taken not in folders
    assert len(folders) == (3 if os.getuid() == 0 else 2)
    assert {folder.parent for folder in folders} == {tmp_path}
    assert {folder.lstat().st_mode & 0o777 for folder in folders} == {0o700}


@pytest.mark.ray
def test_doctor_starts_a_cluster_that_leaves_no_token_behind(tmp_path):
    """Its task was one that Ray does not take."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = [
        sys.executable,
        "-m",
        "maskray.platform.cli.main",
        "doctor",
        "--ray",
        "--json",
        "--output",
        str(tmp_path),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env=environment | {"HOME": str(tmp_path)}
    )
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert findings["Ray"]["state"] == "ok", findings
    assert not (tmp_path / ".ray").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://localhost:{port}", "127.0.0.1:99999"])
def test_a_cluster_that_has_ended_is_named(address, monkeypatch):
    monkeypatch.setattr(ray_cluster, "ANSWER_SECONDS", 0.1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = address.format(port=free.getsockname()[1])  # bound, and nobody listens
        monkeypatch.setenv("RAY_ADDRESS", place)
        with pytest.raises(ConnectionError, match=f"no Ray cluster answers at {re.escape(place)} .RAY_ADDRESS."):
            ray_cluster.connect()


# With a dashboard at port 8265, unless that is another cluster's already; it stays for as long as its input is open.
NEIGHBOUR = """
import sys, ray
ray.init(address="local", num_cpus=1, include_dashboard=True)
print("up", flush=True)
sys.stdin.read()
"""
ASK = """
import ray
from maskray.platform.machine.ray_cluster import connect
@ray.remote(num_cpus=0)
class Actor:
    def here(self):
        return ray.get_runtime_context().get_actor_id()
@ray.remote(num_cpus=0)
def ask(actor):
    from ray.train.v2._internal.state.util import is_actor_alive
    from ray.util.state.exception import RayStateApiException
    try:
        return f"alive: {is_actor_alive(actor, timeout=60)}"
    except RayStateApiException:
        return "nobody knows"
connect(local_cpus=1)
actor = Actor.remote()
print(ray.get(ask.remote(ray.get(actor.here.remote()))))
"""


@pytest.mark.ray
def test_the_dashboard_of_another_cluster_is_not_asked_about_actors_of_this_one(tmp_path):
    """It answered that it had no such actor, and Ray Train ended the workers of a training that went well."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": tempfile.mkdtemp(dir=os.environ["RAY_TMPDIR"])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen([sys.executable, "-c", NEIGHBOUR], **pipes) as neighbour:
        while neighbour.stdout.readline() != "up\n":
            assert neighbour.poll() is None
        asked = subprocess.run(
            [sys.executable, "-c", ASK], capture_output=True, text=True, timeout=600, env=environment
        )
        neighbour.communicate("")
    assert "nobody knows" in asked.stdout, asked.stdout + asked.stderr
