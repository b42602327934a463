"""Which process it is: told from all others, also of other machines and of those that had its number before."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class ProcessIdentity:
    """Host and number are for people; `machine` is one boot of one system of processes, `started` is in its ticks."""

    host: str
    pid: int
    machine: str
    started: int | None


def this_process() -> ProcessIdentity:
    """The process that asks."""
    return ProcessIdentity(socket.gethostname(), os.getpid(), _machine(), _started(os.getpid()))


def has_ended(process: ProcessIdentity) -> bool:
    """Whether a process is known to be gone; False for one of another machine, or where the system does not tell."""
    if not process.machine or process.machine != _machine() or process.started is None:
        return False
    return _started(process.pid) != process.started


@cache
def _machine() -> str:
    """The boot and the name space of process numbers: containers of one machine have their own."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + " " + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """When a process began, in ticks since the boot; None where there is none, or only what is left of one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
