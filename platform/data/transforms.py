"""Decoded images to resized uint8 arrays, and the random draws of training; used alike by every caller.

Arrays are (H, W, 3) RGB, uint8 until they are resized. Randomness is a pure function of (seed, epoch, image id): no
generator travels with a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from maskray.model.config import InputConfig
from maskray.platform.data.decode import Pixels

Resized = NDArray[np.uint8] | NDArray[np.float32]
Resize = Literal["antialias", "bilinear"]  # InputConfig.resize


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

    antialias: bilinear with antialiasing on uint8 by torch, within 1 of Pillow's and seven times as fast. bilinear:
    without antialiasing, float32 in 0..255, the pixels of torchvision's GeneralizedRCNNTransform on one thread.
    """
    size = resized_size(image.shape[0], image.shape[1], shorter_edge, longer_edge_max, resize)
    return resize_to(image, size, resize)


def resize_to(image: Pixels, size: tuple[int, int], resize: Resize = "antialias") -> Resized:
    """Scale a (H, W, 3) uint8 image to a size (height, width), in the two ways of resize_image."""
    if size == image.shape[:2]:
        return image if resize == "antialias" else image.astype(np.float32)
    if resize == "bilinear":
        return _resize_plain(image, size)
    # The axis of one image goes in front before the channels move: its stride then tells torch that they come last.
    # In the other order the same pixels are written channel by channel and have to be put together again.
    pixels = torch.from_numpy(np.require(image, requirements="W"))[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(pixels, size=size, mode="bilinear", antialias=True, align_corners=False)
    return resized[0].permute(1, 2, 0).contiguous().numpy()


def mirror_image(image: Resized) -> Resized:
    """The (H, W, 3) image with its columns in reverse order, as an array of its own: torch has a fast way for this."""
    pixels = torch.from_numpy(np.require(image, requirements="W"))[None].permute(0, 3, 1, 2)
    return torch.flip(pixels, [3])[0].permute(1, 2, 0).contiguous().numpy()


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
    return draw_edge_and_flip(np.random.default_rng([seed, epoch, image_id & (2**64 - 1)]), shorter_edges, flip)


def draw_edge_and_flip(generator: np.random.Generator, shorter_edges: tuple[int, ...], flip: float) -> Augmentation:
    """The same of a generator."""
    shorter_edge = shorter_edges[int(generator.integers(len(shorter_edges)))]
    return Augmentation(shorter_edge, bool(generator.random() < flip))


def flip_boxes(boxes: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Mirror (M, 4) boxes x0 y0 x1 y1 in an image of a width in pixels."""
    flipped = boxes.copy()
    flipped[:, 0] = width - boxes[:, 2]
    flipped[:, 2] = width - boxes[:, 0]
    return flipped
