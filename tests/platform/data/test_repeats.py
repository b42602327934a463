"""Repeat factors by hand from the paper's formula, the length of epochs, averages over them, and old manifests."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.data.manifest import MANIFEST_NAME, Manifest, read_manifest, write_manifest
from maskray.platform.data.order import EpochOrder, count_earlier
from maskray.platform.data.repeats import (
    categories_of,
    epoch_length,
    epoch_repeats,
    image_categories,
    repeat_factors,
)
from maskray.platform.data.shards import SCHEMA, _describe, _pack_records, _write_part
from maskray.platform.data.synthetic.dataset import SyntheticPaths

FACTORS = st.lists(st.floats(1, 30), min_size=1, max_size=60).map(np.array)


def test_factors_by_hand() -> None:
    """Of ten images eight have category 1, two have 2 and one has 3; the threshold is 0.4.

    r(1) = max(1, sqrt(0.4 / 0.8)) = 1, r(2) = sqrt(0.4 / 0.2) = sqrt 2, r(3) = sqrt(0.4 / 0.1) = 2; an image has the
    largest of its categories.
    """
    images = [(1,)] * 6 + [(1, 2), (1, 2, 3), (), ()]
    found = repeat_factors(images, 0.4)
    assert found.tolist() == pytest.approx([1] * 6 + [math.sqrt(2), 2, 1, 1])
    assert epoch_length(found) == 11  # 8 + 1.414 + 2, rounded down


def test_a_category_that_stands_twice_in_an_image_counts_once() -> None:
    assert repeat_factors([(1, 1), (2,)], 1.0).tolist() == pytest.approx([math.sqrt(2)] * 2)


@given(st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=40))
def test_a_threshold_below_every_share_repeats_nothing(images: list[set[int]]) -> None:
    assert repeat_factors(images, 1 / (2 * len(images))).tolist() == [1.0] * len(images)


@given(FACTORS, st.integers(0, 2**32), st.integers(0, 5))
def test_every_image_comes_as_often_as_its_factor_rounded_and_epochs_are_equally_long(
    factors: np.ndarray, seed: int, epoch: int
) -> None:
    rows = epoch_repeats(factors, seed, epoch)
    assert len(rows) == epoch_length(factors) >= len(factors)
    counts = np.bincount(rows, minlength=len(factors))
    short = np.floor(factors) - counts
    assert (counts <= np.ceil(factors + 1e-9)).all()
    assert short.max() <= 1  # one image may lose one of its places to the equal length
    assert (short > 0).sum() <= 1
    np.testing.assert_array_equal(rows, epoch_repeats(factors, seed, epoch))


@settings(max_examples=5)
@given(st.integers(0, 2**32))
def test_over_epochs_an_image_comes_as_often_as_its_factor(seed: int) -> None:
    factors = np.array([1.0, 1.25, 1.5, 2.0, 3.25, 1.0])
    counts = sum(np.bincount(epoch_repeats(factors, seed, epoch), minlength=6) for epoch in range(400)) / 400
    np.testing.assert_allclose(counts, factors, atol=0.1)


def test_no_image_left_out_where_all_factors_are_whole() -> None:
    rows = epoch_repeats(np.array([1.0, 2.0, 1.0, 3.0]), 0, 7)
    assert sorted(rows.tolist()) == [0, 1, 1, 2, 3, 3, 3]


def manifest_of(categories: list[tuple[int, ...]]) -> Manifest:
    number = len(categories)
    return Manifest.model_validate(
        {
            "labels": {"categories": [{"id": 1, "name": "common"}, {"id": 2, "name": "rare"}]},
            "digest": "d",
            "num_images": number,
            "num_annotations": number,
            "shards": [{"name": "a", "num_rows": number, "bytes": 1, "sha256": "s"}],
            "image_ids": list(range(number)),
            "widths": [20 if row % 3 else 10 for row in range(number)],
            "heights": [15] * number,
            "num_objects": [len(of_image) for of_image in categories],
            "categories": categories,
        }
    )


@pytest.mark.parametrize("by_aspect_ratio", [True, False])
@pytest.mark.parametrize("only_with_objects", [True, False])
def test_an_order_with_repeats_is_a_function_of_the_step(by_aspect_ratio: bool, only_with_objects: bool) -> None:
    """20 images, two with a rare category: sqrt(0.4 / 0.1) = 2 each; an epoch has 22, or 20 without two empty ones."""
    manifest = manifest_of([(1,)] * 16 + [(1, 2), (2,), (), ()])
    threshold = 0.4 if not only_with_objects else 0.4 * 20 / 18

    def order() -> EpochOrder:
        return EpochOrder(manifest, 3, 4, by_aspect_ratio, only_with_objects, threshold)

    whole = order()
    assert whole.batches_per_epoch == 5
    assert (whole.position(4).epoch, whole.position(5).epoch, whole.position(5).batch) == (0, 1, 0)
    batches = [whole.batch(step) for step in range(200)]
    for step in (7, 199, 0):
        np.testing.assert_array_equal(order().batch(step), batches[step])
    assert all(batch.shape == (4,) for batch in batches)
    share = np.bincount(np.concatenate(batches), minlength=20) / 40  # of 40 epochs
    assert share[16:18] == pytest.approx([2, 2], abs=0.4)
    assert share[:16] == pytest.approx([1] * 16, abs=0.4)
    assert share[18:].sum() == pytest.approx(0 if only_with_objects else 2, abs=0.4)


def test_a_threshold_that_repeats_nothing_changes_no_batch() -> None:
    manifest = manifest_of([(1,)] * 10)
    plain, order = (EpochOrder(manifest, 3, 2, False, False, threshold) for threshold in (0.0, 0.5))
    for step in range(12):
        np.testing.assert_array_equal(order.batch(step), plain.batch(step))


def test_categories_leave_out_crowds() -> None:
    annotations = [{"category_id": c, "iscrowd": crowd} for c, crowd in ((5, 0), (2, 0), (5, 0), (7, 1))]
    assert categories_of(annotations) == (2, 5)


def test_shards_of_an_older_version_are_read_for_their_categories(drawn: SyntheticPaths, tmp_path: Path) -> None:
    dataset = read_dataset(drawn.annotations, drawn.images)
    parts = [
        _write_part(
            {"index": index, "total": 2, "records": _pack_records(records)}, str(drawn.images), str(tmp_path), SCHEMA
        )
        for index, records in enumerate((dataset.images[:15], dataset.images[15:]))
    ]
    write_manifest(tmp_path, _describe(dataset, parts, []))
    manifest = read_manifest(tmp_path)
    expected = [
        tuple(sorted({a.category_id for a in record.annotations if not a.iscrowd})) for record in dataset.images
    ]
    assert list(image_categories(manifest)) == expected
    assert any(len(of_image) > 1 for of_image in expected)

    tree = json.loads(manifest.model_dump_json(exclude={"categories", "rows"})) | {"format": 1}
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(tree))
    older = read_manifest(tmp_path)
    assert older.categories is None
    assert list(image_categories(older)) == expected
    shard = tmp_path / older.shards[1].name
    shard.write_bytes(b"x" * shard.stat().st_size)
    with pytest.raises(ValueError, match=f"{shard.name}: annotations cannot be read: "):
        image_categories(older)
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(tree | {"categories": [[1]]}))
    with pytest.raises(ValueError, match="categories count 1 rows, num_images is 23"):
        read_manifest(tmp_path)


@given(st.lists(st.integers(0, 5), max_size=30))
def test_earlier_ones_are_counted(values: list[int]) -> None:
    found = count_earlier(np.array(values, dtype=np.int64))
    assert found.tolist() == [values[:index].count(value) for index, value in enumerate(values)]


def test_a_row_that_comes_again_is_augmented_by_another_number() -> None:
    manifest = manifest_of([(1,), (2,), (2,), (2,)])
    plain, order = (EpochOrder(manifest, 3, 2, False, False, threshold) for threshold in (0.0, 1.0))
    assert all((plain.draws(step) == plain.position(step).epoch).all() for step in range(12))
    for epoch in range(3):
        steps = [epoch * order.batches_per_epoch + batch for batch in range(order.batches_per_epoch)]
        pairs = [pair for step in steps for pair in zip(order.batch(step).tolist(), order.draws(step).tolist())]
        assert len(set(pairs)) == len(pairs)
        assert len({row for row, _ in pairs}) < len(pairs), "a row comes again"
        assert all(draw & 0xFFFFFFFF == epoch for _, draw in pairs)
        assert {row for row, draw in pairs if draw == epoch} == {row for row, _ in pairs}
