"""Pictures that are in two data sets: found by bytes or by name, in files and in shards, and none of one size alone."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from maskray.model.config import Category, LabelMap
from maskray.platform.data.manifest import Manifest, ShardInfo, write_manifest
from maskray.platform.data.same_pictures import (
    find_same,
    list_names,
    pictures_known_early,
    pictures_of_files,
    pictures_of_shards,
)
from maskray.platform.job.data_config import ImagesSource, ShardSource, SyntheticSource


def write(folder: Path, **files: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = folder / f"{name.replace('__', '/')}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return folder


def named(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg"))


@pytest.mark.parametrize(("by_name", "expected"), [(True, ["c.jpg", "deep/NAME.jpg"]), (False, ["c.jpg"])])
def test_by_bytes_and_by_name(tmp_path: Path, by_name: bool, expected: list[str]) -> None:
    ours = write(tmp_path / "a", a=b"first", c=b"again", deep__NAME=b"other")
    theirs = write(tmp_path / "b", x=b"forst", y=b"again", name=b"bytes of its own")
    pictures, others = (pictures_of_files(named(folder), folder) for folder in (ours, theirs))
    assert [pictures[index].name for index in find_same(pictures, others, by_name)] == expected


def test_files_that_are_missing_are_like_no_other(tmp_path: Path) -> None:
    ours, theirs = (pictures_of_files(["gone.jpg", "a\0b"], tmp_path / name) for name in ("a", "b"))
    assert find_same(ours, theirs, by_name=False) == []


def test_pictures_of_shards_are_compared_by_their_bytes(tmp_path: Path) -> None:
    folder = write(tmp_path / "files", a=b"first", b=b"second")
    rows = {"file_name": ["1.jpg", "2.jpg"], "image": [b"second", b"third!"]}
    pq.write_table(pa.table(rows), tmp_path / "part.parquet")
    shard = ShardInfo(name="part.parquet", num_rows=2, bytes=(tmp_path / "part.parquet").stat().st_size, sha256="")
    labels = LabelMap(categories=(Category(id=1, name="a"),))
    numbers = {name: [1, 2] for name in ("image_ids", "widths", "heights", "num_objects")}
    manifest = Manifest(labels=labels, digest="d", num_images=2, num_annotations=0, shards=(shard,), **numbers)
    write_manifest(tmp_path, manifest)
    of_shards = pictures_of_shards(manifest.model_copy(update={"location": str(tmp_path)}))
    files = pictures_of_files(named(folder), folder)
    assert find_same(files, of_shards, by_name=False) == [1]
    assert find_same(of_shards, files, by_name=False) == [0]
    early = pictures_known_early(ShardSource(path=str(tmp_path)), 10_000_000)
    assert early == of_shards
    assert pictures_known_early(ShardSource(path=str(tmp_path)), 10) is None


def test_what_is_known_before_anything_is_read(tmp_path: Path) -> None:
    write(tmp_path / "files", a=b"first")
    (found,) = pictures_known_early(ImagesSource(path=str(tmp_path / "files"))) or ()
    assert (found.name, found.size) == ("a.jpg", 5)
    assert pictures_known_early(ImagesSource(path=str(tmp_path / "nowhere"))) is None
    assert pictures_known_early(SyntheticSource(num_images=9)) == []


def test_a_list_of_names_ends() -> None:
    assert list_names([f"{number}.jpg" for number in range(13)]).endswith("8.jpg, 9.jpg and 3 more")
    assert list_names(["a.jpg"]) == "a.jpg"
