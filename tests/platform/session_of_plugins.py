"""Tests that tests/test_plugins.py runs in a process of their own; some wait there until they are interrupted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from watchdog import VARIABLE, started_by


def waits_for_the_interrupt() -> bool:
    """Write down this process and all that it has started, then do nothing; False if nobody ends it."""
    told = Path(os.environ["MASKRAY_TOLD"])
    content = {"tests": os.getpid(), "started": started_by(os.environ[VARIABLE], {})}
    told.with_suffix(".new").write_text(json.dumps(content))
    told.with_suffix(".new").rename(told)
    time.sleep(3600)
    return False


def test_with_servers(ray_cluster: None, postgres_server: object) -> None:
    assert waits_for_the_interrupt()


def test_with_a_child() -> None:
    """One that has left the group of its parent, and does not end when asked."""
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('', flush=True); time.sleep(3600)"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True)
    child.stdout.readline()
    assert waits_for_the_interrupt()


def test_forgets_the_marker() -> None:
    """As Ray does, for each cluster."""
    folder = Path(os.environ["RAY_TMPDIR"], "ray", "session_of_a_test")
    folder.mkdir(parents=True)
    assert folder.is_dir()


def test_wants_what_is_not_there(shared: Callable[[str], Path]) -> None:
    assert shared("data/of-nobody").exists()
