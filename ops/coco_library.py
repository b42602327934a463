"""The library `_coco`: what evaluation does with columns of numbers, called by ctypes and without torch.

Importing torch takes longer than evaluating 5,000 images. The structures are those of ops/csrc/coco.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# "as": ops/extension.py has it too, and imports torch.
HOW_TO_BUILD = "build it with `make setup` (or `pip install --no-build-isolation --no-deps -e .`)"
MESSAGE_BYTES = 256
_Pointer, _Int, _Double = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double


class CLevels(ctypes.Structure):
    """Area ranges and thresholds (greedy.h)."""

    _fields_ = [("num_areas", _Int), ("areas", _Pointer), ("num_thresholds", _Int), ("thresholds", _Pointer)]


class CMasks(ctypes.Structure):
    """Masks as text or polygons (masks.h)."""

    _fields_ = [
        ("text", _Pointer),
        ("text_bytes", _Int),
        ("starts", _Pointer),
        ("lengths", _Pointer),
        ("coordinates", _Pointer),
        ("num_coordinates", _Int),
        ("polygons", _Pointer),
        ("num_polygons", _Int),
        ("objects", _Pointer),
    ]


class CColumns(ctypes.Structure):
    """Objects or detections of many images (columns.h)."""

    _fields_ = [
        ("num_rows", _Int),
        ("offsets", _Pointer),
        ("rows", _Pointer),
        ("classes", _Pointer),
        ("boxes", _Pointer),
        ("areas", _Pointer),
        ("scores", _Pointer),
        ("crowd", _Pointer),
        ("ignored", _Pointer),
        ("keypoints", _Pointer),
        ("masks", CMasks),
        ("extents", _Pointer),
        ("measures", _Pointer),
    ]


class CArguments(ctypes.Structure):
    """What is matched with what (columns.h)."""

    _fields_ = [
        ("kind", _Int),
        ("num_images", _Int),
        ("sizes", _Pointer),
        ("objects", CColumns),
        ("detections", CColumns),
        ("levels", CLevels),
        ("limit", _Int),
        ("num_keypoints", _Int),
        ("variances", _Pointer),
        ("similarities", _Pointer),
        ("boundary_ratio", _Double),
    ]


class CPointers(ctypes.Structure):
    """The arrays that matching fills (match_images.cpp), or accumulating (accumulate.cpp)."""

    _fields_ = [("pointers", _Pointer * 7)]


class CDetections(ctypes.Structure):
    """Matches of all images (accumulate.cpp)."""

    _fields_ = [
        ("num_images", _Int),
        ("counts", _Pointer),
        ("classes", _Pointer),
        ("scores", _Pointer),
        ("matched", _Pointer),
        ("ignored", _Pointer),
        ("num_classes", _Int),
        ("gt_counts", _Pointer),
        ("num_levels", _Int),
        ("recall_levels", _Pointer),
        ("num_limits", _Int),
        ("limits", _Pointer),
    ]


class Held:
    """Addresses of arrays for one call, and the arrays themselves, so that they stay until it is over."""

    def __init__(self) -> None:
        self._arrays: list[NDArray[Any]] = []

    def address(self, array: NDArray[Any] | None, dtype: Any) -> int | None:
        """Where the values of an array lie, contiguous and of this type; None for None."""
        if array is None:
            return None
        array = np.ascontiguousarray(array, dtype=dtype)
        self._arrays.append(array)
        return int(array.ctypes.data)

    def levels(self, areas: NDArray[np.float64], thresholds: NDArray[np.float64]) -> CLevels:
        """Area ranges (A, 2) and thresholds (T,)."""
        return CLevels(
            len(areas), self.address(areas, np.float64), len(thresholds), self.address(thresholds, np.float64)
        )


@cache
def load_library() -> ctypes.CDLL:
    """The library; ImportError that says how to build it when it is missing."""
    path = Path(__file__).parent / "_coco.abi3.so"
    if not path.exists():
        raise ImportError(f"maskray's operators are not built: {path} is missing; {HOW_TO_BUILD}")
    library = ctypes.CDLL(str(path))
    for name in ("maskray_results_new", "maskray_annotations_read"):
        getattr(library, name).restype = ctypes.c_void_p
    for name in ("maskray_results_read", "maskray_odd_polygons"):
        getattr(library, name).restype = ctypes.c_int64
    return library


def call(name: str, *arguments: Any) -> None:
    """Call a function that may refuse its arguments; ValueError with what it says. Numbers are given as ctypes'."""
    message = ctypes.create_string_buffer(MESSAGE_BYTES)
    function = getattr(load_library(), name)
    function.restype = ctypes.c_int64
    if function(*arguments, message) != 0:
        raise ValueError(message.value.decode("ascii", "replace"))


class _View:
    """Memory of the library as an array, which keeps its owner alive."""

    def __init__(self, owner: object, address: int, count: int, dtype: Any) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "version": 3,
            "data": (address, True),
            "shape": (count,),
            "typestr": np.dtype(dtype).str,
        }


class Reader:
    """What the library has read; the columns are views of its memory and keep it."""

    def __init__(self, address: int, free: str) -> None:
        self._address = address
        self._free = getattr(load_library(), free)

    @property
    def pointer(self) -> ctypes.c_void_p:
        """For calls."""
        return ctypes.c_void_p(self._address)

    def __del__(self) -> None:
        self._free(self.pointer)

    def columns(self, function: str, dtypes: dict[str, Any]) -> dict[str, NDArray[Any]]:
        """The columns by name, read-only and flat."""
        addresses, sizes = (ctypes.c_void_p * len(dtypes))(), (ctypes.c_int64 * len(dtypes))()
        getattr(load_library(), function)(self.pointer, addresses, sizes)
        return dict(self._views(addresses, sizes, dtypes))

    def _views(self, addresses: Any, sizes: Any, dtypes: dict[str, Any]) -> Iterator[tuple[str, NDArray[Any]]]:
        for (name, dtype), address, size in zip(dtypes.items(), addresses, sizes):
            known = address and size
            yield name, np.asarray(_View(self, address, size, dtype)) if known else np.zeros(0, dtype=dtype)
