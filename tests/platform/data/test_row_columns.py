"""The numbers of rows beside a manifest: what is written is read, old manifests are, and damage is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskray.platform.data.manifest import MANIFEST_NAME, Manifest, find_manifest, write_manifest
from maskray.platform.data.row_columns import NUMBERS, ROWS_NAME, Categories

ROW = st.tuples(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(1, 2**31 - 1),
    st.integers(1, 2**31 - 1),
    st.integers(0, 2**31 - 1),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4).map(tuple),
)


def manifest_of(rows: list[tuple[Any, ...]], **changed: Any) -> Manifest:
    columns = dict(zip([*NUMBERS, "categories"], map(list, zip(*rows)), strict=True))
    return Manifest.model_validate(
        {
            "labels": {"categories": [{"id": 1, "name": "a"}]},
            "digest": "d",
            "num_images": len(rows),
            "num_annotations": 0,
            "shards": [{"name": "a", "num_rows": len(rows), "bytes": 1, "sha256": "s"}],
        }
        | columns
        | changed
    )


ROWS = [(7, 640, 480, 2, (1, 9)), (3, 30, 50, 0, ()), (-5, 1, 1, 1, (9,))]


@given(st.lists(ROW, min_size=1, max_size=20), st.booleans())
def test_what_is_written_is_read(folder: Path, rows: list[tuple[Any, ...]], with_categories: bool) -> None:
    manifest = manifest_of(rows, **({} if with_categories else {"categories": None}))
    write_manifest(folder, manifest)
    found = find_manifest(folder)
    assert found is not None
    for name, column in zip(NUMBERS, zip(*rows)):
        assert getattr(found, name).tolist() == list(column)
    if with_categories:
        assert found.categories is not None
        assert list(found.categories) == [row[-1] for row in rows]
        assert [found.categories[index] for index in range(len(rows))] == [row[-1] for row in rows]
    else:
        assert found.categories is None
    assert found.model_copy(update={"rows": None, "location": ""}) == manifest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


def test_numbers_are_mapped_and_not_in_the_json(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest_of(ROWS))
    tree = json.loads((tmp_path / MANIFEST_NAME).read_text())
    assert tree["format"] == 2
    assert tree["rows"]["bytes"] == (tmp_path / ROWS_NAME).stat().st_size
    assert not {*NUMBERS, "categories"} & set(tree)
    before = pa.total_allocated_bytes()
    found = find_manifest(tmp_path)
    assert found is not None
    assert not found.image_ids.flags.owndata
    assert pa.total_allocated_bytes() - before < 1000


def test_manifests_of_earlier_versions_are_read(tmp_path: Path) -> None:
    manifest = manifest_of(ROWS)
    text = manifest.model_dump_json(exclude={"rows"}).replace('"format":2', '"format":1')
    assert json.loads(text)["image_ids"] == [7, 3, -5]
    (tmp_path / MANIFEST_NAME).write_text(text)
    found = find_manifest(tmp_path)
    assert found is not None
    assert found.model_copy(update={"format": 2, "location": ""}) == manifest
    assert found.rows is None


def test_two_manifests_differ_by_a_number() -> None:
    manifest = manifest_of(ROWS)
    assert manifest == manifest_of(ROWS)
    assert manifest != manifest_of([*ROWS[:2], (-5, 1, 1, 2, (9,))])
    assert manifest != manifest_of([*ROWS[:2], (-5, 1, 1, 1, (8,))])
    assert manifest != manifest_of(ROWS, digest="e")


@pytest.mark.parametrize("values", [[1, 2, "3"], [1, 2, 3.5], [1, 2, 2**63], 3, [[1], [2], [3]], {"a": 1}, [1, 2]])
def test_wrong_numbers_in_json_are_one_line(tmp_path: Path, values: Any) -> None:
    tree = json.loads(manifest_of(ROWS).model_dump_json(exclude={"rows"})) | {"format": 1, "widths": values}
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=r"manifest\.json: not a manifest: .*(numbers? |widths)") as error:
        find_manifest(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff", "[" * 100_000])
def test_json_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"manifest\.json: not a manifest: ") as error:
        find_manifest(tmp_path)
    assert "\n" not in str(error.value)


def test_a_file_of_rows_that_is_missing_or_short_is_told(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest_of(ROWS))
    rows = tmp_path / ROWS_NAME
    whole = rows.read_bytes()
    rows.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=rf"rows\.arrow: has {len(whole) - 1} bytes, {len(whole)} were written"):
        find_manifest(tmp_path)
    rows.unlink()
    with pytest.raises(ValueError, match=r"rows\.arrow: is missing"):
        find_manifest(tmp_path)


@given(st.data())
def test_damaged_rows_end_in_numbers_or_one_line(folder: Path, data: st.DataObject) -> None:
    """Bytes that changed are found, or are other numbers: nothing crashes, and nothing is read beyond the file."""
    write_manifest(folder, manifest_of(ROWS))
    whole = bytearray((folder / ROWS_NAME).read_bytes())
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=4)):
        whole[at] = value
    (folder / ROWS_NAME).write_bytes(whole)
    try:
        found = find_manifest(folder)
    except ValueError:
        return
    assert found is not None
    assert [len(getattr(found, name)) for name in NUMBERS] == [3] * 4
    assert found.categories is None or len(list(found.categories)) == 3


def test_other_columns_are_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest_of(ROWS))
    table = pa.table({"image_ids": pa.array(["a", "b", "c"])})
    with pa.OSFile(str(tmp_path / ROWS_NAME), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    tree = json.loads((tmp_path / MANIFEST_NAME).read_text())
    tree["rows"]["bytes"] = (tmp_path / ROWS_NAME).stat().st_size
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=r"rows\.arrow: not the rows of a manifest: columns are .*image_ids: string"):
        find_manifest(tmp_path)


def test_categories_are_lists_of_numbers() -> None:
    assert Categories([(1, 2), ()])[:1] == [(1, 2)]
    with pytest.raises(ValueError, match="categories: "):
        Categories([("a",)])
    with pytest.raises(ValueError, match="categories: "):
        Categories([(2**63,)])
    assert np.array_equal(manifest_of(ROWS).image_ids, [7, 3, -5])
