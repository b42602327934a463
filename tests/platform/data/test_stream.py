"""Streaming: equal to plain reading for every way of decoding, from any step, on any rank; every image once."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import re
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch

from maskray.model.structures import Batch
from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.data.manifest import Manifest
from maskray.platform.data.paused_scheduling import PAUSE_SECONDS, PausedScheduling
from maskray.platform.data.preparation import check_source, prepare
from maskray.platform.data.shards import write_shards
from maskray.platform.data.stream import eval_rows, local_batches, train_batches
from maskray.platform.data.synthetic.dataset import SyntheticPaths
from maskray.platform.data.synthetic.person import KEYPOINTS, SKELETON
from maskray.platform.job.config import JobConfig

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def manifest(drawn: SyntheticPaths, tmp_path_factory: pytest.TempPathFactory, cluster: None) -> Manifest:
    dataset = read_dataset(drawn.annotations, drawn.images)
    return write_shards(dataset, drawn.images, tmp_path_factory.mktemp("stream"), rows_per_shard=6)


def make_job(manifest: Manifest, images_per_batch: int = 4, accumulate_steps: int = 1, **data: Any) -> JobConfig:
    source = {"kind": "shards", "path": manifest.location}
    return JobConfig.model_validate(
        {
            "name": "test",
            "data": {"train": source, "val": source, "shorter_edge_train": [64, 80]} | data,
            "input": {"shorter_edge": 64, "longer_edge_max": 200},
            "train": {"steps": 9, "images_per_batch": images_per_batch, "accumulate_steps": accumulate_steps},
            "resources": {"num_workers": 1},
        }
    )


def assert_equal(left: Batch, right: Batch) -> None:
    for name in ("images", "image_sizes", "image_ids", "original_sizes"):
        assert torch.equal(getattr(left, name), getattr(right, name)), name
    assert left.targets is not None
    assert right.targets is not None
    for name in ("boxes", "classes"):
        assert torch.equal(getattr(left.targets, name), getattr(right.targets, name)), name
    assert left.targets.masks is not None
    assert right.targets.masks is not None
    assert left.targets.masks.size == right.targets.masks.size == left.images.shape[2:]
    for name in left.targets.masks.tensors._fields:
        ours, theirs = (getattr(batch.masks.tensors, name) for batch in (left.targets, right.targets))
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("decode", ["collate", "map"])
@pytest.mark.parametrize(("rank", "num_ranks", "start", "parts"), [(0, 1, 0, 1), (1, 2, 7, 2)])
def test_equal_to_plain_reading(
    manifest: Manifest, decode: str, rank: int, num_ranks: int, start: int, parts: int
) -> None:
    job = make_job(manifest, 4, parts, decode=decode)
    streamed = train_batches(manifest, job.stream, rank, num_ranks, start)
    plain = local_batches(manifest, job.stream, rank, num_ranks, start)
    for left, right in itertools.islice(zip(streamed, plain), 14):  # over the end of an epoch and of the run
        assert_equal(left, right)
        assert len(left.images) == 4 // num_ranks // parts
    streamed.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("decode", ["collate", "map"])
def test_windows_equal_plain_reading(manifest: Manifest, decode: str) -> None:
    job = make_job(manifest, 4, decode=decode, order="windowed", shuffle_window=9)
    streamed = train_batches(manifest, job.stream, 1, 2, 3)
    for left, right in itertools.islice(zip(streamed, local_batches(manifest, job.stream, 1, 2, 3)), 9):
        assert_equal(left, right)
    streamed.close()  # type: ignore[attr-defined]
    one = next(local_batches(manifest, job.stream, 0, 1, 3)).image_ids.tolist()
    two = [next(local_batches(manifest, job.stream, rank, 2, 3)).image_ids.tolist() for rank in range(2)]
    assert one == two[0] + two[1]  # any number of workers


def test_reading_goes_on_after_a_long_pause(manifest: Manifest) -> None:
    """Nothing is taken while a model is evaluated; Ray Data gives up after half an hour, or here after 1 s."""
    job = make_job(manifest, 4)
    context = ray.data.DataContext.get_current().copy()
    context.execution_no_progress_timeout_s = 1
    with ray.data.DataContext.current(context):
        streamed = train_batches(manifest, dataclasses.replace(job.stream, last_step=2000), 0, 1, 0)
        next(streamed)
        time.sleep(6)
        assert len(list(itertools.islice(streamed, 60))) == 60
        streamed.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("decode", ["collate", "map"])
def test_augmented_batches_depend_on_their_position_alone(manifest: Manifest, decode: str) -> None:
    """With everything on, and with objects of images that another task or another rank reads."""
    augmentation = {
        "scale_range": [0.1, 2.0],
        "crop_size": 96,
        "random_crop": 0.5,
        "vertical_flip": 0.5,
        "quarter_turns": True,
        "copy_paste": 0.7,
        "color_jitter": 0.4,
    }
    job = make_job(manifest, 4, 2, decode=decode, shorter_edge_train=[], augmentation=augmentation)
    streamed = train_batches(manifest, job.stream, 1, 2, 3)
    plain = local_batches(manifest, job.stream, 1, 2, 3)
    batches = list(itertools.islice(plain, 14))
    for left, right in zip(streamed, batches):
        assert_equal(left, right)
        assert left.images.shape[2:] == (96, 96)
    streamed.close()  # type: ignore[attr-defined]
    assert_equal(next(local_batches(manifest, job.stream, 1, 2, 6)), batches[6])
    without = make_job(manifest, 4, 2, shorter_edge_train=[], augmentation=augmentation | {"copy_paste": 0.0})
    counts = [
        sum(int((batch.targets.classes >= 0).sum()) for batch in some if batch.targets is not None)
        for some in (batches, itertools.islice(local_batches(manifest, without.stream, 1, 2, 3), 14))
    ]
    assert counts[0] > counts[1]


def test_keypoints_travel_through_shards_and_tasks(drawn: SyntheticPaths, tmp_path: Path) -> None:
    dataset = read_dataset(drawn.keypoints, drawn.images)
    manifest = write_shards(dataset, drawn.images, tmp_path, rows_per_shard=12)
    assert manifest.labels.categories[0].keypoints == KEYPOINTS
    assert manifest.labels.categories[0].skeleton == SKELETON
    job = make_job(manifest, 4, decode="map")
    model = {"backbone": {"features": "c4"}, "keypoints": True}
    inputs = {"shorter_edge": 64, "longer_edge_max": 99, "resize": "bilinear"}
    job = JobConfig.model_validate(job.model_dump() | {"model": model, "input": inputs})
    streamed = train_batches(manifest, job.stream, 0, 1, 0)
    labelled = 0
    for left, right in itertools.islice(zip(streamed, local_batches(manifest, job.stream, 0, 1, 0)), 5):
        assert_equal(left, right)
        assert left.images.dtype == torch.float32
        assert left.images.shape[3] in (85, 99)
        assert left.targets is not None
        assert right.targets is not None
        assert left.targets.keypoints is not None
        assert right.targets.keypoints is not None
        assert torch.equal(left.targets.keypoints, right.targets.keypoints)
        labelled += int((left.targets.keypoints[..., 2] > 0).sum())
    assert labelled > 20
    streamed.close()  # type: ignore[attr-defined]
    instances = read_dataset(drawn.annotations, drawn.images).labels
    with pytest.raises(ValueError, match="no category names keypoints"):
        next(local_batches(manifest.model_copy(update={"labels": instances}), job.stream, 0, 1, 0))


def test_a_step_does_not_depend_on_what_was_before(manifest: Manifest) -> None:
    job = make_job(manifest)
    whole = list(itertools.islice(local_batches(manifest, job.stream, 0, 1, 0), 12))
    for start in (1, 5, 11):
        assert_equal(next(local_batches(manifest, job.stream, 0, 1, start)), whole[start])
    edges = {int(edge) for batch in whole for edge in batch.image_sizes.min(dim=1).values}
    assert edges == {64, 80}  # both are drawn


def test_ranks_and_parts_together_are_the_batch(manifest: Manifest) -> None:
    one = next(local_batches(manifest, make_job(manifest, 8).stream, 0, 1, 3))
    ids = []
    for rank in range(2):
        job = make_job(manifest, 8, accumulate_steps=2)
        for batch in itertools.islice(local_batches(manifest, job.stream, rank, 2, 3), 2):
            ids.extend(batch.image_ids.tolist())
    assert sorted(ids) == sorted(one.image_ids.tolist())


def test_an_epoch_has_every_image_once(manifest: Manifest) -> None:
    batches = itertools.islice(local_batches(manifest, make_job(manifest, 1).stream, 0, 1, 0), 23)
    assert sorted(int(batch.image_ids) for batch in batches) == list(manifest.image_ids)
    rows = [row for rank in range(3) for row in eval_rows(manifest, rank, 3)]
    assert sorted(rows) == list(range(23))


def test_images_without_objects_may_be_skipped(manifest: Manifest) -> None:
    counts = (0, 0, *manifest.num_objects[2:])
    manifest = manifest.model_copy(update={"num_objects": counts})
    with_objects = sum(count > 0 for count in counts)
    assert with_objects == 21
    job = make_job(manifest, 1, skip_images_without_objects=True)
    batches = list(itertools.islice(local_batches(manifest, job.stream, 0, 1, 0), with_objects))
    assert {int(batch.image_ids) for batch in batches} == set(manifest.image_ids[2:])


def test_impossible_divisions(manifest: Manifest) -> None:
    with pytest.raises(ValueError, match="images_per_batch 4 does not divide into 3 workers"):
        next(train_batches(manifest, make_job(manifest).stream, 0, 3, 0))
    with pytest.raises(ValueError, match="images_per_batch is 24, but there are 23 images"):
        next(train_batches(manifest, make_job(manifest, 24).stream, 0, 1, 0))


@pytest.mark.parametrize("decode", ["collate", "map"])
def test_an_unreadable_row_stops_or_is_left_out(manifest: Manifest, tmp_path: Path, decode: str) -> None:
    name = manifest.shards[2].name
    for shard in manifest.shards:
        (tmp_path / shard.name).write_bytes((Path(manifest.location) / shard.name).read_bytes())
    table = pq.read_table(tmp_path / name).to_pylist()
    table[1]["image"] = table[1]["image"][:300]
    buffer = io.BytesIO()
    schema = pq.read_schema(tmp_path / name)
    pq.write_table(pa.Table.from_pylist(table, schema=schema), buffer, row_group_size=1)
    (tmp_path / name).write_bytes(buffer.getvalue())
    broken = manifest.model_copy(update={"location": str(tmp_path)})
    job = make_job(manifest, 4, decode=decode)
    with pytest.raises(ValueError, match=rf"shard {re.escape(name)}: image 14 \(000013.jpg\): .*0 allowed"):
        list(itertools.islice(train_batches(broken, job.stream, 0, 1, 0), 12))
    job = make_job(manifest, 4, decode=decode, max_bad_images=1)
    lengths = [len(batch.images) for batch in itertools.islice(train_batches(broken, job.stream, 0, 1, 0), 5)]
    assert lengths.count(4) + lengths.count(3) == 5
    seen = [
        int(i) for batch in itertools.islice(local_batches(broken, job.stream, 0, 1, 0), 20) for i in batch.image_ids
    ]
    assert 14 not in seen


def test_two_workers_that_hold_a_cpu_each_are_fed(manifest: Manifest) -> None:
    @ray.remote(num_cpus=1)
    def work(rank: int) -> list[int]:
        batches = train_batches(manifest, make_job(manifest, 4, decode="map").stream, rank, 2, 0)
        return [int(i) for batch in itertools.islice(batches, 5) for i in batch.image_ids]

    first, second = ray.get([work.remote(0), work.remote(1)], timeout=600)
    assert len(first) == len(second) == 10
    assert not set(first) & set(second)  # five steps of four are within the first epoch


def test_sources_are_prepared_once(drawn: SyntheticPaths, manifest: Manifest, tmp_path: Path) -> None:
    job = make_job(manifest)
    assert prepare(job.data.train, "train", tmp_path) == manifest
    tree = {
        "train": {"kind": "coco", "annotations": str(drawn.annotations), "images": str(drawn.images)},
        "val": {"kind": "synthetic", "num_images": 4, "seed": 2, "height": 64, "width": 64},
    }
    persons = {"kind": "synthetic", "num_images": 3, "height": 64, "width": 64, "keypoints": True}
    job = JobConfig.model_validate(job.model_dump() | {"data": tree})
    for _ in range(2):
        train = prepare(job.data.train, "train", tmp_path)
        val = prepare(job.data.val, "val", tmp_path)
        assert (train.num_images, val.num_images, train.labels) == (23, 4, val.labels)
        assert train.location == str(tmp_path / "shards/train")
    drawn_persons = JobConfig.model_validate(job.model_dump() | {"data": tree | {"val": persons}}).data.val
    assert prepare(drawn_persons, "val", tmp_path / "persons").labels.names == ("person",)
    check_source(job.data.train, "data.train")
    assert json.loads(drawn.annotations.read_text())["info"]["settings"]["seed"] == 5
    for source in ({"kind": "coco", "annotations": "absent.json", "images": "."}, {"kind": "shards", "path": "absent"}):
        data = JobConfig.model_validate(job.model_dump() | {"data": tree | {"val": source}}).data
        with pytest.raises(ValueError, match=r"data\.val: absent"):
            check_source(data.val, "data.val")


def test_ray_data_rests_while_enough_is_read_ahead(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = 0

    def count(self: PausedScheduling, executor: Any) -> None:
        nonlocal rounds
        rounds += 1
        step(self, executor)

    step = PausedScheduling.on_execution_step
    monkeypatch.setattr(PausedScheduling, "on_execution_step", count)
    start = time.monotonic()
    batches = train_batches(manifest, make_job(manifest).stream, 0, 1, 0)
    next(batches)
    time.sleep(2)  # nothing is taken: what is read ahead fills up, and a loop that does not rest turns and turns
    most = (time.monotonic() - start) / PAUSE_SECONDS + 1  # the longer all this takes, the more it may
    del batches
    assert 0 < rounds <= most
