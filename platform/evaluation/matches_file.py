"""The matches of every image in a file, from which metrics and their intervals follow without the images."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.ops.match_images import unpack_levels
from maskray.platform.evaluation.matching import IOU_THRESHOLDS, ImageMatches, MatchColumns, in_image_order
from maskray.platform.evaluation.rules import IOU_TYPES, RULES, IouType
from maskray.platform.files.storage import write_whole

DETECTIONS_AT_ONCE = 1 << 16  # a multiple of 8: the bits of so many end with a byte
# What NumPy lets through of a file whose bytes are not what was written.
DAMAGED = (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error, tokenize.TokenError)


def write_match_columns(path: str | Path, parts: Sequence[MatchColumns]) -> None:
    """Write the matches of a data set, one part an IoU type, as compressed NumPy arrays, whole or not at all.

    20 bits a detection and area range; images by ascending id.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for part in parts:
        arrays |= {f"{part.iou_type}/{name}": array for name, array in _pack(in_image_order(part)).items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_whole(path, buffer.getvalue())


def read_matches(path: str | Path, iou_type: IouType) -> list[ImageMatches]:
    """The parts of one IoU type by ascending image id; ValueError where the file is missing, damaged or has none."""
    with _opened(path) as file:
        arrays = {name.partition("/")[2]: file[name] for name in file.files if name.startswith(f"{iou_type}/")}
    if not arrays:
        raise ValueError(f"{path}: holds no matches of {iou_type}")
    try:
        return list(_unpack(arrays, iou_type))
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"{path}: not a file of matches: {error}") from None


def matched_types(path: str | Path) -> tuple[IouType, ...]:
    """The IoU types of a file; ValueError as read_matches."""
    with _opened(path) as file:
        kinds = {name.partition("/")[0] for name in file.files}
    return tuple(kind for kind in IOU_TYPES if kind in kinds)


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """The arrays of a file; ValueError where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file of matches") from None
    except DAMAGED as error:
        raise ValueError(f"{path}: not a whole file of matches: {error}") from None


def _pack(images: MatchColumns) -> dict[str, NDArray[Any]]:
    num_areas = images.gt_objects.shape[1]
    return {
        "image_ids": images.image_ids,
        "detection_counts": images.counts,
        "gt_category_counts": images.gt_counts,
        "categories": images.category_ids[images.classes],
        "scores": images.scores,
        "matched": _pack_bits(images.matched, num_areas),
        "ignored": _pack_bits(images.ignored, num_areas),
        "gt_categories": images.category_ids[images.gt_classes],
        "gt_counts": images.gt_objects,
    }


def _pack_bits(levels: NDArray[np.uint64], num_areas: int) -> NDArray[np.uint8]:
    """A bit for each level, of one detection after the other."""
    pieces = [
        np.packbits(unpack_levels(levels[start : start + DETECTIONS_AT_ONCE], num_areas, len(IOU_THRESHOLDS)))
        for start in range(0, len(levels), DETECTIONS_AT_ONCE)
    ]
    return np.concatenate([np.zeros(0, dtype=np.uint8), *pieces])


def _unpack(arrays: Mapping[str, NDArray[Any]], iou_type: IouType) -> list[ImageMatches]:
    shape = (-1, len(RULES[iou_type].areas), len(IOU_THRESHOLDS))
    count = len(arrays["scores"]) * shape[1] * shape[2]
    matched, ignored = (
        np.unpackbits(arrays[name], count=count).reshape(shape).astype(bool) for name in ("matched", "ignored")
    )
    ends = np.cumsum(arrays["detection_counts"])
    gt_ends = np.cumsum(arrays["gt_category_counts"])
    images = []
    for index, image_id in enumerate(arrays["image_ids"]):
        of = slice(ends[index] - arrays["detection_counts"][index], ends[index])
        gt = slice(gt_ends[index] - arrays["gt_category_counts"][index], gt_ends[index])
        images.append(
            ImageMatches(
                int(image_id),
                iou_type,
                arrays["categories"][of],
                arrays["scores"][of],
                matched[of],
                ignored[of],
                arrays["gt_categories"][gt],
                arrays["gt_counts"][gt],
            )
        )
    return images
