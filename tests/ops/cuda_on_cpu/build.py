"""Compiles the CUDA kernels with the C++ compiler: a _C library whose operators run them on CPU tensors.

    python tests/ops/cuda_on_cpu/build.py --sanitizer thread

Sources are translated line by line: `kernel<T><<<grid, block, bytes, stream>>>(...)` and `__shared__` are no C++, and
the kernels are registered for CPU tensors. Operators that have no CUDA kernel are not in it. All lies in
build/cuda_on_cpu.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from maskray.ops import build_extension as build

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CSRC = ROOT / "ops/csrc"
SANITIZERS = {
    "none": [],
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g"],
    "thread": ["-fsanitize=thread", "--param=tsan-distinguish-volatile=1", "-fno-omit-frame-pointer", "-g"],
}
# So that few boxes take every way through non-maximum suppression.
SMALL = ["-DMASKRAY_NMS_WALKED=7", "-DMASKRAY_NMS_MATRIX_WORDS=256"]
# What of torch's and CUDA's is not for the CPU, and what stands for it.
NAMES = {
    ".is_cuda()": ".is_cpu()",
    "torch::stable::accelerator::DeviceGuard": "cuda_on_cpu::DeviceGuard",
    "aoti_torch_get_current_cuda_stream": "cuda_on_cpu::get_current_stream",
    "STD_CUDA_KERNEL_LAUNCH_CHECK()": "static_cast<void>(0)",
}
LIBRARIES = {"none": [], "address": ["libasan.so", "libubsan.so"], "thread": ["libtsan.so"]}


def translate(source: str) -> str:
    """A CUDA source as C++ for fibres.h, with the same lines."""
    text = re.sub(
        r"extern\s+__shared__\s+(\w+)\s+(\w+)\[\];",
        r"\1* \2 = static_cast<\1*>(cuda_on_cpu::dynamic_shared_bytes());",
        source,
    )
    text = re.sub(
        r"__shared__\s+([\w:<>]+)\s+(\w+)((?:\[[^\]]+\])*);",
        r"auto& \2 = cuda_on_cpu::shared<\1\3>(__FILE__, __LINE__);",
        text,
    )
    text = re.sub(r"STABLE_TORCH_LIBRARY_IMPL\((\w+), CUDA,", r"STABLE_TORCH_LIBRARY_IMPL(\1, CPU,", text)
    for cuda, cpu in NAMES.items():
        text = text.replace(cuda, cpu)
    while "<<<" in text:
        text = _translate_launch(text)
    return text


def _translate_launch(text: str) -> str:
    """The first `kernel<T><<<shape>>>(` as `cuda_on_cpu::launch({shape}, kernel<T>, `."""
    at, end = text.index("<<<"), text.index(">>>")
    begin = at
    while text[begin - 1].isspace():
        begin -= 1
    begin = _begin_of_name(text, begin)
    opening = text.index("(", end)
    return (
        f"{text[:begin]}cuda_on_cpu::launch(cuda_on_cpu::Shape{{{text[at + 3 : end]}}}, {text[begin:at]}, "
        f"{text[opening + 1 :]}"
    )


def _begin_of_name(text: str, end: int) -> int:
    """Where the name with its template arguments begins that ends here."""
    depth = 0
    while end > 0:
        letter = text[end - 1]
        depth += (letter == ">") - (letter == "<")
        if depth == 0 and not (letter.isalnum() or letter in "_:<"):
            return end
        end -= 1
    return end


def build_library(folder: Path, sanitizer: str = "none", kernels: list[Path] | None = None) -> Path:
    """Compile and link folder/_C.abi3.so; kernels are CUDA sources in place of those of the operators."""
    sources = folder / "csrc"
    shutil.rmtree(sources, ignore_errors=True)
    shutil.copytree(CSRC, sources, ignore=shutil.ignore_patterns("*.cpp", "*.cu"))
    cuda = [*CSRC.glob("cuda/*")] if kernels is None else [*CSRC.glob("cuda/*.h"), *kernels]
    for file in cuda:
        (sources / "cuda" / file.name.replace(".cu", ".cu.cpp")).write_text(translate(file.read_text()))
    torch_found = build.find_torch()
    cxx = os.environ.get("CXX", "c++")
    base = [cxx, *build.CXX_FLAGS, "-O1", *torch_found.includes, "-Wno-unknown-pragmas"]
    base += [f"-DTORCH_TARGET_VERSION={build.TORCH_TARGET_VERSION}ULL", *SMALL]
    commands = [[*base, "-c", str(HERE / "fibres.cpp"), "-I", str(HERE / "include"), "-o", str(folder / "fibres.o")]]
    include = [f"-I{HERE / 'include'}", *SANITIZERS[sanitizer]]
    for source in sorted(sources.glob("cuda/*.cpp")):
        target = folder / f"{source.name}.o"
        commands.append([cxx, *include, *base[1:], "-c", str(source), "-o", str(target)])
    if kernels is None:
        commands.append([*base, "-c", str(CSRC / "library.cpp"), "-o", str(folder / "library.o")])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda command: subprocess.run(command, check=True), commands))
    objects = [command[-1] for command in commands]
    flags = [flag for flag in SANITIZERS[sanitizer] if flag.startswith("-fsanitize")]
    libraries = [f"-L{torch_found.folder / 'lib'}", "-ltorch_cpu", "-ltorch"]
    target = folder / "_C.abi3.so"
    subprocess.run([cxx, "-shared", *flags, *objects, *libraries, "-o", str(target)], check=True)
    return target


def run_sanitized(arguments: list[str], sanitizer: str, schedule: int = 0, **options: Any) -> Any:
    """subprocess.run of Python with these arguments, in a process that may load a library of this sanitizer.

    schedule is the seed of the order in which blocks and threads come.
    """
    cxx = os.environ.get("CXX", "c++")
    names = [*LIBRARIES[sanitizer], "libstdc++.so.6"] if LIBRARIES[sanitizer] else []
    found = [subprocess.check_output([cxx, f"-print-file-name={name}"], text=True).strip() for name in names]
    variables = {
        **os.environ,
        "MASKRAY_SCHEDULE": str(schedule),
        "LD_PRELOAD": " ".join(found),
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        # Python and torch are not instrumented: of what they do thread sanitizer sees the half only.
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1 halt_on_error=1 exitcode=66",
    }
    # Older thread sanitizers do not find their place among addresses that are drawn.
    fixed = ["setarch", "-R"] if subprocess.run(["setarch", "-R", "true"], capture_output=True).returncode == 0 else []
    return subprocess.run([*fixed, sys.executable, *arguments], env=variables, cwd=ROOT, **options)


def main() -> None:
    """Build one library."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sanitizer", choices=list(SANITIZERS), default="none")
    options = parser.parse_args()
    folder = ROOT / "build/cuda_on_cpu" / options.sanitizer
    folder.mkdir(parents=True, exist_ok=True)
    print(build_library(folder, options.sanitizer))


if __name__ == "__main__":
    main()
