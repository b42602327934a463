"""The order of training: complete, without repetition, the same for all ranks, a function of seed and step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskray.platform.data.order import epoch_batches


@given(
    st.lists(st.booleans(), min_size=1, max_size=90),
    st.integers(1, 12),
    st.integers(0, 5),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_every_image_once_but_less_than_a_batch(
    landscape: list[bool], size: int, epoch: int, seed: int, by_aspect_ratio: bool
) -> None:
    if len(landscape) < size:
        with pytest.raises(ValueError, match="not enough for a batch"):
            epoch_batches(landscape, seed, epoch, size, by_aspect_ratio)
        return
    batches = epoch_batches(landscape, seed, epoch, size, by_aspect_ratio)
    assert batches.shape == (len(landscape) // size, size)
    seen = set(batches.ravel().tolist())
    assert len(seen) == batches.size  # no image twice
    assert seen <= set(range(len(landscape)))
    assert len(landscape) - len(seen) < size
    np.testing.assert_array_equal(batches, epoch_batches(landscape, seed, epoch, size, by_aspect_ratio))
    if by_aspect_ratio:
        groups = np.array(landscape)[batches]
        assert (groups.any(axis=1) & ~groups.all(axis=1)).sum() <= 1  # one mixed batch at most


def test_epochs_and_seeds_differ_and_leave_out_other_images() -> None:
    landscape = [index % 3 > 0 for index in range(103)]
    epochs = [epoch_batches(landscape, 0, epoch, 10, True) for epoch in range(30)]
    assert len({batches.tobytes() for batches in epochs}) == 30
    assert epoch_batches(landscape, 1, 0, 10, True).tobytes() != epochs[0].tobytes()
    left_out = [set(range(103)) - set(batches.ravel().tolist()) for batches in epochs]
    assert all(len(missing) == 3 for missing in left_out)
    assert len(set.union(*left_out)) > 20
    # the mixed batch is not always the last
    mixed = [int(np.argmax([0 < np.array(landscape)[b].sum() < 10 for b in batches])) for batches in epochs]
    assert len(set(mixed)) > 3
