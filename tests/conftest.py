"""What all tests share; most is in plugins: shared data, clusters of Ray, processes that must not stay behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Examples that take long say nothing of the code where other programs keep the cores busy.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
pytest_plugins = ["child_processes", "order", "ray_tests", "shared_data"]


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, which stall one another on busy cores; torchvision rounds otherwise."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Markers that follow from what a test uses."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        without = {mark.kwargs.get("reason") for mark in item.iter_markers("skipif")}
        if "no GPU" in without or any(isinstance(value, str) and value == "cuda" for value in values):
            item.add_marker("gpu")
