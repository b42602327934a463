"""Batches of labelled rows and others: so many of each in every batch, each part whole, a function of the step."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskray.model.config import Category, LabelMap
from maskray.platform.data.manifest import Manifest, ShardInfo
from maskray.platform.data.mixing import MixedOrder, build_order
from maskray.platform.data.stream import BatchPlan
from maskray.platform.job.config import JobConfig, StreamConfig


def make_manifest(labelled: int, others: int, per_shard: int = 8, parts: bool = True) -> Manifest:
    count = labelled + others
    sizes = [min(per_shard, labelled - at) for at in range(0, labelled, per_shard)]
    sizes += [min(per_shard, others - at) for at in range(0, others, per_shard)]
    shards = [ShardInfo(name=f"{i}", num_rows=size, bytes=1, sha256="") for i, size in enumerate(sizes)]
    rows = np.arange(count)
    return Manifest(
        labels=LabelMap(categories=(Category(id=1, name="a"),)), digest="d", num_images=count, num_annotations=count,
        shards=tuple(shards), image_ids=rows, widths=np.where(rows % 3 == 0, 50, 100), heights=np.full(count, 80),
        num_objects=np.where(rows % 5 == 4, 0, 1), categories=tuple((1,) for _ in rows),
        num_labelled=labelled if parts else None,
    )  # fmt: skip


def make_stream(size: int, labelled: int | None, seed: int = 0, accumulate: int = 1, **data: object) -> StreamConfig:
    source = {"kind": "synthetic", "num_images": 100}
    tree = {"train": source, "val": source, "labelled_per_batch": labelled, **data}
    train = {"steps": 9, "images_per_batch": size, "accumulate_steps": accumulate}
    job = {"name": "a", "data": tree, "train": train, "seed": seed, "resources": {"num_workers": 1}}
    return JobConfig.model_validate(job).stream


@settings(max_examples=40)
@given(st.integers(8, 40), st.integers(8, 90), st.integers(2, 8), st.data(), st.booleans())
def test_every_batch_has_its_share_and_every_part_its_epochs(
    labelled: int, others: int, size: int, data: st.DataObject, windowed: bool
) -> None:
    share = data.draw(st.integers(1, size - 1))
    manifest = make_manifest(labelled, others)
    ways = {"order": "windowed", "shuffle_window": 16} if windowed else {}
    order = build_order(manifest, make_stream(size, share, **ways))
    steps = 3 * max(labelled // share, others // (size - share))
    for of_part, length, whole in (
        (lambda row: row < labelled, share, labelled),
        (lambda row: row >= labelled, size - share, others),
    ):
        seen = []
        for step in range(steps):
            rows = [row for row in order.batch(step).tolist() if of_part(row)]
            assert len(rows) == length
            seen += rows
        epoch = whole // length * length
        for start in range(0, len(seen) - epoch + 1, epoch):
            assert len(set(seen[start : start + epoch])) == epoch  # no row twice before all have come


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    manifest = make_manifest(20, 50)
    first, again, other = (build_order(manifest, make_stream(5, 2, seed)) for seed in (3, 3, 4))
    order = [first.batch(step).tolist() for step in range(60)]
    assert [again.batch(step).tolist() for step in reversed(range(60))] == order[::-1]
    assert [other.batch(step).tolist() for step in range(60)] != order


def test_parts_of_one_length_are_not_drawn_alike() -> None:
    """Else the same two rows would meet in every epoch."""
    order = build_order(make_manifest(30, 30), make_stream(2, 1))
    pairs = Counter((int(a), int(b) - 30) for a, b in (sorted(order.batch(step).tolist()) for step in range(90)))
    assert sum(count for (a, b), count in pairs.items() if a == b) < 20
    assert max(pairs.values()) < 3


@pytest.mark.parametrize(("size", "share", "ranks", "parts"), [(16, 10, 8, 1), (12, 3, 2, 3), (8, 6, 4, 1)])
def test_workers_and_accumulation_steps_have_their_share(size: int, share: int, ranks: int, parts: int) -> None:
    manifest = make_manifest(40, 60)
    config = make_stream(size, share, accumulate=parts)
    expected = share / ranks / parts
    together = []
    for rank in range(ranks):
        plan = BatchPlan(manifest, config, rank, ranks)
        for part in range(parts):
            rows = plan.rows(parts * 3 + part)[1]
            together += rows.tolist()
            assert abs((rows < 40).sum() - expected) < 1
    assert sorted(together) == sorted(build_order(manifest, config).batch(3).tolist())


def test_rows_of_each_part_are_augmented_by_its_own_epoch() -> None:
    order = build_order(make_manifest(8, 80), make_stream(4, 2))
    assert isinstance(order, MixedOrder)
    rows, draws = order.batch(9), order.draws(9)  # the third epoch of the labelled, the first of the others
    assert set(draws[rows < 8].tolist()) == {2}
    assert set(draws[rows >= 8].tolist()) == {0}


def test_images_without_objects_are_left_out_of_both_parts() -> None:
    order = build_order(make_manifest(20, 50), make_stream(4, 2, skip_images_without_objects=True))
    assert not {row for step in range(60) for row in order.batch(step).tolist() if row % 5 == 4}


def test_what_cannot_be_mixed_is_told() -> None:
    with pytest.raises(ValueError, match="is of shards in two parts, which a distill job leaves"):
        build_order(make_manifest(20, 50, parts=False), make_stream(4, 2))
    with pytest.raises(ValueError, match="labelled part: its share of a batch is 3, but there are 2 images"):
        build_order(make_manifest(2, 50), make_stream(4, 3))
    with pytest.raises(ValueError, match="part that a model has labelled: its share of a batch is 2, but there are 1"):
        build_order(make_manifest(8, 1), make_stream(4, 2))
    with pytest.raises(ValueError, match=r"labelled_per_batch 4 leaves no image of train\.images_per_batch 4"):
        make_stream(4, 4)


def test_without_a_share_the_parts_are_one() -> None:
    whole, parted = make_manifest(20, 50, parts=False), make_manifest(20, 50)
    orders = [build_order(manifest, make_stream(4, None)) for manifest in (whole, parted)]
    assert all(orders[0].batch(step).tolist() == orders[1].batch(step).tolist() for step in range(40))
