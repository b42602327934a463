"""Memory that is freed leaves the process, where glibc alone would keep it."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys
from pathlib import Path
import numpy as np
from maskray.platform.machine.memory import return_large_blocks

def resident_mib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

if sys.argv[1] == "return":
    return_large_blocks()
np.ones(16 << 20, np.uint8)  # from now on glibc alone keeps blocks of this size
before = resident_mib()
large, small = [], []
for _ in range(50):
    large.append(np.ones(4 << 20, np.uint8))
    small.append(np.ones(50_000, np.uint8))
held = resident_mib() - before
del large
print(held, resident_mib() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone keeps them")
def test_large_blocks_leave_the_process_when_they_are_freed():
    left = {}
    for how in ("keep", "return"):
        done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        held, left[how] = map(float, done.stdout.split())
        assert held > 190
    assert left["return"] < 20 < left["keep"]
