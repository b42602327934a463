"""Runs tests of the operators in this process with a library of build.py in place of the installed one.

    python tests/ops/cuda_on_cpu/run_tests.py FOLDER MODE [arguments of pytest]

MODE is atomics, or deterministic: what torch.use_deterministic_algorithms asks for.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from maskray.ops import extension

# The wrappers load the library where they are imported: theirs is that of the folder.
FOLDER = Path(sys.argv[1]).resolve()
extension.__file__ = str(FOLDER / "extension.py")

from maskray.ops import nms  # noqa: E402

FILES = ("nms", "match_boxes", "roi_align", "multi_level_roi_align", "roi_pool", "roi_warp")
# Sums that atomics make in any order have no bits of their own.
OF_ONE_ORDER = "test_has_the_bits_of_one_level_after_the_other or test_result_does_not_depend_on_threads"
# They ask torch for kernels of other devices, or compile: neither has to do with the kernels.
ASIDE = "checks_of_torch or compile"


def main() -> int:
    """The exit status of pytest; the library is checked to be the one asked for."""
    mode, arguments = sys.argv[2], sys.argv[3:]
    nms.needs_sorted_groups = lambda device: True  # the kernel for CUDA is in the place of that for the CPU
    assert [Path(path) for path in torch.ops.loaded_libraries] == [FOLDER / "_C.abi3.so"]
    torch.use_deterministic_algorithms(mode == "deterministic")
    left_out = ASIDE if mode == "deterministic" else f"{ASIDE} or {OF_ONE_ORDER}"
    files = [str(Path(__file__).parents[1] / f"test_{name}.py") for name in FILES]
    return int(pytest.main([*files, "-q", "-p", "no:cacheprovider", "-k", f"not ({left_out})", *arguments]))


if __name__ == "__main__":
    sys.exit(main())
