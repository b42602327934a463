"""The CUDA kernels on the CPU: their operators' tests, and that what is wrong with a kernel is found there."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent / "cuda_on_cpu"
spec = importlib.util.spec_from_file_location("build_cuda_on_cpu", HERE / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)

pytestmark = pytest.mark.slow  # a compiler runs for half a minute
SOUND, RACE, BOUNDS, NO_BARRIER, HALF_BARRIER, HALF_VOTE = range(6)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The libraries of planted.cu by sanitizer."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("address", "thread")}
    return {name: build.build_library(folder, name, [HERE / "planted.cu"]) for name, folder in folders.items()}


@functools.cache
def can_run(sanitizer):
    return build.run_sanitized(["-c", ""], sanitizer, capture_output=True, timeout=600).returncode == 0


def run(planted, sanitizer, kernel, schedule=0):
    if not can_run(sanitizer):
        pytest.skip(f"{sanitizer} sanitizer does not start on this machine")
    arguments = [str(HERE / "run_planted.py"), str(planted[sanitizer]), str(kernel)]
    return build.run_sanitized(arguments, sanitizer, schedule, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(("sanitizer", "schedule"), [("address", 0), ("address", 7), ("thread", 0)])
def test_a_sound_kernel_gives_its_values_in_any_order(planted, sanitizer, schedule):
    done = run(planted, sanitizer, SOUND, schedule)
    assert done.returncode == 0, done.stderr
    blocks = np.arange(-8.0, 120.0).reshape(2, 64)
    neighbours = np.roll(blocks, -1, axis=1)
    sums = neighbours.reshape(-1, 32).sum(1).repeat(32)
    assert json.loads(done.stdout) == np.where(neighbours.ravel() > 0, sums, 0).tolist()


@pytest.mark.parametrize(
    ("sanitizer", "kernel", "said"),
    [
        ("thread", RACE, "data race"),
        ("thread", NO_BARRIER, "data race"),
        ("address", BOUNDS, "index 64 out of bounds"),
        ("address", HALF_BARRIER, "not all threads of the block reach the barrier"),
        ("address", HALF_VOTE, "a thread of the mask does not take part in a vote"),
    ],
)
def test_a_planted_mistake_is_found(planted, sanitizer, kernel, said):
    done = run(planted, sanitizer, kernel)
    assert done.returncode != 0
    assert said in done.stderr
    assert "planted.cu" in done.stderr or kernel == HALF_VOTE


def test_a_missing_barrier_gives_values_that_are_none(planted):
    assert "nan" in run(planted, "address", NO_BARRIER).stdout


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    build.build_library(folder)
    return folder


@pytest.mark.parametrize("mode", [pytest.param("atomics", marks=pytest.mark.long), "deterministic"])
def test_the_kernels_pass_the_tests_of_the_operators(kernels, mode):
    arguments = [str(HERE / "run_tests.py"), str(kernels), mode]
    done = build.run_sanitized(arguments, "none", capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " failed" not in done.stdout


def test_launches_and_shared_memory_are_translated_on_their_lines():
    source = """__shared__ float held[N];
  a::kernel<T, B<int>>
      <<<f(x, y), 3, 0, s>>>(one,
 two);
extern __shared__ double all[];"""
    assert build.translate(source).splitlines() == [
        "auto& held = cuda_on_cpu::shared<float[N]>(__FILE__, __LINE__);",
        "  cuda_on_cpu::launch(cuda_on_cpu::Shape{f(x, y), 3, 0, s}, a::kernel<T, B<int>>",
        "      , one,",
        " two);",
        "double* all = static_cast<double*>(cuda_on_cpu::dynamic_shared_bytes());",
    ]
