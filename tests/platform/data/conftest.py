"""A small synthetic data set, drawn once, and the cluster that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from maskray.platform.data.synthetic.dataset import SyntheticPaths, synthesize


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> SyntheticPaths:
    """23 images of 96x128."""
    return synthesize(tmp_path_factory.mktemp("drawn"), 23, seed=5, height=96, width=128, max_objects=5)


@pytest.fixture(scope="session")
def coco_sample(shared: Callable[[str], Path]) -> Path:
    return shared("data/coco-sample")


@pytest.fixture(scope="module")
def cluster() -> None:
    """Four logical CPUs, as a run on one machine has them."""
    import ray
    import ray.data

    if not ray.is_initialized():  # it ends with the file: tests/conftest.py
        ray.init(num_cpus=4, include_dashboard=False, object_store_memory=400_000_000, log_to_driver=False)
    ray.data.DataContext.get_current().execution_no_progress_timeout_s = 60
