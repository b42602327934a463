"""Which image gives objects to which in copy-paste; without torch, as tasks that only read must know it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from maskray.platform.data.row_reader import RowReader
from maskray.platform.data.shards import SCHEMA

PARTNER = 50  # number of the draw, beside those of augmentation.py


@dataclass(frozen=True)
class Partners:
    """A pure function of (seed, epoch, image id) to a row of the manifest."""

    seed: int
    num_rows: int
    probability: float

    def row(self, epoch: int, image_id: int) -> int | None:
        """Row of the image whose objects are pasted, uniformly one of all; None where nothing is pasted."""
        if self.probability == 0:
            return None
        generator = np.random.default_rng([self.seed, epoch, image_id & (2**64 - 1), PARTNER])
        pasted = generator.random() < self.probability
        return int(generator.integers(self.num_rows)) if pasted else None


def read_samples(
    reader: RowReader, partners: Partners, rows: Iterable[int], draws: Iterable[int]
) -> list[dict[str, Any]]:
    """Rows of global indices, as read_named has them, with their draw and the one to paste from under "partner"."""
    read = []
    for row, draw in zip(rows, draws):
        content = reader.read_named(int(row))
        partner = partners.row(int(draw), int(content["image_id"]))
        other = None if partner is None else reader.read_named(partner)
        read.append(content | {"partner": other, "draw": int(draw)})
    return read


def read_planned(table: Any, reader: RowReader, partners: Partners) -> Any:
    """Plans of micro-batches (columns draws and rows) to a table of their rows with encoded images; runs as a task."""
    named = [*SCHEMA, pa.field("shard", pa.string())]
    schema = pa.schema([*named, pa.field("partner", pa.struct(named)), pa.field("draw", pa.int64())])
    rows = [
        content
        for entry in table.to_pylist()
        for content in read_samples(reader, partners, entry["rows"], entry["draws"])
    ]
    return pa.Table.from_pylist(rows, schema=schema)
