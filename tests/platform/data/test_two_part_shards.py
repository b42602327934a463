"""Shards in two parts: the first as they were, the second with a model's labels, ids and order of the rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.data.formats.records import Annotation, CocoDataset, ImageRecord
from maskray.platform.data.manifest import Manifest
from maskray.platform.data.row_reader import read_rows
from maskray.platform.data.shards import write_shards
from maskray.platform.data.synthetic.dataset import SyntheticPaths
from maskray.platform.data.two_part_shards import Labelled, write_two_parts

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def parts(drawn: SyntheticPaths, tmp_path_factory: pytest.TempPathFactory, cluster: None) -> tuple[Manifest, Manifest]:
    """Nine images with labels, and all 23 without, in shards of four."""
    folder = tmp_path_factory.mktemp("parts")
    whole = read_dataset(drawn.annotations, drawn.images)
    bare = [ImageRecord(one.image_id, one.file_name, one.width, one.height) for one in whole.images]
    people = CocoDataset(whole.labels, whole.images[:9], "people")
    unlabelled = CocoDataset(whole.labels, bare, "unlabelled")
    return (
        write_shards(people, drawn.images, folder / "people", rows_per_shard=4),
        write_shards(unlabelled, drawn.images, folder / "unlabelled", rows_per_shard=4),
    )


def label(manifest: Manifest, row: int) -> ImageRecord:
    image_id = int(manifest.image_ids[row])
    box = Annotation(image_id, manifest.labels.category_ids[row % 2], (1.0, 2.0, 3.0 + row, 4.0), 12.0)
    return ImageRecord(image_id, f"{image_id}", int(manifest.widths[row]), int(manifest.heights[row]), [box])


def test_both_parts_come_in_order_with_ids_of_their_own(parts: tuple[Manifest, Manifest], tmp_path: Path) -> None:
    people, unlabelled = parts
    kept = [21, 0, 5, 4, 6, 13]  # in any order; of some shards nothing
    both = write_two_parts(people, unlabelled, Labelled([label(unlabelled, row) for row in kept], "d"), tmp_path / "x")
    assert (both.num_images, both.num_labelled) == (9 + 6, 9)
    rows = read_rows(both, range(15))
    assert [row["image"] for row in rows[:9]] == [row["image"] for row in read_rows(people, range(9))]
    assert [row["annotations"] for row in rows[:9]] == [row["annotations"] for row in read_rows(people, range(9))]
    largest = int(people.image_ids.max())
    for row, source in zip(rows[9:], sorted(kept), strict=True):
        (original,) = read_rows(unlabelled, [source])
        assert (row["image"], row["file_name"]) == (original["image"], original["file_name"])
        assert row["image_id"] == largest + 1 + source
        (annotation,) = json.loads(row["annotations"])
        assert (annotation["image_id"], annotation["bbox"][2]) == (row["image_id"], 3.0 + source)
    assert both.image_ids.tolist() == [row["image_id"] for row in rows]
    assert both.num_objects.tolist()[9:] == [1] * 6
    assert both.num_annotations == people.num_annotations + 6
    again = write_two_parts(people, unlabelled, Labelled([label(unlabelled, row) for row in kept], "d"), tmp_path / "x")
    assert again == both
    with pytest.raises(ValueError, match="holds shards of other data"):
        write_two_parts(people, unlabelled, Labelled([label(unlabelled, 0)], "other"), tmp_path / "x")
