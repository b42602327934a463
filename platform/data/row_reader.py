"""Random access to the rows of shards; without torch, as a task that only reads holds the memory of all it imports."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from maskray.platform.data.manifest import Manifest, ShardInfo
from maskray.platform.data.shards import ROWS_PER_GROUP
from maskray.platform.files.storage import open_folder

OPEN_SHARDS = 64
REQUESTS_AT_A_TIME = 8


class RowReader:
    """Random access to the rows of a manifest, for one thread; it can be sent to a task."""

    def __init__(self, manifest: Manifest) -> None:
        self._location = manifest.location
        self._shards = manifest.shards
        self._ends = list(accumulate(shard.num_rows for shard in manifest.shards))
        self._files: dict[int, Any] = {}
        self._held: dict[int, Any] = {}

    def read(self, index: int) -> dict[str, Any]:
        """The row of a global index, as a dict of its columns; IndexError beyond the end, ValueError if damaged."""
        return dict(self.read_table(index).to_pylist()[0])

    def read_table(self, index: int) -> Any:
        """The row of a global index as an Arrow table of one row: its image is not copied. Errors as of read."""
        if index in self._held:
            return self._held[index]
        shard, row = self._place(index)
        try:
            group = self._open(shard).read_row_group(row // ROWS_PER_GROUP, use_threads=False)
            if group.num_rows <= row % ROWS_PER_GROUP:
                raise IndexError("its row group is shorter")
            return group.slice(row % ROWS_PER_GROUP, 1)
        except (pa.ArrowException, OSError, IndexError) as error:
            name = self._shards[shard].name
            reason = " ".join(str(error).split())
            raise ValueError(f"{self._location}/{name}: row {row} cannot be read: {reason}") from None

    def hold(self, indices: Iterable[int]) -> None:
        """Read rows of global indices ahead where a request is slow, those of a shard together, for read to find them.

        Those held before are let go. What cannot be read is told when it is asked for.
        """
        self._held = {}
        if isinstance(open_folder(self._location)[0], LocalFileSystem):
            return
        by_shard: dict[int, list[int]] = {}
        for index in sorted(set(indices)):
            by_shard.setdefault(self._place(index)[0], []).append(index)
        with ThreadPoolExecutor(REQUESTS_AT_A_TIME, thread_name_prefix="maskray-read") as pool:
            for found in pool.map(self._read_together, by_shard.values()):
                self._held |= found

    def _read_together(self, indices: list[int]) -> dict[int, Any]:
        """Tables of rows of one shard, by rising index; none where something of them cannot be read."""
        shard = self._place(indices[0])[0]
        rows = [self._place(index)[1] for index in indices]
        groups = sorted({row // ROWS_PER_GROUP for row in rows})
        try:
            table = _open_shard(self._location, self._shards[shard]).read_row_groups(groups, use_threads=False)
        except (pa.ArrowException, OSError, IndexError):
            return {}
        places = {group: number * ROWS_PER_GROUP for number, group in enumerate(groups)}
        starts = [places[row // ROWS_PER_GROUP] + row % ROWS_PER_GROUP for row in rows]
        return {index: table.slice(start, 1) for index, start in zip(indices, starts) if start < table.num_rows}

    def _place(self, index: int) -> tuple[int, int]:
        """Shard and row in it of a global index."""
        if not 0 <= index < (self._ends[-1] if self._ends else 0):
            raise IndexError(f"row {index} of {self._ends[-1] if self._ends else 0}")
        shard = bisect_right(self._ends, index)
        return shard, index - (self._ends[shard] - self._shards[shard].num_rows)

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
            self._files[shard] = _open_shard(self._location, self._shards[shard])
        return self._files[shard]


def _open_shard(location: str, shard: ShardInfo) -> Any:
    """A shard, of which what lies together is read by one request where requests are slow."""
    filesystem, path = open_folder(location)
    is_local = isinstance(filesystem, LocalFileSystem)
    footer = _read_footer(location, shard)
    return pq.ParquetFile(f"{path}/{shard.name}", filesystem=filesystem, metadata=footer, pre_buffer=not is_local)


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


def region_of(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The RLE of the pixels of a row that do not count; None where every pixel does."""
    text = row.get("ignore_region")
    return None if text is None else json.loads(text)


def read_file_names(manifest: Manifest) -> dict[int, str]:
    """File names by image id, without the images; ValueError naming a shard that cannot be read."""
    filesystem, path = open_folder(manifest.location)
    names: dict[int, str] = {}
    for shard in manifest.shards:
        try:
            table = pq.read_table(f"{path}/{shard.name}", columns=["image_id", "file_name"], filesystem=filesystem)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{manifest.location}/{shard.name}: cannot be read: {' '.join(str(error).split())}"
            ) from None
        names |= dict(zip(table["image_id"].to_pylist(), table["file_name"].to_pylist()))
    return names
