"""Images whose pixels are numbers of instances, as VOC and folders of masks have them: read, and taken apart."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskray.platform.data.decode import DECODE_ERRORS
from maskray.platform.data.formats.annotated import check_size


def read_label_image(path: Path) -> NDArray[np.int64]:
    """The (H, W) numbers of a PNG or TIFF: gray of 1, 8, 16 or 32 bits, or the palette's index; a colour is one number.

    Of a colour the number is 65536 R + 256 G + B, so that black is 0. ValueError naming the file where it is damaged,
    of another format, or of floating point.
    """
    try:
        with Image.open(path, formats=("PNG", "TIFF")) as image:
            check_size(str(path), *image.size)
            if image.mode == "F":
                raise ValueError("its pixels are floating point numbers")
            if image.mode in ("1", "L", "P") or image.mode.startswith("I"):
                return np.asarray(image).astype(np.int64)
            if image.mode == "LA":
                return np.asarray(image)[..., 0].astype(np.int64)
            red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")).astype(np.int64), -1, 0)
            return (red << 16) | (green << 8) | blue
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except DECODE_ERRORS as error:
        told = " ".join(str(error).split())
        raise ValueError(told if told.startswith(f"{path}: ") else f"{path}: cannot be decoded: {told}") from None


def take_apart(numbers: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.bool_], tuple[int, int]]]:
    """Each number above 0 by increasing number, with its mask (h, w) cut out and the column and row of its corner."""
    width = numbers.shape[1]
    flat = numbers.ravel()
    positions = np.flatnonzero(flat > 0)
    positions = positions[np.argsort(flat[positions], kind="stable")]
    values = flat[positions]
    bounds = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    for start, end in pairwise(bounds):
        if start == end:
            continue
        rows, columns = np.divmod(positions[start:end], width)
        top, left = int(rows.min()), int(columns.min())
        mask = np.zeros((int(rows.max()) + 1 - top, int(columns.max()) + 1 - left), dtype=np.bool_)
        mask[rows - top, columns - left] = True
        yield int(values[start]), mask, (left, top)
