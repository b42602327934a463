"""Stored proposals come back in the frame of each image of a batch; a damaged store says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from maskray.model.structures import Batch
from maskray.platform.train.proposals import ProposalStore


def write_store(folder: Path) -> None:
    """Two ranks; image 7 has two boxes, image 9 one, image 8 none."""
    np.save(folder / "part-0-of-2.boxes.npy", np.array([[0, 0, 10, 20], [4, 8, 6, 9]], dtype=np.float32))
    np.save(folder / "part-0-of-2.index.npy", np.array([[7, 0, 2]]))
    np.save(folder / "part-1-of-2.boxes.npy", np.array([[10, 10, 30, 40]], dtype=np.float32))
    np.save(folder / "part-1-of-2.index.npy", np.array([[8, 0, 0], [9, 0, 1]]))


def make_batch(flipped: list[bool]) -> Batch:
    return Batch(
        images=torch.zeros(3, 3, 64, 64, dtype=torch.uint8),
        image_sizes=torch.tensor([[40, 20], [10, 10], [50, 60]]),
        image_ids=torch.tensor([7, 8, 9]),
        original_sizes=torch.tensor([[20, 10], [10, 10], [100, 120]]),
        flipped=torch.tensor(flipped),
    )


def test_boxes_are_scaled_mirrored_and_padded(tmp_path: Path) -> None:
    write_store(tmp_path)
    store = ProposalStore(tmp_path, 2)
    plain = store.attach(make_batch([False, False, False])).proposals
    expected = [[[0, 0, 20, 40], [8, 16, 12, 18]], [[0] * 4, [0] * 4], [[5, 5, 15, 20], [0] * 4]]
    assert plain is not None
    assert plain.tolist() == expected
    mirrored = store.attach(make_batch([True, True, True])).proposals
    assert mirrored is not None
    assert mirrored[0].tolist() == [[0, 0, 20, 40], [8, 16, 12, 18]]  # of an image of width 20
    assert mirrored[2, 0].tolist() == [45, 5, 55, 20]


def test_a_store_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path)
    with pytest.raises(ValueError, match=r"part-0-of-3\.boxes\.npy: stored proposals cannot be read"):
        ProposalStore(tmp_path, 3)
    whole = (tmp_path / "part-0-of-2.boxes.npy").read_bytes()
    (tmp_path / "part-0-of-2.boxes.npy").write_bytes(whole[:-8])
    with pytest.raises(ValueError, match=r"part-0-of-2\.boxes\.npy: stored proposals cannot be read"):
        ProposalStore(tmp_path, 2)
    np.save(tmp_path / "part-0-of-2.boxes.npy", np.zeros((1, 4), dtype=np.float32))
    with pytest.raises(ValueError, match=r"part-0-of-2\.boxes\.npy: cut short"):
        ProposalStore(tmp_path, 2)
