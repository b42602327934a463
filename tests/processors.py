"""Runs the tests of model and ops as other processors would round: a table of instruction sets and numbers of threads.

`make processors` starts this program. Of one machine it can show what is below its own instruction set, not above.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Kernels are chosen apart in torch (ATen), in oneDNN (convolutions), in MKL (matrix products) and in our own operators.
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "MKL_CBWR": "AVX2",
    "MASKRAY_CPU_ISA": "avx2",
}
OLDEST = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "MASKRAY_CPU_ISA": "baseline",
}
# References of detectron2 are float32 themselves: without AVX2 other boxes of a random network come out first.
PARITY_IN_FLOAT32 = "--ignore=tests/model/test_detectron2_parity.py"
SETTINGS = {
    "this processor": {},
    "this processor, 2 threads": {"OMP_NUM_THREADS": "2"},
    "AVX2": AVX2,
    "AVX2, 2 threads": AVX2 | {"OMP_NUM_THREADS": "2"},
    "SSE4.1": OLDEST,
}
# Compiling a source and starting processes hang on no rounding; test_build_extension sets instruction sets of its own.
TESTS = ["tests/model", "tests/ops", "--ignore=tests/ops/test_build_extension.py"]


def run(environment: dict[str, str], arguments: list[str]) -> tuple[str, list[str]]:
    """The last line of pytest, and the tests that failed."""
    left_out = [PARITY_IN_FLOAT32] if environment is OLDEST else []
    command = [sys.executable, "-m", "pytest", *TESTS, *left_out, *arguments]
    known = {name: value for name, value in os.environ.items() if name not in AVX2}
    done = subprocess.run(
        command, cwd=ROOT, env=known | {"OMP_NUM_THREADS": "1"} | environment, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    if done.returncode not in (0, 1):  # neither all passed nor some failed
        failed.append(done.stderr.strip() or f"pytest ended with {done.returncode}")
    return (lines[-1] if lines else ""), failed


def main() -> None:
    """Print the table; the exit status is 1 where a test failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pytest", nargs="*", default=["-n", "2", "--dist", "loadfile"], help="its arguments, after --")
    arguments = parser.parse_args().pytest
    print(f"{'setting':<28}{'passed':>8}{'failed':>8}{'skipped':>8}{'seconds':>9}", flush=True)
    broken = False
    for name, environment in SETTINGS.items():
        started = time.monotonic()
        last, failed = run(environment, arguments)
        counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
        bad = max(len(failed), counts.get("failed", 0) + counts.get("error", 0))
        seconds = time.monotonic() - started
        print(f"{name:<28}{counts.get('passed', 0):>8}{bad:>8}{counts.get('skipped', 0):>8}{seconds:>9.0f}", flush=True)
        for line in failed:
            print(f"  {line}", flush=True)
        broken |= bool(bad)
    sys.exit(broken)


if __name__ == "__main__":
    main()
