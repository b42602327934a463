"""Runs the tests of the CUDA kernels on the CPU under address, undefined-behaviour and thread sanitizers.

Each in several drawn orders of blocks and threads; `make sanitize` starts it. Any finding ends it with a report.
"""

from __future__ import annotations

import sys

from build import HERE, ROOT, build_library, run_sanitized

SCHEDULES = (1, 2, 3)
# Of sizes that only torchvision is compared at, which take the sanitizers minutes.
LARGE = ["--deselect", "tests/ops/test_nms.py::test_equals_torchvision"]


def main() -> int:
    """The first exit status that is not 0, or 0."""
    for sanitizer in ("address", "thread"):
        folder = ROOT / "build/cuda_on_cpu" / sanitizer
        folder.mkdir(parents=True, exist_ok=True)
        build_library(folder, sanitizer)
        for schedule in SCHEDULES:
            for mode in ("atomics", "deterministic"):
                print(f"{sanitizer} sanitizer, schedule {schedule}, {mode}", flush=True)
                arguments = [str(HERE / "run_tests.py"), str(folder), mode, *LARGE]
                status = int(run_sanitized(arguments, sanitizer, schedule).returncode)
                if status:
                    return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
