"""Who gives objects to whom depends on seed, epoch and image id alone."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from maskray.platform.data.manifest import Manifest
from maskray.platform.data.partners import Partners, read_planned, read_samples
from maskray.platform.data.row_reader import RowReader
from maskray.platform.data.shards import REGION, ROWS_PER_GROUP, SCHEMA


def test_partners_are_drawn_by_position() -> None:
    partners = Partners(seed=3, num_rows=10, probability=0.5)
    drawn = [partners.row(epoch, image_id) for epoch in range(20) for image_id in range(-25, 25)]
    assert drawn == [Partners(3, 10, 0.5).row(epoch, image_id) for epoch in range(20) for image_id in range(-25, 25)]
    assert 400 < sum(row is None for row in drawn) < 600
    assert all(20 < sum(row == wanted for row in drawn) < 90 for wanted in range(10))
    assert drawn != [Partners(4, 10, 0.5).row(epoch, image_id) for epoch in range(20) for image_id in range(-25, 25)]
    assert Partners(3, 10, 0.0).row(0, 0) is None
    assert None not in [Partners(3, 10, 1.0).row(0, image_id) for image_id in range(50)]


@pytest.mark.parametrize("probability", [0.0, 0.5])
@pytest.mark.parametrize("schema", [SCHEMA, SCHEMA.append(REGION)], ids=["plain", "with regions"])
def test_planned_rows_are_the_samples_of_their_plans(tmp_path: Path, probability: float, schema: pa.Schema) -> None:
    """Shards of Cityscapes have a column more, at which the reading of training once ended."""
    numbers = range(6)
    columns = {
        "image_id": list(numbers),
        "file_name": [f"{n}.jpg" for n in numbers],
        "width": [8] * 6,
        "height": [9] * 6,
        "image": [bytes([n]) * 5 for n in numbers],
        "annotations": [b"[]"] * 6,
        "ignore_region": [b"{}"] * 6,
    }
    table = pa.table({name: columns[name] for name in schema.names}, schema=schema)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=ROWS_PER_GROUP)
    manifest = Manifest.model_validate(
        {
            "labels": {"categories": [{"id": 1, "name": "a"}]},
            "digest": "d",
            "num_images": 6,
            "num_annotations": 0,
            "shards": [{"name": "a.parquet", "num_rows": 6, "bytes": 1, "sha256": "s"}],
            "image_ids": list(numbers),
            "widths": [8] * 6,
            "heights": [9] * 6,
            "num_objects": [0] * 6,
            "location": str(tmp_path),
        }
    )
    plans = pa.table({"draws": [[0, 0], [1, 1]], "rows": [[3, 1], [5, 3]]})
    partners = Partners(3, 6, probability)
    expected = read_samples(RowReader(manifest), partners, [3, 1, 5, 3], [0, 0, 1, 1])
    found = read_planned(plans, RowReader(manifest), partners).to_pylist()
    assert [row["image"] for row in found] == [bytes([n]) * 5 for n in (3, 1, 5, 3)]
    for one, other in zip(found, expected, strict=True):
        for row in (other, other["partner"] or {}):
            row.pop("ignore_region", None)
        assert one == other
