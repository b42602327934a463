"""What plugins/ promises: a run that is killed leaves no process behind, no marker is forgotten, no skip unseen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from watchdog import VARIABLE, running

pytestmark = pytest.mark.slow
SESSION = Path(__file__).parent / "platform" / "session_of_plugins.py"
SECONDS = 600.0


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def interrupt(tmp_path: Path, test: str, number: signal.Signals, *options: str) -> list[str]:
    """Run a test of the session, send a signal to its process, and wait; titles of the processes that were started."""
    told = tmp_path / "told.json"
    environment = clean_environment() | {"MASKRAY_TOLD": str(told)}
    command = [sys.executable, "-m", "pytest", f"{SESSION}::{test}", "--basetemp", str(tmp_path / "base"), *options]
    # Ctrl-C is heard, as of a shell's program in the foreground.
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, cwd=SESSION.parents[2], start_new_session=True
        ) as session,
    ):
        try:
            wait_until(lambda: told.exists() or session.poll() is not None)
            assert told.exists(), (tmp_path / "log").read_text()
            content = json.loads(told.read_text())
            started = {int(process): start for process, start in content["started"].items()}
            titles = [title_of(process) for process in started]
            os.kill(content["tests"], number)
            wait_until(lambda: not still_there(started))
        finally:
            with suppress(ProcessLookupError):
                os.killpg(session.pid, signal.SIGKILL)
    return titles


def title_of(process: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def still_there(started: dict[int, str]) -> list[str]:
    now = running()
    return [title_of(one) for one, start in started.items() if one in now and now[one][1] == start]


def wait_until(condition: object) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.skipif(not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")), reason="PostgreSQL is not installed")
def test_killed_run_leaves_no_server_behind(tmp_path):
    titles = interrupt(tmp_path, "test_with_servers", signal.SIGKILL, "-n", "0")
    for name in ("postgres", "mlflow", "gcs_server", "raylet"):
        assert any(name in title for title in titles), titles


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (signal.SIGKILL, ["-n", "1", "--max-worker-restart", "0"]),
        (signal.SIGTERM, ["-n", "0"]),
        (signal.SIGINT, ["-n", "0"]),
    ],
    ids=["kill -9 of a worker", "SIGTERM", "Ctrl-C"],
)
def test_interrupted_run_leaves_no_child_behind(tmp_path, number, options):
    titles = interrupt(tmp_path, "test_with_a_child", number, *options)
    assert any("SIG_IGN" in title for title in titles)
    assert VARIABLE in os.environ, "this run is watched as well"


def test_marker_of_ray_is_not_forgotten_and_skips_are_counted(tmp_path):
    names = ("test_forgets_the_marker", "test_wants_what_is_not_there")
    command = [sys.executable, "-m", "pytest", *(f"{SESSION}::{name}" for name in names)]
    environment = clean_environment() | {"MASKRAY_SHARED": str(tmp_path)}
    command += ["--basetemp", str(tmp_path / "base"), "-n", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=SESSION.parents[2], timeout=600)
    assert done.returncode == 1, done.stderr
    assert "this test starts a Ray cluster: give it the marker `ray`" in done.stdout
    assert f"1 tests skipped: they need files that are not in {tmp_path}" in done.stdout
