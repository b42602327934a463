"""Tests of platform/machine/doctor.py: this machine passes, and each fault that can be made is found."""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from maskray.platform.machine import doctor
from maskray.platform.machine.doctor import (
    Finding,
    check_authentication,
    check_ops,
    check_output,
    check_packages,
    check_ports,
    examine,
)


def states(findings: object) -> dict[str, str]:
    return {finding.name: finding.state for finding in findings}


def test_this_machine_is_fit(tmp_path):
    findings = examine(tmp_path / "new/folder")
    found = states(findings)
    assert {found[name] for name in ("python", "torch", "ray", "mlflow", "compiled ops, cpu", "output")} == {"ok"}
    names = {finding.name for finding in findings}
    expected = {"python", "torch", "ray", "mlflow", "GPU", "compiled ops, cpu", "memory", "/dev/shm", "output", "disk"}
    assert expected <= names
    assert not (tmp_path / "new").exists(), "an examination changes nothing"


def test_remedy_for_everything_that_is_not_ok(monkeypatch):
    """Of every fault that can be made here, in one examination."""
    monkeypatch.setattr(doctor, "ROI_ALIGN_ROW", (7.5, 8.0, 8.5, 9.0))
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["torch>=99", "no-such-package>=1"])
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc/nowhere")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        findings = [*examine(Path("/proc/nowhere")), *check_ports({server.getsockname()[1]: "a test"})]
    faults = {finding.name: finding.remedy for finding in findings if finding.state != "ok"}
    assert len(faults) >= 7
    assert {"torch", "no-such-package", "compiled ops, cpu", "output", "disk"} <= faults.keys()
    assert [name for name, remedy in faults.items() if not remedy] == []


def test_ops_give_the_known_value(monkeypatch):
    (finding, *_) = check_ops()
    assert finding.detail == "RoIAlign gives 4.5, 5, 5.5, 6"
    monkeypatch.setattr(doctor, "ROI_ALIGN_ROW", (7.5, 8.0, 8.5, 9.0))  # the row of the form that is not aligned
    (finding, *_) = check_ops()
    assert finding.state == "wrong"
    assert "and not (7.5, 8.0, 8.5, 9.0)" in finding.detail


def test_packages_are_held_against_what_is_declared(monkeypatch):
    assert set(states(check_packages()).values()) == {"ok"}
    wanted = ["torch>=99", "no-such-package>=1", "jsonschema>=99 ; extra == 'dev'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    assert states(check_packages()) == {"torch": "wrong", "no-such-package": "wrong"}


def test_output_that_cannot_be_written():
    found = states(check_output(Path("/proc/nowhere")))
    assert found == {"output": "wrong", "disk": "wrong"}


def test_output_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    assert states(check_output(tmp_path / "file/runs"))["output"] == "wrong"


def test_port_in_use():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        (finding,) = check_ports({port: "a test"})
    assert (finding.name, finding.state) == (f"port {port}", "warning")


@pytest.mark.parametrize(
    ("variables", "state"),
    [
        ({"RAY_AUTH_MODE": "token"}, "wrong"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "x"}, "ok"),
        ({"RAY_AUTH_MODE": "disabled"}, "ok"),
        ({}, "ok"),
    ],
)
def test_authentication(monkeypatch, tmp_path, variables, state):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    (finding,) = check_authentication()
    assert finding.state == state


def test_check_that_breaks_is_a_finding(monkeypatch, tmp_path):
    def check_memory():
        raise RuntimeError("no such counter\nand more")

    monkeypatch.setattr(doctor, "check_memory", check_memory)
    findings = examine(tmp_path)
    assert Finding("memory", "wrong", "RuntimeError: no such counter") in findings
    assert "output" in states(findings)


@pytest.mark.slow
def test_command_and_its_exit_code(tmp_path):
    command = [sys.executable, "-m", "maskray.platform.cli.main", "doctor"]
    good = subprocess.run([*command, "--output", str(tmp_path), "--json"], capture_output=True, text=True, timeout=600)
    assert good.returncode == 0, good.stdout + good.stderr
    assert {"name", "state", "detail", "remedy"} == set(json.loads(good.stdout)[0])
    bad = subprocess.run(
        [*command, "--output", "/proc/nowhere"], capture_output=True, text=True, timeout=600, env=os.environ
    )
    assert bad.returncode == 1
    assert "-> choose another folder" in bad.stdout
