"""No process that a test starts outlives the process of tests: a watchdog ends what a killed run would leave.

Every process of tests, and each of xdist's workers is one, has a watchdog of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest
from watchdog import VARIABLE

WATCHDOG = Path(__file__).with_name("watchdog.py")


def start_watchdog(tag: str, folder: str) -> subprocess.Popen[bytes]:
    # Neither in this session, where Ctrl-C would end it, nor with the tag of this process, which it is to outlive.
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    command = [sys.executable, "-I", "-S", str(WATCHDOG), tag, folder]
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)


def pytest_configure(config: pytest.Config) -> None:
    tag = uuid.uuid4().hex
    # Below pytest's folder the paths of Ray's sockets would be too long.
    folder = tempfile.mkdtemp(prefix="mr-", dir="/tmp")
    os.chmod(folder, 0o711)  # PostgreSQL runs as another user, in a folder of its own below it
    config.stash[KEY] = start_watchdog(tag, folder)
    os.environ[VARIABLE] = tag
    os.environ["MASKRAY_TESTS_FOLDER"] = os.environ["RAY_TMPDIR"] = folder


KEY = pytest.StashKey[subprocess.Popen[bytes]]()
