"""Runs clang-tidy over the C++ sources of the operators, as .clang-tidy says; `make lint` starts this program.

Two files at a time. CUDA sources are left out: clang cannot read nvcc's headers everywhere. A source that is compiled
once per instruction set is read as the baseline compiles it.
"""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from maskray.ops import build_extension as build

ROOT = Path(__file__).resolve().parents[2]
# The program of the environment's own package, whether or not its folder of programs is on the PATH.
CLANG_TIDY = [sys.executable, "-c", "import clang_tidy; clang_tidy.clang_tidy()"]


def find_problems(source: Path) -> str:
    """What clang-tidy says of one source and of our headers that it includes; empty where all is well."""
    includes = [flag.replace("-I", "-isystem", 1) for flag in build.find_torch().includes]  # not our code
    flags = [*build.CXX_FLAGS, f"-DTORCH_TARGET_VERSION={build.TORCH_TARGET_VERSION}ULL", "-DMASKRAY_ISA=baseline"]
    command = [*CLANG_TIDY, "--quiet", f"--config-file={ROOT / '.clang-tidy'}", str(source), "--", *flags, *includes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode else ""


def main() -> None:
    """Print every problem; the exit status says whether there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path, nargs="*", help="all of ops/csrc that is not CUDA when none is named")
    sources = parser.parse_args().sources or sorted((ROOT / "ops/csrc").rglob("*.cpp"))
    with ThreadPoolExecutor(2) as pool:
        problems = [found for found in pool.map(find_problems, sources) if found]
    print(*problems, sep="\n", end="")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
