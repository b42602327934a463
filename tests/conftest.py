"""What holds for all tests: no file of tests leaves a Ray cluster to the next one."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def _own_ray() -> Iterator[None]:
    """Code under test joins or starts Ray by itself; what it started ends with the file."""
    yield
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()
