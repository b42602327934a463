"""The windowed order: complete, without repetition, a function of seed and step, and what a window asks of shards."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskray.platform.data.manifest import Manifest
from maskray.platform.data.order import EpochOrder
from maskray.platform.data.stream import BatchPlan
from maskray.platform.data.windows import windowed_batches
from maskray.platform.job.config import JobConfig


@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=20),
    st.integers(1, 12),
    st.integers(1, 60),
    st.integers(0, 5),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_every_image_once_but_less_than_a_batch(
    stretches: list[tuple[int, bool]], size: int, window: int, epoch: int, seed: int, by_aspect_ratio: bool
) -> None:
    shards = np.repeat(np.arange(len(stretches)), [rows for rows, _ in stretches])
    landscape = np.repeat([wide for _, wide in stretches], [rows for rows, _ in stretches])
    rule: tuple[Any, ...] = (shards, landscape, seed, epoch, size, by_aspect_ratio, window)
    if len(shards) < size:
        with pytest.raises(ValueError, match="not enough for a batch"):
            windowed_batches(*rule)
        return
    batches, windows = windowed_batches(*rule)
    assert len(windows) == len(batches)
    assert batches.shape == (len(shards) // size, size)
    seen = set(batches.ravel().tolist())
    assert len(seen) == batches.size  # no image twice
    assert seen <= set(range(len(shards)))
    np.testing.assert_array_equal(batches, windowed_batches(*rule)[0])
    if by_aspect_ratio:
        groups = landscape[batches]
        assert (groups.any(axis=1) & ~groups.all(axis=1)).sum() <= 1  # one mixed batch at most


def test_epochs_and_seeds_differ_and_leave_out_other_images() -> None:
    shards = np.arange(103) // 20
    landscape = np.arange(103) % 3 > 0
    epochs = [windowed_batches(shards, landscape, 0, epoch, 10, True, 20)[0] for epoch in range(40)]
    assert len({batches.tobytes() for batches in epochs}) == 40
    assert windowed_batches(shards, landscape, 1, 0, 10, True, 20)[0].tobytes() != epochs[0].tobytes()
    left_out = [set(range(103)) - set(batches.ravel().tolist()) for batches in epochs]
    assert all(len(missing) == 3 for missing in left_out)
    assert len(set.union(*left_out)) > 25
    alone = [windowed_batches(np.zeros(103, int), landscape, 0, epoch, 10, False, 20)[0] for epoch in range(40)]
    assert len(set.union(*(set(range(103)) - set(batches.ravel().tolist()) for batches in alone))) > 25


@pytest.mark.parametrize("by_aspect_ratio", [False, True])
def test_a_window_is_few_stretches_of_few_shards(by_aspect_ratio: bool) -> None:
    """100 shards of 256 rows, batches of 16, windows of 2048 rows: 128 of each of 16 stretches of 1600."""
    shards = np.arange(25_600) // 256
    landscape = np.random.default_rng(1).random(25_600) < 0.75
    batches, windows = windowed_batches(shards, landscape, 3, 0, 16, by_aspect_ratio, 2048)
    assert windows.tolist() == sorted(windows)
    assert windows[-1] == 12  # 1600 / 128, rounded up
    for number in range(13):
        whole = batches[windows == number]
        runs = (np.diff(np.sort(whole.ravel())) > 1).sum() + 1
        # One or two shards a stretch, as they lie one behind the other only in the drawn order; and with two groups
        # what the window before has left, or this one leaves.
        assert runs <= 2 * 16 + (60 if by_aspect_ratio else 0)
        half = (np.diff(np.sort(whole[:, :8].ravel())) > 1).sum() + 1  # one of two workers
        assert half <= 16 + (60 if by_aspect_ratio else 2)
    assert np.mean([len(set(shards[batch].tolist())) for batch in batches]) > 14  # though a batch is of many shards


def test_a_worker_reads_its_part_of_the_shards() -> None:
    """Two workers of 100 shards: few are read by both."""
    shards = np.arange(25_600) // 256
    landscape = np.random.default_rng(1).random(25_600) < 0.75
    batches, _ = windowed_batches(shards, landscape, 3, 0, 16, True, 2048)
    first, second = (np.bincount(shards[batches[:, part].ravel()], minlength=100) for part in (slice(8), slice(8, 16)))
    assert np.minimum(first, second).sum() < 0.05 * 25_600


def test_the_order_is_shuffled_within_its_windows() -> None:
    (shards, landscape) = np.zeros(4000, int), np.ones(4000, bool)
    batches, windows = windowed_batches(shards, landscape, 0, 0, 4, False, 400)
    assert np.bincount(windows).tolist() == [100] * 10
    place = batches[:100, 2]
    assert abs(np.corrcoef(place, np.arange(100))[0, 1]) < 0.4
    assert not np.array_equal(np.argsort(place), np.argsort(batches[:100, 3]))  # no two places alike


def manifest_of(rows: int, rows_per_shard: int) -> Manifest:
    sizes = [min(rows_per_shard, rows - start) for start in range(0, rows, rows_per_shard)]
    return Manifest.model_validate(
        {
            "labels": {"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]},
            "digest": "d",
            "num_images": rows,
            "num_annotations": rows,
            "shards": [{"name": str(n), "num_rows": size, "bytes": 1, "sha256": "s"} for n, size in enumerate(sizes)],
            "image_ids": list(range(rows)),
            "widths": [20 if row % 3 else 10 for row in range(rows)],
            "heights": [15] * rows,
            "num_objects": [row % 5 for row in range(rows)],
            "categories": [(1, 2) if row % 7 == 0 else (1,) for row in range(rows)],
        }
    )


@given(st.integers(0, 90), st.sampled_from([1, 2, 6, 12]), st.sampled_from([0.0, 0.9]), st.booleans(), st.booleans())
def test_a_step_is_the_same_wherever_training_begins(
    step: int, size: int, threshold: float, only_with_objects: bool, by_aspect_ratio: bool
) -> None:
    manifest = manifest_of(40, rows_per_shard=7)
    rule = (manifest, 3, size, by_aspect_ratio, only_with_objects, threshold, 12)
    whole = EpochOrder(*rule)
    batches = [whole.batch(earlier) for earlier in range(step + 1)]
    fresh = EpochOrder(*rule)
    np.testing.assert_array_equal(fresh.batch(step), batches[step])
    np.testing.assert_array_equal(fresh.draws(step), whole.draws(step))
    assert fresh.batches_per_epoch == EpochOrder(*rule[:-1]).batches_per_epoch
    if only_with_objects:
        assert (batches[step] % 5 > 0).all()


@pytest.mark.parametrize("parts", [1, 2])
def test_tasks_have_the_micro_batches_of_a_window(parts: int) -> None:
    manifest = manifest_of(100, rows_per_shard=10)
    source = {"kind": "shards", "path": "."}
    job = JobConfig.model_validate(
        {
            "name": "test",
            "data": {
                "train": source,
                "val": source,
                "order": "windowed",
                "shuffle_window": 40,
                "batch_by_aspect_ratio": False,
            },
            "train": {"steps": 9, "images_per_batch": 8, "accumulate_steps": parts},
            "resources": {"num_workers": 2},
        }
    )
    plan = BatchPlan(manifest, job.stream, 0, 2)
    tasks = plan.tasks(range(plan.first(3), plan.first(30)), 32)
    # 12 batches an epoch, windows of 5: they begin at the batches 0, 5 and 10 of each
    starts = [3, 5, 10, 12, 17, 22, 24, 29, 30]
    assert [(task.start, task.stop) for task in tasks] == [
        (a * parts, b * parts) for a, b in itertools.pairwise(starts)
    ]
