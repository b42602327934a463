"""Rows read together from a store by HTTP: the same rows, few requests, and damage told when it is asked for."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.data.manifest import Manifest, read_manifest
from maskray.platform.data.row_reader import RowReader
from maskray.platform.data.shards import write_shards
from maskray.platform.data.synthetic.dataset import SyntheticPaths

pytestmark = pytest.mark.usefixtures("cluster")


def load_store() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "slow_store.py"
    spec = importlib.util.spec_from_file_location("slow_store", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(drawn: SyntheticPaths, tmp_path_factory: pytest.TempPathFactory, cluster: None) -> Manifest:
    folder = tmp_path_factory.mktemp("store") / "bucket" / "shards"
    return write_shards(read_dataset(drawn.annotations, drawn.images), drawn.images, folder, rows_per_shard=6)


@pytest.fixture
def store(written: Manifest) -> Iterator[tuple[Manifest, Counter[str]]]:
    """The manifest as a store gives it, and what the store counts."""
    module = load_store()
    with module.slow_store(Path(written.location).parents[1], 0.0) as (address, counts):
        yield read_manifest(module.store_uri(address, "bucket/shards")), counts


def test_rows_read_together_are_those_read_alone(written: Manifest, store: tuple[Manifest, Counter[str]]) -> None:
    manifest, counts = store
    reader, plain = RowReader(manifest), RowReader(written)
    asked = [3, 22, 7, 0, 22, 5, 12, 4]
    reader.hold(asked)
    counts.clear()
    for row in asked:
        assert reader.read_named(row) == plain.read_named(row)
    assert counts["requests"] == 0
    assert reader.read(13) == plain.read(13)  # one that is not held
    reader.hold(range(6))
    counts.clear()
    assert [reader.read(row) for row in range(6)] == [plain.read(row) for row in range(6)]
    assert counts["requests"] == 0
    assert reader.read(22) == plain.read(22)  # no longer held
    assert counts["requests"] > 0


def test_a_shard_of_rows_takes_one_request(store: tuple[Manifest, Counter[str]]) -> None:
    manifest, counts = store
    reader = RowReader(manifest)
    reader.hold([6])  # its footer is kept from now on
    counts.clear()
    reader.hold(range(6, 12))
    assert counts["requests"] <= 2  # how large the file is, and the rows
    with pytest.raises(IndexError, match="row 23 of 23"):
        reader.hold([23])


def test_damage_is_told_of_the_row_that_is_asked_for(written: Manifest, store: tuple[Manifest, Counter[str]]) -> None:
    manifest, _ = store
    part = Path(written.location) / written.shards[1].name
    whole = part.read_bytes()
    try:
        part.write_bytes(b"PAR1" + bytes(len(whole) - 8) + whole[-4:])
        reader = RowReader(manifest.model_copy(update={"digest": "other"}))
        reader.hold([1, 8])
        assert reader.read(1)["image_id"] == 2
        with pytest.raises(ValueError, match=f"{part.name}: row 2 cannot be read"):
            reader.read(8)
    finally:
        part.write_bytes(whole)
