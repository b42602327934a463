"""Every command of docs/tutorials/ is run, in order, as a reader would; training alone is made short."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 1800
# A twentieth of the training that the job asks for: what is learned is not the matter here.
SHORT = ["train.epochs=1", "train.decay_at_epochs=[]", "train.checkpoint_every=20", "train.evaluate_every=20"]


def commands_of(page: Path) -> list[list[str]]:
    """The indented lines of a page, each a command."""
    lines = re.findall(r"^ {4}((?:maskray|curl) .*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(line) for line in lines]


def shorten(command: list[str]) -> list[str]:
    if command[:2] != ["maskray", "run"]:
        return command
    return [*command, *(part for key in SHORT for part in ("--set", key))]


def run(command: list[str], folder: Path) -> str:
    if command[0] == "maskray":
        command = [sys.executable, "-m", "maskray.platform.cli.main", *command[1:]]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def served(command: list[str], folder: Path) -> Iterator[None]:
    """While a server of the page runs; it ends by the interrupt of its reader."""
    program = [sys.executable, "-m", "maskray.platform.cli.main", *command[1:]]
    address = f"http://127.0.0.1:{command[command.index('--port') + 1]}/"
    with (
        (folder / "server.log").open("w") as log,
        subprocess.Popen(program, cwd=folder, stdout=log, stderr=log, start_new_session=True) as server,
    ):
        try:
            until = time.monotonic() + SECONDS
            while True:
                assert server.poll() is None, (folder / "server.log").read_text()
                assert time.monotonic() < until
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(address, timeout=10).close()
                    break
                time.sleep(0.2)
            yield
        finally:
            server.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(120)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 3)
def test_the_first_dataset_ends_as_a_served_model(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the cluster of the tests: to start one takes longer than what the page does with it."""
    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for command in commands_of(ROOT / "docs/tutorials/first-dataset.md"):
            local = [part.replace("8000", port) for part in command]
            if local[:2] == ["maskray", "serve"]:
                stack.enter_context(served(local, tmp_path))
            else:
                told[" ".join(command[:2])] = run(shorten(local), tmp_path)
            if command[0] == "curl":
                stack.close()
    assert '"detections"' in told["curl --fail"]
    assert (tmp_path / "my-shapes.html").stat().st_size > 10_000
    assert len(list((tmp_path / "found").iterdir())) == 40
    assert (tmp_path / "outputs/first/evaluation/report.html").is_file()
    assert "classes taken" in run(["maskray", "check", "second.yaml"], tmp_path)


def test_commands_of_a_page_are_found() -> None:
    found = [" ".join(command[:2]) for command in commands_of(ROOT / "docs/tutorials/first-dataset.md")]
    assert {"maskray new", "maskray run", "maskray serve", "maskray predict", "curl --fail"} <= set(found)
