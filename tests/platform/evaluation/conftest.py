"""What the tests of this folder share: one thread."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """Every test of this folder has networks and tensors that are small."""
