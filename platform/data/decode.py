"""Encoded images of any kind to RGB pixels, the same everywhere; imports no torch, so that what only reads stays small.

Training, evaluation and the server call the same functions, so a model sees the same pixels everywhere.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB

# What an image may be encoded as. Pillow knows dozens more, each a parser that a hostile upload could reach.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
# What Pillow ends in where a file is damaged or hostile.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_NO_PIXELS = struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT"))
_ORIENTATION_TAG = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(data: bytes, max_pixels: int | None = None, size: tuple[int, int] | None = None) -> Pixels:
    """Decode an encoded image to (H, W, 3) uint8 RGB as a viewer would show it, EXIF orientation applied.

    Gray, palette, CMYK and 16-bit images are converted; an alpha channel is dropped; of an animation the first frame
    is taken; unreadable EXIF data counts as none. max_pixels is compared with the header, before anything is decoded.
    size is the (width, height) that an annotation file states: where only the stored, unrotated frame has it, the
    annotations were made in that frame and the orientation is not applied; where neither has it, that is an error.
    ValueError when the data are broken, truncated, of another format, too large or not of that size.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        stored = image.size
        if max_pixels is not None and stored[0] * stored[1] > max_pixels:
            raise ValueError(f"{stored[0]}x{stored[1]} pixels are more than the {max_pixels} allowed")
        transpose = _choose_transpose(_orientation(image, data), stored, size)
        pixels = _decode_sound_jpeg(image, data)
        if pixels is not None and transpose is None:
            return pixels
        rgb = _to_rgb(image) if pixels is None else Image.fromarray(pixels)
        return np.array(rgb if transpose is None else rgb.transpose(transpose))
    except DECODE_ERRORS as error:
        raise _decode_error(error) from None


def upright_pixels(image: Image.Image) -> Pixels:
    """The pixels of an image that Pillow holds, as decode_image gives them of its file; ValueError as there."""
    try:
        rgb = _to_rgb(image)  # loads it: what EXIF data stand behind the pixels are known then
        transpose = None if image.format == "TIFF" else _TRANSPOSES.get(_stored_orientation(image))
        return np.array(rgb if transpose is None else rgb.transpose(transpose))
    except DECODE_ERRORS as error:
        raise _decode_error(error) from None


def image_size(data: bytes, size: tuple[int, int] | None = None) -> tuple[int, int]:
    """(width, height) that decode_image would return, from the header alone; ValueError as there."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        transpose = _choose_transpose(_orientation(image, data), image.size, size)
    except DECODE_ERRORS as error:
        raise _decode_error(error) from None
    return _transposed_size(image.size, transpose)


def image_file_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of an image file as decode_image would return it, from its header; ValueError naming the file."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            late = Path(path).read_bytes() if _may_have_late_exif(image) else b""
            return _transposed_size(image.size, _TRANSPOSES.get(_orientation(image, late)))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such image") from None
    except DECODE_ERRORS as error:
        raise ValueError(f"{path}: {_decode_error(error)}") from None


def decode_row(row: Mapping[str, Any], max_pixels: int | None = None) -> Pixels:
    """Decode the image of a dataset row in the frame of its annotations; ValueError naming the image."""
    try:
        return decode_image(row["image"], max_pixels, (int(row["width"]), int(row["height"])))
    except ValueError as error:
        raise ValueError(f"image {row['image_id']} ({row['file_name']}): {error}") from None


def _decode_error(error: Exception) -> ValueError:
    """One line for whatever Pillow found wrong."""
    if isinstance(error, UnidentifiedImageError):
        return ValueError(f"image cannot be decoded: not one of {', '.join(FORMATS)}")
    return ValueError(f"image cannot be decoded: {' '.join(str(error).split())}")


def _orientation(image: Image.Image, data: bytes) -> int:
    """EXIF orientation 1..8 of an image opened from its data; 1 where the file has none or its EXIF block is damaged,
    as viewers do. No pixel is decoded for it."""
    if image.format == "TIFF":
        return 1  # Pillow turns these itself when it opens and loads them
    try:
        if _may_have_late_exif(image):
            image = Image.open(io.BytesIO(_without_pixels(data)), formats=("PNG",))
    except DECODE_ERRORS:
        return 1
    return _stored_orientation(image)


def _stored_orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8 of what is known of an image; 1 where it has none, or damaged EXIF data."""
    try:
        return int(Image.Image.getexif(image).get(_ORIENTATION_TAG, 1))
    except DECODE_ERRORS:
        return 1


def _may_have_late_exif(image: Image.Image) -> bool:
    """Whether EXIF data may stand behind the pixels. Pillow would decode those to get there."""
    return image.format == "PNG" and "exif" not in image.info


def _without_pixels(data: bytes) -> bytes:
    """A PNG file whose pixels are left out, so that all else stands before them."""
    kept, at = [data[:8]], 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IEND":
            break
        if kind not in (b"IDAT", b"fdAT", b"fcTL", b"acTL"):
            kept.append(data[at : at + 12 + length])
        at += 12 + length
    return b"".join([*kept, _NO_PIXELS])


def _transposed_size(stored: tuple[int, int], transpose: Image.Transpose | None) -> tuple[int, int]:
    swaps = transpose in (_TRANSPOSES[5], _TRANSPOSES[6], _TRANSPOSES[7], _TRANSPOSES[8])
    return (stored[1], stored[0]) if swaps else stored


def _choose_transpose(
    orientation: int, stored: tuple[int, int], expected: tuple[int, int] | None
) -> Image.Transpose | None:
    transpose = _TRANSPOSES.get(orientation)
    shown = _transposed_size(stored, transpose)
    if expected is None or shown == expected:
        return transpose
    if stored == expected:
        return None
    raise ValueError(
        f"the file is {shown[0]}x{shown[1]} (width x height), the annotation file says {expected[0]}x{expected[1]}"
    )


def _decode_sound_jpeg(image: Image.Image, data: bytes) -> Pixels | None:
    """Pixels of an opened JPEG file, the same as Pillow's, which takes them through an image of four bytes a pixel.

    None where that is no colour or gray JPEG, or where the decoder has the slightest complaint: what is damaged, and
    how far that is borne, is Pillow's to say.
    """
    if image.format != "JPEG" or image.mode not in ("RGB", "L"):
        return None
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB")
    except (ValueError, MemoryError):
        return None
    return pixels if pixels.shape[1::-1] == image.size else None


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith("I"):  # 16-bit gray; Pillow's own conversion would clip it to white
        wide = np.asarray(image).astype(np.int64)
        return Image.fromarray((wide.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("pixels are floating point numbers, of unknown range")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
