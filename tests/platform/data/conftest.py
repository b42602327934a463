"""A small synthetic data set, drawn once, and the cluster that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
def cluster(ray_cluster: None) -> Iterator[None]:
    """One on which reading that waits for what does not come fails in minutes, not after half an hour."""
    import ray.data

    context = ray.data.DataContext.get_current()
    before, context.execution_no_progress_timeout_s = context.execution_no_progress_timeout_s, 300
    yield
    context.execution_no_progress_timeout_s = before
