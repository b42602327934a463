"""A few seconds of the attack on the readers; `make soak` has ten minutes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("fuzz_readers.py")


@pytest.mark.slow
def test_hostile_files_end_in_data_or_in_a_line() -> None:
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), "--seconds", "4"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr[-3000:]
    assert "each ended in data or in a line" in ended.stdout
