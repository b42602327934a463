"""Shards: everything that went in comes out, twice written is once written, damage is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.data.manifest import Manifest, find_manifest, read_manifest
from maskray.platform.data.row_reader import RowReader, read_rows
from maskray.platform.data.shards import write_shards
from maskray.platform.data.synthetic.dataset import SyntheticPaths

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def written(drawn: SyntheticPaths, tmp_path_factory: pytest.TempPathFactory, cluster: None) -> Manifest:
    dataset = read_dataset(drawn.annotations, drawn.images)
    return write_shards(dataset, drawn.images, tmp_path_factory.mktemp("shards"), rows_per_shard=8)


def test_rows_are_what_was_written(drawn: SyntheticPaths, written: Manifest) -> None:
    dataset = read_dataset(drawn.annotations, drawn.images)
    assert [shard.num_rows for shard in written.shards] == [8, 8, 7]
    assert (written.num_images, written.num_annotations) == (23, dataset.num_annotations)
    assert (written.digest, written.labels, written.bad_images) == (dataset.digest, dataset.labels, ())
    order = [22, 0, 7, 8, 7]
    for index, row in zip(order, read_rows(written, order)):
        record = dataset.images[index]
        assert (row["image_id"], row["file_name"]) == (record.image_id, record.file_name)
        assert (row["width"], row["height"]) == (record.width, record.height) == (128, 96)
        assert row["image"] == (drawn.images / record.file_name).read_bytes()
        annotations = json.loads(row["annotations"])
        assert [a["id"] for a in annotations] == [a.id for a in record.annotations]
        assert [a["segmentation"] for a in annotations] == [a.segmentation for a in record.annotations]
        assert written.image_ids[index] == record.image_id
        assert written.num_objects[index] == sum(not a.iscrowd for a in record.annotations)
    with pytest.raises(IndexError, match="row 23 of 23"):
        RowReader(written).read(23)


def test_a_second_run_does_nothing_and_other_data_are_refused(drawn: SyntheticPaths, written: Manifest) -> None:
    dataset = read_dataset(drawn.annotations, drawn.images)
    file = Path(written.location) / "manifest.json"
    before = file.stat().st_mtime_ns
    assert write_shards(dataset, drawn.images, written.location, rows_per_shard=8) == written
    assert file.stat().st_mtime_ns == before
    dataset.digest = "0" * 64
    with pytest.raises(ValueError, match="holds shards of other data"):
        write_shards(dataset, drawn.images, written.location, rows_per_shard=8)


def test_a_uri_holds_the_same_bytes(drawn: SyntheticPaths, written: Manifest, tmp_path: Path) -> None:
    dataset = read_dataset(drawn.annotations, drawn.images)
    manifest = write_shards(dataset, drawn.images, f"file://{tmp_path}/shards", rows_per_shard=8)
    assert manifest.data_digest == written.data_digest
    assert read_rows(manifest, [3]) == read_rows(written, [3])
    assert read_manifest(f"{tmp_path}/shards/manifest.json").num_images == 23
    with pytest.raises(ValueError, match="no file system for this URI"):
        read_manifest("nonsense://x/y")


def test_interrupted_and_broken_writes(drawn: SyntheticPaths, written: Manifest, tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(drawn.images, images)
    last = images / "000022.jpg"
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    (images / "000010.jpg").unlink()
    dataset = read_dataset(drawn.annotations, images)
    with pytest.raises(ValueError, match="unreadable images, 0 allowed: image"):
        write_shards(dataset, images, out, rows_per_shard=8)
    assert find_manifest(out) is None
    with pytest.raises(ValueError, match=r"no manifest\.json: not a folder of shards, or writing it was interrupted"):
        read_manifest(out)
    with pytest.raises(ValueError, match=r"2 unreadable images, 1 allowed: .*000010\.jpg.*missing"):
        write_shards(dataset, images, out, rows_per_shard=8, max_bad_images=1)
    skipped = write_shards(dataset, images, tmp_path / "skipped", rows_per_shard=8, max_bad_images=2)
    assert [(bad.image_id, bad.file_name) for bad in skipped.bad_images] == [(11, "000010.jpg"), (23, "000022.jpg")]
    assert skipped.num_images == 21
    assert 11 not in skipped.image_ids
    # the images are mended; a part that a killed run left half written is replaced
    last.write_bytes(whole)
    shutil.copy(drawn.images / "000010.jpg", images)
    part = next(out.glob("part-*"))
    part.write_bytes(part.read_bytes()[:100])
    mended = write_shards(read_dataset(drawn.annotations, images), images, out, rows_per_shard=8)
    assert mended.data_digest == written.data_digest


def test_damaged_shards_are_named(written: Manifest, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(written.location, folder)
    manifest = read_manifest(folder)
    part = folder / manifest.shards[1].name
    whole = part.read_bytes()
    part.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=f"shard {part.name} has {len(whole) - 10} bytes, {len(whole)} were written"):
        read_manifest(folder)
    part.write_bytes(b"x" * len(whole))
    with pytest.raises(ValueError, match=f"{part.name}: row 0 cannot be read"):
        read_rows(manifest, [8])
    part.unlink()
    with pytest.raises(ValueError, match=f"shard {part.name} is missing"):
        read_manifest(folder)
    (folder / "manifest.json").write_text('{"format": 1}')
    with pytest.raises(ValueError, match=r"manifest.json: not a manifest: labels Field required"):
        read_manifest(folder)
