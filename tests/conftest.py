"""What all tests share: no file of tests leaves a Ray cluster to the next one, and small tensors have one thread."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator

import pytest

# Said once, before any file imports Ray: in one process, clusters with a token and without do not follow each other.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")


@pytest.fixture(autouse=True, scope="module")
def _own_ray() -> Iterator[None]:
    """Code under test joins or starts Ray by itself; what it started ends with the file."""
    yield
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        wait_for_streams()
        ray.shutdown()


def wait_for_streams() -> None:
    """Until Ray Data's threads have seen that nobody takes their batches: one that asks Ray for more after its end
    makes Ray end the whole process."""
    deadline = time.monotonic() + 10
    while any(thread.name.startswith(("StreamingExecutor", "iter_threaded")) for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, which stall one another on busy cores; torchvision rounds otherwise."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
