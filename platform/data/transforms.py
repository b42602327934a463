"""From encoded images to resized uint8 arrays, and the random draws of training; used alike by every caller.

Training, evaluation and the server call the same functions, so a model sees the same pixels everywhere. Arrays are
(H, W, 3) RGB, uint8 until they are resized. Randomness is a pure function of (seed, epoch, image id): no generator
travels with a run.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from maskray.model.config import InputConfig

Pixels = NDArray[np.uint8]
Resized = NDArray[np.uint8] | NDArray[np.float32]
Resize = Literal["antialias", "bilinear"]  # InputConfig.resize

# What an image may be encoded as. Pillow knows dozens more, each a parser that a hostile upload could reach.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
_DECODE_ERRORS = (
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
        transpose = _choose_transpose(_orientation(image), stored, size)
        image.load()
        rgb = _to_rgb(image)
        return np.array(rgb if transpose is None else rgb.transpose(transpose))
    except _DECODE_ERRORS as error:
        raise _decode_error(error) from None


def image_size(data: bytes, size: tuple[int, int] | None = None) -> tuple[int, int]:
    """(width, height) that decode_image would return, from the header alone; ValueError as there."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        transpose = _choose_transpose(_orientation(image), image.size, size)
    except _DECODE_ERRORS as error:
        raise _decode_error(error) from None
    return _transposed_size(image.size, transpose)


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


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where the file has none or its EXIF block is damaged, as viewers do."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _DECODE_ERRORS:
        return 1


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


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit gray; Pillow's own conversion would clip it to white
        wide = np.asarray(image).astype(np.int64)
        return Image.fromarray((wide.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("pixels are floating point numbers, of unknown range")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def resized_size(
    height: int, width: int, shorter_edge: int, longer_edge_max: int, resize: Resize = "antialias"
) -> tuple[int, int]:
    """(height, width) of an image after resize_image, the aspect ratio kept up to rounding; at least 1 each.

    antialias rounds to the nearest; bilinear rounds down, as torchvision's detection models do.
    """
    scale = min(shorter_edge / min(height, width), longer_edge_max / max(height, width))
    half = 0.5 if resize == "antialias" else 0.0
    return max(1, int(height * scale + half)), max(1, int(width * scale + half))


def padded_size(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """(height, width) after padding at right and bottom to a multiple in pixels, the size_divisor of a backbone."""
    height, width = (-(-edge // multiple) * multiple for edge in size)
    return height, width


def network_size(size: tuple[int, int], config: InputConfig, multiple: int) -> tuple[int, int]:
    """(height, width) of the padded batch in which the network sees an image of a (height, width)."""
    resized = resized_size(*size, config.shorter_edge, config.longer_edge_max, config.resize)
    return padded_size(resized, multiple)


def resize_image(image: Pixels, shorter_edge: int, longer_edge_max: int, resize: Resize = "antialias") -> Resized:
    """Scale a (H, W, 3) uint8 image to a shorter edge, or to the cap of the longer edge where that is smaller.

    antialias: bilinear with antialiasing on uint8 by torch, within 1 of Pillow's and about twice as fast. bilinear:
    without antialiasing, float32 in 0..255, the pixels of torchvision's GeneralizedRCNNTransform on one thread.
    """
    height, width = image.shape[:2]
    size = resized_size(height, width, shorter_edge, longer_edge_max, resize)
    if size == (height, width):
        return image if resize == "antialias" else image.astype(np.float32)
    if resize == "bilinear":
        return _resize_plain(image, size)
    pixels = torch.from_numpy(np.require(image, requirements="W")).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(pixels, size=size, mode="bilinear", antialias=True, align_corners=False)
    return resized[0].permute(1, 2, 0).contiguous().numpy()


def _resize_plain(image: Pixels, size: tuple[int, int]) -> NDArray[np.float32]:
    """Bilinear without antialiasing, the same bits on any number of threads.

    With three channels torch rounds positions in another way on one thread than on several, which moves a value of
    0..255 by up to 0.008; with four, channels last, it has one kernel.
    """
    four = np.zeros((*image.shape[:2], 4), dtype=np.float32)
    four[..., :3] = image
    pixels = torch.from_numpy(four).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(pixels, size=size, mode="bilinear", align_corners=False)
    return resized[0, :3].permute(1, 2, 0).contiguous().numpy()


@dataclass(frozen=True)
class Augmentation:
    """What was drawn for one image of one epoch."""

    shorter_edge: int
    flip: bool


def draw_augmentation(
    seed: int, epoch: int, image_id: int, shorter_edges: tuple[int, ...], flip: float
) -> Augmentation:
    """Draw the shorter edge (uniformly from the list) and whether to flip, as a function of (seed, epoch, image id)."""
    generator = np.random.default_rng([seed, epoch, image_id & (2**64 - 1)])
    shorter_edge = shorter_edges[int(generator.integers(len(shorter_edges)))]
    return Augmentation(shorter_edge, bool(generator.random() < flip))


def flip_boxes(boxes: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Mirror (M, 4) boxes x0 y0 x1 y1 in an image of a width in pixels."""
    flipped = boxes.copy()
    flipped[:, 0] = width - boxes[:, 2]
    flipped[:, 2] = width - boxes[:, 0]
    return flipped
