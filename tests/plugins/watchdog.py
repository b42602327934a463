"""A program that waits for the end of one process of tests, however it comes, and then ends all that process started.

    python watchdog.py TAG FOLDER

It reads its standard input, a pipe that only the watched process holds open: kill -9 closes it as well. What that
process started, and what those started, is known by TAG in the environment that they inherited, or by its parent:
PostgreSQL, MLflow and Ray overwrite their environment's place with a title, or leave their session. FOLDER is removed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

VARIABLE = "MASKRAY_TESTS_PROCESS"
SECONDS_TO_END = 3.0
SECONDS_TO_DIE = 60.0


Processes = dict[int, str]  # when it started, by id: an id may be given to another process


def running() -> dict[int, tuple[int, str]]:
    """Parent and start of every process that has not ended, by id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                found[int(path.name)] = (int(fields[1]), fields[19])
    return found


def has_tag(process: int, tag: str) -> bool:
    with suppress(OSError):
        return f"{VARIABLE}={tag}".encode() in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return False


def is_watchdog(process: int) -> bool:
    with suppress(OSError):
        return os.fsencode(Path(__file__).resolve()) in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    return False


def started_by(tag: str, known: Processes) -> Processes:
    """Those that run still: with the tag in their environment, known before, or below one of these."""
    every = running()
    found = {process for process, (_, start) in every.items() if known.get(process) == start or has_tag(process, tag)}
    while more := {child for child, (parent, _) in every.items() if parent in found} - found:
        found |= more
    # Not this program, nor the watchdogs of processes below: they have folders to remove.
    return {process: every[process][1] for process in found if not is_watchdog(process)}


def send(number: signal.Signals, processes: Processes) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def end_all(tag: str) -> None:
    """Ask them to end, and kill those that have not after a while: PostgreSQL that is killed leaves shared memory."""
    left = started_by(tag, {})
    send(signal.SIGTERM, left)
    begun = time.monotonic()
    while (left := started_by(tag, left)) and time.monotonic() < begun + SECONDS_TO_DIE:
        if time.monotonic() > begun + SECONDS_TO_END:
            send(signal.SIGKILL, left)
        time.sleep(0.1)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_all(sys.argv[1])
    shutil.rmtree(sys.argv[2], ignore_errors=True)
