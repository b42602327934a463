"""Which image gives objects to which in copy-paste; without torch, as tasks that only read must know it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from maskray.platform.data.row_reader import RowReader
from maskray.platform.data.shards import SCHEMA

PARTNER = 50  # number of the draw, beside those of augmentation.py
_NAMED = [*SCHEMA, pa.field("shard", pa.string())]
_PARTNER, _DRAW = pa.field("partner", pa.struct(_NAMED)), pa.field("draw", pa.int64())


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
    plans = table.to_pylist()
    reader.hold(row for entry in plans for row in entry["rows"])
    if partners.probability == 0:
        return _read_alone(plans, reader)
    schema = pa.schema([*_NAMED, _PARTNER, _DRAW])
    rows = [content for entry in plans for content in read_samples(reader, partners, entry["rows"], entry["draws"])]
    return pa.Table.from_pylist(rows, schema=schema)


def _read_alone(plans: Sequence[Mapping[str, Any]], reader: RowReader) -> Any:
    """The same of rows without partners, whose images stay where Arrow has read them."""
    rows = [row for entry in plans for row in entry["rows"]]
    # Of shards with more columns training takes no more than of others.
    found = pa.concat_tables([reader.read_table(row).select(SCHEMA.names).cast(SCHEMA) for row in rows])
    found = found.append_column(_NAMED[-1], pa.array([reader.shard_name(row) for row in rows], _NAMED[-1].type))
    found = found.append_column(_PARTNER, pa.nulls(len(rows), _PARTNER.type))
    return found.append_column(_DRAW, pa.array([draw for entry in plans for draw in entry["draws"]], _DRAW.type))
