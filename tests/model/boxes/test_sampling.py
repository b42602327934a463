"""Sampling: counts, order, reproducibility, and that every eligible box has the same chance."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskray.model.boxes.sampling import sample_boxes


@given(
    st.lists(st.lists(st.sampled_from([1, 0, -1]), min_size=7, max_size=7), min_size=1, max_size=4),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
@settings(deadline=None, max_examples=150)
def test_counts_and_labels(labels: list[list[int]], num_samples: int, fraction: float) -> None:
    tensor = torch.tensor(labels)
    samples = sample_boxes(tensor, num_samples=num_samples, positive_fraction=fraction, generator=None)
    assert samples.indices.shape == (len(labels), min(num_samples, 7))
    for row, wanted in enumerate(labels):
        positives = min(wanted.count(1), int(num_samples * fraction))
        negatives = min(wanted.count(0), num_samples - positives)
        valid = samples.is_valid[row]
        chosen = samples.indices[row][valid]
        assert int(valid.sum()) == positives + negatives
        assert len(set(chosen.tolist())) == len(chosen)
        assert [wanted[i] for i in chosen.tolist()] == [1] * positives + [0] * negatives
        assert samples.is_positive[row].tolist() == [True] * positives + [False] * (len(valid) - positives)
        assert valid.tolist() == sorted(valid.tolist(), reverse=True)


def test_equal_generators_draw_equal_boxes_and_the_global_one_is_left_alone() -> None:
    labels = torch.randint(-1, 2, (3, 200))
    state = torch.get_rng_state()
    first, second, other = (
        sample_boxes(
            labels, num_samples=32, positive_fraction=0.5, generator=torch.Generator().manual_seed(seed)
        ).indices
        for seed in (7, 7, 8)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_every_box_has_the_same_chance() -> None:
    labels = torch.zeros(4000, 10, dtype=torch.int64)
    labels[:, :4] = 1
    generator = torch.Generator().manual_seed(0)
    samples = sample_boxes(labels, num_samples=4, positive_fraction=0.5, generator=generator)
    counts = torch.bincount(samples.indices.flatten(), minlength=10).float()
    assert (counts[:4] / 4000 - 2 / 4).abs().max() < 0.04  # 5 standard deviations
    assert (counts[4:] / 4000 - 2 / 6).abs().max() < 0.04
