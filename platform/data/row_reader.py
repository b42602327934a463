"""Random access to the rows of shards; without torch, as a task that only reads holds the memory of all it imports."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from maskray.platform.data.manifest import Manifest, ShardInfo
from maskray.platform.data.shards import ROWS_PER_GROUP
from maskray.platform.files.storage import open_folder

OPEN_SHARDS = 64


class RowReader:
    """Random access to the rows of a manifest, for one thread; it can be sent to a task."""

    def __init__(self, manifest: Manifest) -> None:
        self._location = manifest.location
        self._shards = manifest.shards
        self._ends = list(accumulate(shard.num_rows for shard in manifest.shards))
        self._files: dict[int, Any] = {}

    def read(self, index: int) -> dict[str, Any]:
        """The row of a global index, as a dict of its columns; IndexError beyond the end, ValueError if damaged."""
        if not 0 <= index < (self._ends[-1] if self._ends else 0):
            raise IndexError(f"row {index} of {self._ends[-1] if self._ends else 0}")
        shard = bisect_right(self._ends, index)
        row = index - (self._ends[shard] - self._shards[shard].num_rows)
        try:
            group = self._open(shard).read_row_group(row // ROWS_PER_GROUP, use_threads=False)
            return dict(group.slice(row % ROWS_PER_GROUP, 1).to_pylist()[0])
        except (pa.ArrowException, OSError, IndexError) as error:
            name = self._shards[shard].name
            reason = " ".join(str(error).split())
            raise ValueError(f"{self._location}/{name}: row {row} cannot be read: {reason}") from None

    def read_named(self, index: int) -> dict[str, Any]:
        """The row of a global index with the file name of its shard under "shard"."""
        return self.read(index) | {"shard": self.shard_name(index)}

    def shard_name(self, index: int) -> str:
        """File name of the shard that holds a global row index."""
        return self._shards[bisect_right(self._ends, index)].name

    def _open(self, shard: int) -> Any:
        if shard not in self._files:
            if len(self._files) >= OPEN_SHARDS:
                self._files.pop(next(iter(self._files)))
            filesystem, path = open_folder(self._location)
            file = f"{path}/{self._shards[shard].name}"
            footer = _read_footer(self._location, self._shards[shard])
            self._files[shard] = pq.ParquetFile(file, filesystem=filesystem, metadata=footer)
        return self._files[shard]


@lru_cache(maxsize=1024)
def _read_footer(location: str, shard: ShardInfo) -> Any:
    """Footer of a shard, kept from task to task: rows are drawn from all shards, and most of a read is its footer."""
    filesystem, path = open_folder(location)
    return pq.read_metadata(f"{path}/{shard.name}", filesystem=filesystem)


def read_rows(manifest: Manifest, indices: Iterable[int]) -> list[dict[str, Any]]:
    """The rows of global indices, in the given order: image_id, file_name, width, height, image and annotations.

    image is the encoded image (decode_row decodes it), annotations the JSON text of a list of COCO annotations.
    """
    reader = RowReader(manifest)
    return [reader.read(int(index)) for index in indices]
