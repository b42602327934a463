"""Synthetic scenes: a textured background with objects drawn over one another, and what of each stays visible."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskray.platform.data.synthetic.person import draw_person
from maskray.platform.data.synthetic.shapes import SHAPES, Floats, Sprite, draw_shape

CLASSES = ("person", *SHAPES)
_MIN_VISIBLE_PIXELS = 40
_MIN_VISIBLE_FRACTION = 0.35  # of what was drawn inside the image; less could not be recognised
_PLACEMENT_TRIES = 12
_EMPTY_PROBABILITY = 0.03
_CROWD_PROBABILITY = 0.06
# Diameter in pixels and probability, for COCO's small (area below 32^2), medium (below 96^2) and large; large ones
# only where the image has room.
_SIZES = ((20, 34, 0.12), (46, 92, 0.68), (130, 220, 0.2))
_MAX_DIAMETER = 0.8  # of the shorter edge of the image


@dataclass
class Instance:
    """One object: mask (h, w) bool of its visible pixels; keypoints (17, 3) int x y visibility of a person."""

    name: str
    mask: NDArray[np.bool_]
    iscrowd: bool = False
    keypoints: NDArray[np.int64] | None = None


@dataclass
class _Placed:
    """What was drawn: its number in the label map, full pixels inside the image, keypoints in image pixels."""

    name: str
    full_pixels: int
    iscrowd: bool
    keypoints: Floats | None


def draw_scene(
    height: int,
    width: int,
    max_objects: int,
    generator: np.random.Generator,
    names: Sequence[str] = CLASSES,
    scale: float = 1.0,
) -> tuple[NDArray[np.uint8], list[Instance]]:
    """A (height, width, 3) uint8 image and its 0..max_objects instances, in drawing order (later ones in front).

    Each is one of names, drawn uniformly. A scale above 1 draws objects and background larger, in more pixels.
    """
    canvas = draw_background(height, width, generator, scale)
    labels = np.zeros((height, width), dtype=np.int16)
    placed: list[_Placed] = []
    wanted = 0 if generator.random() < _EMPTY_PROBABILITY else int(generator.integers(1, max_objects + 1))
    for number in range(wanted):
        crowd = number == 0 and generator.random() < _CROWD_PROBABILITY
        for _ in range(_PLACEMENT_TRIES):
            sprites, name = _draw_object(height, width, crowd, generator, names, scale)
            if _place(canvas, labels, placed, sprites, name, crowd):
                break
    image = (canvas * 255 + 0.5).clip(0, 255).astype(np.uint8)
    return image, [_finish(labels, index + 1, item) for index, item in enumerate(placed)]


def draw_background(height: int, width: int, generator: np.random.Generator, scale: float = 1.0) -> Floats:
    """A gradient between two muted colours with noise at several scales, (height, width, 3) in 0..1."""
    hue = float(generator.uniform())
    ends = [
        colorsys.hsv_to_rgb((hue + shift) % 1.0, float(generator.uniform(0.08, 0.3)), float(generator.uniform(*value)))
        for shift, value in ((0.0, (0.3, 0.55)), (float(generator.uniform(-0.15, 0.15)), (0.55, 0.85)))
    ]
    angle = float(generator.uniform(0, 2 * np.pi))
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    ramp = 0.5 + 0.35 * (rows * np.sin(angle) + columns * np.cos(angle))
    noise = np.zeros((height, width), dtype=np.float32)
    for cell, strength in ((64, 0.45), (24, 0.25), (8, 0.12), (2, 0.07)):
        edge = round(cell * scale)
        grid = generator.uniform(-1, 1, (height // edge + 2, width // edge + 2)).astype(np.float32)
        noise += strength * _enlarge(grid, height, width)
    ramp = (ramp + 0.5 * noise).clip(0, 1)[..., None]
    image = ramp * np.array(ends[1]) + (1 - ramp) * np.array(ends[0]) + 0.05 * noise[..., None]
    return image.clip(0, 1).astype(np.float32)


def _enlarge(grid: Floats, height: int, width: int) -> Floats:
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)


def _draw_object(
    height: int, width: int, crowd: bool, generator: np.random.Generator, names: Sequence[str], scale: float
) -> tuple[list[tuple[Sprite, int, int]], str]:
    """The sprites of one object with the x, y of their upper left corner: one, or a cluster for a crowd."""
    name = names[int(generator.integers(len(names)))]
    short = min(height, width)
    if crowd:
        spread = 0.16 * short
        middle = generator.uniform((0.25 * width, 0.3 * height), (0.75 * width, 0.7 * height))
        members = []
        for _ in range(int(generator.integers(7, 14))):
            sprite = _draw_sprite(name, float(generator.uniform(0.09, 0.13)) * short, generator)
            x, y = middle + generator.normal(0, spread * 0.7, 2) * (1.5, 0.6)
            members.append((sprite, int(x), int(y)))
        return members, name
    chosen = int(generator.choice(len(_SIZES), p=[probability for _, _, probability in _SIZES]))
    low, high, _ = _SIZES[chosen]
    diameter = min(scale * float(generator.uniform(low, high)), _MAX_DIAMETER * short)
    if name == "person":  # thin: higher for the same area
        diameter = min(diameter * 1.4, 0.9 * short)
    sprite = _draw_sprite(name, diameter, generator)
    inset = 0.35 * diameter  # some objects are cut off by the border
    x = generator.uniform(inset, width - inset) - sprite.alpha.shape[1] / 2
    y = generator.uniform(inset, height - inset) - sprite.alpha.shape[0] / 2
    return [(sprite, int(x), int(y))], name


def _draw_sprite(name: str, diameter: float, generator: np.random.Generator) -> Sprite:
    return draw_person(diameter, generator) if name == "person" else draw_shape(name, diameter, generator)


def _place(
    canvas: Floats,
    labels: NDArray[np.int16],
    placed: list[_Placed],
    sprites: list[tuple[Sprite, int, int]],
    name: str,
    crowd: bool,
) -> bool:
    """Draw an object in front of the others, unless it is too small or would hide too much of one; says whether."""
    coverage = np.zeros(labels.shape, dtype=bool)
    for sprite, x, y in sprites:
        window, part = _overlap(labels.shape, sprite, x, y)
        coverage[window] |= sprite.alpha[part] >= 0.5
    full_pixels = int(coverage.sum())
    if full_pixels < _MIN_VISIBLE_PIXELS:
        return False
    remaining = np.bincount(labels[~coverage], minlength=len(placed) + 1)
    for index, item in enumerate(placed):
        if remaining[index + 1] < max(_MIN_VISIBLE_PIXELS, _MIN_VISIBLE_FRACTION * item.full_pixels):
            return False
    for sprite, x, y in sprites:
        window, part = _overlap(labels.shape, sprite, x, y)
        alpha = sprite.alpha[part][..., None]
        canvas[window] = canvas[window] * (1 - alpha) + sprite.rgb[part] * alpha
    labels[coverage] = len(placed) + 1
    keypoints = None
    if not crowd and sprites[0][0].keypoints is not None:
        keypoints = sprites[0][0].keypoints + np.array(sprites[0][1:], dtype=np.float32)
    placed.append(_Placed(name, full_pixels, crowd, keypoints))
    return True


def _overlap(shape: tuple[int, ...], sprite: Sprite, x: int, y: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a sprite at (x, y) lies in the image, and which part of the sprite that is."""
    height, width = sprite.alpha.shape
    top, left = max(0, y), max(0, x)
    bottom, right = max(top, min(shape[0], y + height)), max(left, min(shape[1], x + width))
    return (slice(top, bottom), slice(left, right)), (slice(top - y, bottom - y), slice(left - x, right - x))


def _finish(labels: NDArray[np.int16], number: int, item: _Placed) -> Instance:
    mask = labels == number
    if item.keypoints is None:
        return Instance(item.name, mask, item.iscrowd)
    keypoints = np.zeros((17, 3), dtype=np.int64)
    for row, (x, y) in zip(keypoints, np.floor(item.keypoints).astype(int).tolist()):
        if 0 <= x < mask.shape[1] and 0 <= y < mask.shape[0]:  # outside: not labelled, all zeros
            row[:] = (x, y, 2 if mask[y, x] else 1)
    return Instance(item.name, mask, item.iscrowd, keypoints)
