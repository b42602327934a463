"""Clusters that this machine starts: who may speak to them, and that they start at all."""

import json
import os
import subprocess
import sys

import pytest
import ray

from maskray.platform.machine.ray_cluster import connect

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
