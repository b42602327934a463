"""A few numbers of every row, as a manifest has them: columns in an Arrow file beside it, mapped into memory, not read.

Without torch and Ray, as a manifest is. The file is one record batch, uncompressed, so that every column is one piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.fs import LocalFileSystem
from pydantic import PlainSerializer, PlainValidator

ROWS_NAME = "rows.arrow"
NUMBERS = ("image_ids", "widths", "heights", "num_objects")
_SCHEMA = pa.schema(
    [
        pa.field("image_ids", pa.int64(), nullable=False),
        pa.field("widths", pa.int32(), nullable=False),
        pa.field("heights", pa.int32(), nullable=False),
        pa.field("num_objects", pa.int32(), nullable=False),
        pa.field("categories", pa.list_(pa.field("item", pa.int64(), nullable=False))),
    ]
)


def _to_numbers(values: Any) -> NDArray[np.int64]:
    """Whole numbers (N,), as they are where they are an array."""
    if not isinstance(values, np.ndarray):
        if not isinstance(values, (list, tuple)) or not all(isinstance(value, int) for value in values):
            raise ValueError("whole numbers are needed")
        try:
            values = np.array(values, dtype=np.int64)
        except OverflowError:
            raise ValueError("a number has more than 64 bits") from None
    if values.ndim != 1 or values.dtype.kind != "i":
        raise ValueError("whole numbers are needed")
    return values


class Categories(Sequence[tuple[int, ...]]):
    """Distinct ids of the categories in each row, kept as one list of lists."""

    def __init__(self, lists: Any) -> None:
        """lists: an Arrow list array, or tuples; ValueError where it is damaged or has something else in it."""
        kind = _SCHEMA.field("categories").type
        try:
            self.lists = lists if isinstance(lists, pa.ListArray) else pa.array(list(lists), kind)
            self.lists.validate(full=True)
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise ValueError(f"categories: {' '.join(str(error).split())}") from None

    def __len__(self) -> int:
        return len(self.lists)

    @overload
    def __getitem__(self, index: int) -> tuple[int, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[int, ...]]: ...
    def __getitem__(self, index: int | slice) -> tuple[int, ...] | Sequence[tuple[int, ...]]:
        """The ids of a row."""
        if isinstance(index, slice):
            return Categories(self.lists[index])
        return tuple(self.lists[int(index)].as_py())

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return (
            tuple(ids) for start in range(0, len(self), 4096) for ids in self.lists[start : start + 4096].to_pylist()
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Sequence) and len(self) == len(other) and all(a == tuple(b) for a, b in zip(self, other))
        )

    __hash__ = None  # type: ignore[assignment]  # as a list has none


Numbers = Annotated[
    NDArray[np.int64], PlainValidator(_to_numbers), PlainSerializer(lambda values: values.tolist(), list[int])
]
RowCategories = Annotated[
    Categories,
    PlainValidator(lambda values: values if isinstance(values, Categories) else Categories(values)),
    PlainSerializer(list, list[tuple[int, ...]]),
]


def encode_columns(columns: dict[str, NDArray[np.int64]], categories: Categories | None) -> Any:
    """The columns of all rows as an Arrow file, a buffer."""
    fields = [_SCHEMA.field(name) for name in NUMBERS]
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in fields]
    if categories is not None:
        fields.append(_SCHEMA.field("categories"))
        arrays.append(categories.lists)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, pa.schema(fields)) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=pa.schema(fields)))
    return sink.getvalue()


def read_columns(filesystem: Any, path: str) -> dict[str, Any]:
    """NUMBERS as arrays (N,) and categories, where the file has them; on a local disk mapped, and read when used.

    ValueError where the file is damaged or another one.
    """
    try:
        is_local = isinstance(filesystem, LocalFileSystem)
        reader = pa.ipc.open_file(pa.memory_map(path) if is_local else filesystem.open_input_file(path))
        if reader.num_record_batches != 1:
            raise ValueError(f"{reader.num_record_batches} pieces in place of one")
        batch = reader.get_batch(0)
        batch.validate()
        names = [name for name in _SCHEMA.names if name in batch.schema.names]
        wanted = pa.schema([_SCHEMA.field(name) for name in names])
        if not batch.schema.equals(wanted) or names[: len(NUMBERS)] != list(NUMBERS):
            raise ValueError(f"columns are {', '.join(map(str, batch.schema))}")
        columns: dict[str, Any] = {name: batch[name].to_numpy(zero_copy_only=True) for name in NUMBERS}
        return columns | ({"categories": Categories(batch["categories"])} if "categories" in names else {})
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"not the rows of a manifest: {' '.join(str(error).split())}") from None
