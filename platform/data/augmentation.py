"""What training does to an image and its targets beside resizing: drawn by position, applied to pixels and targets.

Each draw is a pure function of (seed, epoch, image id) and of its own number, so that one that is switched on or off
leaves the others as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskray.model.config import InputConfig
from maskray.platform.data import targets as moves
from maskray.platform.data.targets import ImageTargets
from maskray.platform.data.transforms import Augmentation, Resized, draw_augmentation, draw_edge_and_flip, resized_size
from maskray.platform.job.data_config import AugmentationConfig

# The numbers of the draws; 0 would be the generator of draw_augmentation.
RESIZE, SCALE, CUT, CROP, UPSIDE_DOWN, TURN, PASTE, COLOUR = range(1, 9)
OF_PASTED = 100  # added for the image whose objects are pasted
GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # of red, green and blue, ITU-R BT.601


@dataclass(frozen=True)
class Draws:
    """The random draws of an image in an epoch; of the image whose objects are pasted on it where pasted."""

    seed: int
    epoch: int
    image_id: int
    pasted: bool = False

    def generator(self, number: int) -> np.random.Generator:
        """The generator of one draw."""
        number += OF_PASTED if self.pasted else 0
        return np.random.default_rng([self.seed, self.epoch, self.image_id & (2**64 - 1), number])

    def edge_and_flip(self, shorter_edges: tuple[int, ...], flip: float) -> Augmentation:
        """The shorter edge and whether to flip."""
        if self.pasted:
            return draw_edge_and_flip(self.generator(RESIZE), shorter_edges, flip)
        return draw_augmentation(self.seed, self.epoch, self.image_id, shorter_edges, flip)


def drawn_size(
    original_size: tuple[int, int], draws: Draws, shorter_edge: int, config: AugmentationConfig, input: InputConfig
) -> tuple[int, int]:
    """(height, width) to which an image is resized; sizes in pixels.

    With a scale_range large-scale jitter: the size that fits into the square of crop_size, times a factor drawn
    uniformly (Ghiasi et al. 2021, Simple Copy-Paste, section 3). Otherwise as resize_image has it.
    """
    if config.scale_range is None or config.crop_size is None:
        return resized_size(*original_size, shorter_edge, input.longer_edge_max, input.resize)
    factor = draws.generator(SCALE).uniform(*config.scale_range) * config.crop_size / max(original_size)
    height, width = (max(1, int(side * factor + 0.5)) for side in original_size)
    return height, width


def cut_randomly(
    image: Resized, targets: ImageTargets, draws: Draws, config: AugmentationConfig, min_box_pixels: float
) -> tuple[Resized, ImageTargets]:
    """The part in the square of crop_size, where the image is larger, and then the random crop, where it is drawn."""
    if config.crop_size is not None and max(image.shape[:2]) > config.crop_size:
        window = _square((image.shape[0], image.shape[1]), draws.generator(CUT), config.crop_size)
        image, targets = _cut(image, targets, window, config.min_visible, min_box_pixels)
    generator = draws.generator(CROP) if config.random_crop > 0 else None
    if generator is not None and generator.random() < config.random_crop:
        window = crop_window((image.shape[0], image.shape[1]), targets.boxes, generator, config.random_crop_smallest)
        image, targets = _cut(image, targets, window, config.min_visible, min_box_pixels)
    return image, targets


def crop_window(
    size: tuple[int, int], boxes: NDArray[np.float32], generator: np.random.Generator, smallest: float
) -> tuple[int, int, int, int]:
    """A window (top, left, height, width) of an image that keeps one of its objects whole, where it has some.

    Each side is drawn uniformly from a share `smallest` of the image's to all of it, and is at least that of the
    object, which is drawn too; the place is drawn from those around the object. After the sampling of SSD
    (Liu et al. 2016, section 2.2), which keeps an object by its overlap.
    """
    shares = generator.uniform(smallest, 1.0, 2)
    low, high = np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)
    if len(boxes):
        x0, y0, x1, y1 = boxes[int(generator.integers(len(boxes)))]
        low, high = np.floor([y0, x0]).astype(np.int64), np.ceil([y1, x1]).astype(np.int64)
    sides = np.maximum(np.ceil(shares * size).astype(np.int64), high - low)
    sides = np.minimum(sides, size)
    first, last = np.maximum(0, high - sides), np.array(size) - sides
    if len(boxes):
        last = np.minimum(last, low)
    top, left = (int(generator.integers(a, b + 1)) for a, b in zip(first, last))
    return top, left, int(sides[0]), int(sides[1])


def turn_randomly(
    image: Resized,
    targets: ImageTargets,
    draws: Draws,
    config: AugmentationConfig,
    orders: Sequence[NDArray[np.int64]],
) -> tuple[Resized, ImageTargets]:
    """The image upside down and by quarter turns, where drawn: of aerial and microscope images no side is up.

    Eight ways to lie, with the horizontal flip (Cohen and Welling 2016, Group Equivariant Networks, the group p4m).
    orders of keypoints as flip_keypoints has them.
    """
    if config.vertical_flip > 0 and draws.generator(UPSIDE_DOWN).random() < config.vertical_flip:
        targets = moves.turn_upside_down(targets, image.shape[0], orders)
        image = image[::-1]
    if config.quarter_turns:
        for _ in range(int(draws.generator(TURN).integers(4))):
            targets = moves.turn(targets, (image.shape[0], image.shape[1]))
            image = np.rot90(image)
    return image, targets


def jitter_colour(image: Resized, generator: np.random.Generator, strength: float) -> Resized:
    """Brightness, contrast and saturation times factors drawn from 1 - strength to 1 + strength, in this order.

    image (h, w, 3) RGB 0..255 of either dtype, which stays. After Krizhevsky et al. 2012 and Howard 2013 (Some
    Improvements on Deep CNN Based Image Classification): as torchvision's ColorJitter computes the three, without its
    roundings in between.
    """
    brightness, contrast, saturation = generator.uniform(1 - strength, 1 + strength, 3).astype(np.float32)
    pixels = image.transpose(2, 0, 1).astype(np.float32, order="C")  # whole channels are faster than their mixture
    pixels *= brightness
    np.clip(pixels, 0, 255, out=pixels)
    mean = np.float32(_grey(pixels).mean(dtype=np.float64))
    _blend(pixels, mean, contrast)
    _blend(pixels, _grey(pixels), saturation)
    rounded = pixels if image.dtype == np.float32 else (pixels + np.float32(0.5)).astype(np.uint8)
    return rounded.transpose(1, 2, 0)


def _grey(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Channel by channel: a matrix product rounds as its library and its threads will."""
    red, green, blue = (channel * share for channel, share in zip(pixels, GREY))
    return red + green + blue


def _blend(pixels: NDArray[np.float32], towards: NDArray[np.float32] | np.float32, factor: np.float32) -> None:
    """Moves pixels to factor times their distance from a value, in place."""
    pixels -= towards
    pixels *= factor
    pixels += towards
    np.clip(pixels, 0, 255, out=pixels)


def _square(size: tuple[int, int], generator: np.random.Generator, side: int) -> tuple[int, int, int, int]:
    top, left = (int(generator.integers(max(0, edge - side) + 1)) for edge in size)
    return top, left, min(side, size[0]), min(side, size[1])


def _cut(
    image: Resized, targets: ImageTargets, window: tuple[int, int, int, int], min_visible: float, min_box_pixels: float
) -> tuple[Resized, ImageTargets]:
    top, left, height, width = window
    cut = moves.cut(targets, top, left, (height, width), min_visible, min_box_pixels)
    return image[top : top + height, left : left + width], cut
