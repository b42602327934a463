"""COCO's JSON files to columns of numbers, where they are plain: written by a program, without anything odd.

What is odd in any way is left to a reader that can tell what (None here). Nothing is read otherwise than Python's json
and the rules of platform/data/formats would read it. Letters: R results, N images, G annotations.
"""

from __future__ import annotations

import ctypes
import io
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from maskray.ops.coco_library import Held, Reader, load_library
from maskray.ops.coco_masks import MaskColumns

BLOCK_BYTES = 1 << 20
LONGEST_ENTRY = 1 << 26  # bytes; an entry that goes on is read again with every block
KINDS = {"bbox": 0, "segm": 1, "keypoints": 2}
_INT, _FLOAT, _BYTE = np.int64, np.float64, np.uint8
_MASKS = {"starts": _INT, "lengths": _INT, "sizes": _INT, "mask_areas": _FLOAT, "extents": _FLOAT, "text": _BYTE}
_RESULTS = {"image_ids": _INT, "category_ids": _INT, "scores": _FLOAT, "boxes": _FLOAT, "keypoints": _FLOAT, **_MASKS}
_ANNOTATIONS = {
    "image_ids": _INT,
    "image_sizes": _INT,
    "ids": _INT,
    "image_of": _INT,
    "category_ids": _INT,
    "iscrowd": _INT,
    "labelled": _INT,
    "areas": _FLOAT,
    "boxes": _FLOAT,
    "keypoints": _FLOAT,
    **_MASKS,
    "coordinates": _FLOAT,
    "polygon_ends": _INT,
    "object_ends": _INT,
    "categories": _INT,
}


def read_plain_results(file: BinaryIO, kind: str, num_keypoints: int) -> dict[str, NDArray[Any]] | None:
    """An open results file: image_ids, category_ids and scores (R,), finite; None where it is not plain.

    kind bbox has boxes (R, 4); segm starts, lengths, sizes (R, 2), mask_areas, extents (R, 4) and text of masks as
    MaskColumns has them, each text checked against its size; keypoints (R, 2 K), x and y of each, and boxes, those of
    the keypoints where an entry has none.
    """
    library = load_library()
    start = file.tell()
    length = file.seek(0, io.SEEK_END) - start
    file.seek(start)
    numbers = KINDS[kind], num_keypoints, length
    address = library.maskray_results_new(*map(ctypes.c_int64, numbers))
    if address is None:
        raise MemoryError
    reader = Reader(address, "maskray_results_free")
    # One piece of memory for all blocks: what is left of an entry goes to its front, and the next block behind.
    buffer, left, is_last = np.empty(2 * BLOCK_BYTES, dtype=np.uint8), 0, False
    while not is_last:
        if len(buffer) - left < BLOCK_BYTES:
            buffer = np.concatenate([buffer, np.empty_like(buffer)])
        count = file.readinto(buffer[left : left + BLOCK_BYTES].data)  # type: ignore[attr-defined]
        is_last, filled = count == 0, left + count
        text = ctypes.c_void_p(buffer.ctypes.data)
        done = library.maskray_results_read(reader.pointer, text, ctypes.c_int64(filled), ctypes.c_int64(is_last))
        left = filled - done
        if done < 0 or left > LONGEST_ENTRY:
            return None
        buffer[:left] = buffer[done:filled].copy()
    columns = reader.columns("maskray_results_columns", _RESULTS)
    return _shaped(columns, boxes=4, keypoints=2 * num_keypoints, sizes=2, extents=4)


def read_plain_annotations(raw: bytes, with_masks: bool, num_keypoints: int) -> dict[str, NDArray[Any]] | None:
    """An annotation file: image_ids (N,), image_sizes (N, 2) height and width, and of each annotation, in the order of
    the file, ids, image_of, category_ids, iscrowd, areas, boxes, masks and keypoints; None where it is not plain.

    labelled (G,) keypoints, -1 without: keypoints has rows of the others alone. polygon_ends and object_ends are those
    of MaskColumns without the 0. categories is where their list begins and ends in `raw`. with_masks asks for a mask
    of every object.
    """
    address = load_library().maskray_annotations_read(
        raw, ctypes.c_int64(len(raw)), ctypes.c_int64(with_masks), ctypes.c_int64(num_keypoints)
    )
    if address is None:
        return None
    reader = Reader(address, "maskray_annotations_free")
    columns = reader.columns("maskray_annotations_columns", _ANNOTATIONS)
    return _shaped(columns, image_sizes=2, boxes=4, keypoints=3 * num_keypoints, sizes=2, extents=4)


def _shaped(columns: dict[str, NDArray[Any]], **widths: int) -> dict[str, NDArray[Any]]:
    return columns | {name: columns[name].reshape(-1, width) for name, width in widths.items()}


def plain_masks(columns: dict[str, NDArray[Any]]) -> MaskColumns:
    """The masks of columns that were read here."""
    no_polygons = np.zeros(len(columns["starts"]), dtype=np.int64)
    return MaskColumns(
        text=columns["text"],
        starts=columns["starts"],
        lengths=columns["lengths"],
        areas=columns["mask_areas"],
        extents=columns["extents"],
        coordinates=columns.get("coordinates", np.zeros(0)),
        polygons=np.concatenate([[0], columns.get("polygon_ends", no_polygons[:0])]).astype(np.int64),
        objects=np.concatenate([[0], columns.get("object_ends", no_polygons)]).astype(np.int64),
    )


def has_odd_polygons(masks: MaskColumns, sizes: NDArray[np.int64]) -> bool:
    """Whether an object of images of sizes (G, 2) has polygons that are far off, too long, double, or all in one pixel.

    No box may lie in its first pixel.
    """
    held = Held()
    found = load_library().maskray_odd_polygons(
        ctypes.byref(masks.to_c(held)),
        ctypes.c_int64(len(masks.starts)),
        ctypes.c_void_p(held.address(sizes, np.int64)),
        ctypes.c_void_p(held.address(np.zeros(len(sizes)), np.uint8)),
    )
    return bool(found >= 0)
