"""What became of every detection and object of images, whatever its class: the errors of TIDE and pairs of classes.

Letters: N images, G objects that count, D detections, at most so many of an image.
Source: tidecv 1.0.1, quantify.py (Bolya et al. 2020, "TIDE", sections 2 and 3).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.ops.coco_library import Held, call
from maskray.ops.match_images import Kind, RegionColumns, to_arguments

RIGHT, CLASS, PLACE, BOTH, DUPLICATE, BACKGROUND = range(6)  # verdicts
FOUND, FIXABLE, MISSED = range(3)  # fates
IN_CROWD, FIXES = 1, 2  # flags


@dataclass(frozen=True)
class ImageDiagnoses:
    """Detections (D,) of N images, counts (N,) of each, best first, and their objects (G,), gt_counts (N,) of each.

    rows are those of the columns; verdicts uint8; flags uint8, IN_CROWD of what lies in a crowd of its class, FIXES of
    the best detection that would find an object with another class or place. objects: row of the object that the
    verdict is about, -1 without; pairs: of the one it is paired with whatever the classes; overlaps with the object it
    overlaps most, which below the limit may be 0. Of objects gt_rows, fates uint8, and gt_overlaps likewise.
    """

    counts: NDArray[np.int64]
    rows: NDArray[np.int64]
    verdicts: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    objects: NDArray[np.int64]
    pairs: NDArray[np.int64]
    overlaps: NDArray[np.float64]
    gt_counts: NDArray[np.int64]
    gt_rows: NDArray[np.int64]
    fates: NDArray[np.uint8]
    gt_overlaps: NDArray[np.float64]


class _Limits(ctypes.Structure):
    _fields_ = [("enough", ctypes.c_double), ("little", ctypes.c_double), ("most", ctypes.c_int64)]


def diagnose_images(
    kind: Kind,
    sizes: NDArray[np.int64],
    objects: RegionColumns,
    detections: RegionColumns,
    enough: float = 0.5,
    little: float = 0.1,
    most: int = 100,
) -> ImageDiagnoses:
    """Judge the `most` best detections of each of N images of sizes (N, 2) height and width, boxes or masks.

    An overlap of `enough` is right, one of at most `little` background. ValueError as match_images, or for keypoints.
    """
    held = Held()
    arguments = to_arguments(kind, sizes, objects, detections, held)
    num_objects = int(objects.offsets[-1] - objects.offsets[0])
    num_detections = int(detections.offsets[-1] - detections.offsets[0])
    lengths = [len(sizes), *[num_detections] * 6, len(sizes), *[num_objects] * 3]
    small = {"verdicts", "flags", "fates"}
    types: dict[str, Any] = {name.name: np.uint8 if name.name in small else np.int64 for name in fields(ImageDiagnoses)}
    types |= {"overlaps": np.float64, "gt_overlaps": np.float64}
    arrays = {name: np.zeros(length, dtype) for (name, dtype), length in zip(types.items(), lengths, strict=True)}
    pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays.values()))
    kept = (ctypes.c_int64 * 2)()
    limits = _Limits(enough, little, most)
    call("maskray_diagnose", ctypes.byref(arguments), ctypes.byref(limits), pointers, kept)
    ends = [len(sizes), *[kept[0]] * 6, len(sizes), *[kept[1]] * 3]
    return ImageDiagnoses(**{name: array[:end] for (name, array), end in zip(arrays.items(), ends)})
