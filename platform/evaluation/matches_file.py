"""The matches of every image in a file, from which metrics and their intervals follow without the images."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.platform.evaluation.matching import IOU_THRESHOLDS, ImageMatches
from maskray.platform.evaluation.rules import RULES, IouType
from maskray.platform.files.storage import write_whole

# What NumPy lets through of a file whose bytes are not what was written.
DAMAGED = (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error, tokenize.TokenError)


def write_matches(path: str | Path, parts: Sequence[ImageMatches]) -> None:
    """Write the parts of a data set as compressed NumPy arrays, whole or not at all; 20 bits a detection and area."""
    arrays: dict[str, NDArray[Any]] = {}
    for iou_type in dict.fromkeys(part.iou_type for part in parts):
        images = sorted((part for part in parts if part.iou_type == iou_type), key=lambda part: part.image_id)
        arrays |= {f"{iou_type}/{name}": array for name, array in _pack(images).items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_whole(path, buffer.getvalue())


def read_matches(path: str | Path, iou_type: IouType) -> list[ImageMatches]:
    """The parts of one IoU type by ascending image id; ValueError where the file is missing, damaged or has none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name.partition("/")[2]: file[name] for name in file.files if name.startswith(f"{iou_type}/")}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file of matches") from None
    except DAMAGED as error:
        raise ValueError(f"{path}: not a whole file of matches: {error}") from None
    if not arrays:
        raise ValueError(f"{path}: holds no matches of {iou_type}")
    try:
        return list(_unpack(arrays, iou_type))
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"{path}: not a file of matches: {error}") from None


def _pack(images: Sequence[ImageMatches]) -> dict[str, NDArray[Any]]:
    return {
        "image_ids": np.array([image.image_id for image in images], dtype=np.int64),
        "detection_counts": np.array([len(image.categories) for image in images], dtype=np.int64),
        "gt_category_counts": np.array([len(image.gt_categories) for image in images], dtype=np.int64),
        "categories": np.concatenate([image.categories for image in images]),
        "scores": np.concatenate([image.scores for image in images]),
        "matched": np.packbits(np.concatenate([image.matched.reshape(-1) for image in images])),
        "ignored": np.packbits(np.concatenate([image.ignored.reshape(-1) for image in images])),
        "gt_categories": np.concatenate([image.gt_categories for image in images]),
        "gt_counts": np.concatenate([image.gt_counts for image in images]),
    }


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
