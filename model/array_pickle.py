"""Reads numpy arrays from a pickle as tensors, without running anything that a pickle may ask for."""

from __future__ import annotations

import io
import math
import pickle
import struct
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from maskray.model.pickle_check import check_pickle

# numpy's codes of element types. Big-endian numbers do not occur in model files.
DTYPES = {
    "f2": torch.float16, "f4": torch.float32, "f8": torch.float64, "i1": torch.int8, "i2": torch.int16,
    "i4": torch.int32, "i8": torch.int64, "u1": torch.uint8, "b1": torch.bool,
}  # fmt: skip
# What damaged pickles have been seen to raise, besides ValueError.
DAMAGE = (
    pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, MemoryError, OverflowError,
    RecursionError, RuntimeError, struct.error,
)  # fmt: skip


def load_arrays(data: bytes) -> dict[str, Any]:
    """The dict that a pickle of any protocol holds, every numpy array in it a tensor with memory of its own.

    Besides arrays there may be numbers, text, lists and dicts. Nothing is imported and no code of numpy runs: what the
    pickle calls an array is put together here. Raises ValueError of one line for all else and for a file cut short.
    """
    try:
        check_pickle(io.BytesIO(data))
        content = _to_tensors(_ArraysOnly(io.BytesIO(data), encoding="latin1").load())
    except (ValueError, *DAMAGE) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"not a whole pickle of arrays ({reason or type(error).__name__})") from None
    if not isinstance(content, dict):
        raise ValueError(f"a pickle of {type(content).__name__}, not of a dict of arrays")
    return content


class _Dtype:
    """Takes the place of numpy.dtype."""

    def __init__(self, code: str, *_flags: Any) -> None:
        self.code = code
        self.order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """Takes the place of numpy.ndarray."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def tensor(self) -> Tensor:
        """The elements, in C order."""
        _, shape, dtype, fortran, data = self.state
        if not isinstance(dtype, _Dtype) or dtype.code not in DTYPES or dtype.order == ">":
            raise ValueError(f"an array of {getattr(dtype, 'code', dtype)} cannot be a tensor")
        data = data.encode("latin1") if isinstance(data, str) else data  # of Python 2
        element = DTYPES[dtype.code]
        if len(data) != math.prod(shape) * element.itemsize:
            raise ValueError(f"an array of shape {shape} has {len(data)} bytes")
        if not data:
            return torch.zeros(shape, dtype=element)
        flat = torch.frombuffer(bytearray(data), dtype=element)
        if fortran:
            return flat.reshape(*reversed(shape)).permute(*reversed(range(len(shape)))).contiguous()
        return flat.reshape(shape)


def _reconstruct(*_arguments: Any) -> _Array:
    return _Array()


def _frombuffer(data: Any, dtype: Any, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.state = (1, shape, dtype, order == "F", data)
    return array


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes in {encoding!r}")
    return text.encode("latin1")


def _no_bytes(*content: Any) -> bytes:
    if content:
        raise ValueError("bytes of a number or a list")
    return b""


# numpy was one package until 2.0, when numpy.core became numpy._core.
PARTS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,  # of an empty array, in protocol 2
    ("collections", "OrderedDict"): OrderedDict,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}


class _ArraysOnly(pickle.Unpickler):
    """Knows the parts of an array and no other name."""

    def find_class(self, module: str, name: str) -> Any:
        """The part in question; UnpicklingError where it is none."""
        if (module, name) not in PARTS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
        return PARTS[module, name]


def _to_tensors(content: Any) -> Any:
    if isinstance(content, _Array):
        return content.tensor()
    if isinstance(content, dict):
        return {name: _to_tensors(value) for name, value in content.items()}
    return [_to_tensors(value) for value in content] if isinstance(content, list | tuple) else content
