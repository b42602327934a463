"""Sprites of geometric shapes: outline, colour and texture of each class, drawn with antialiasing."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Floats = NDArray[np.float32]
Points = list[tuple[float, float]]

OVERSAMPLING = 4
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "crescent")
# Hue of each class, which varies a little; now and then it is anything, so that shape has to be learned too.
_HUES = {
    "circle": 0.0,
    "square": 0.61,
    "triangle": 0.14,
    "star": 0.9,
    "ring": 0.36,
    "cross": 0.5,
    "crescent": 0.76,
}
_ANY_HUE_PROBABILITY = 0.15


@dataclass
class Sprite:
    """An image with coverage: rgb (s, s, 3) in 0..1 and alpha (s, s) in 0..1; keypoints (17, 2) x y in its pixels."""

    rgb: Floats
    alpha: Floats
    keypoints: Floats | None = field(default=None)


def draw_shape(shape: str, diameter: float, generator: np.random.Generator) -> Sprite:
    """A shape of a class with a diameter in pixels, rotated, coloured and textured at random."""
    size = math.ceil(diameter) + 2
    angle = float(generator.uniform(0, 2 * math.pi))
    alpha = _draw_alpha(shape, diameter / 2, size, angle)
    hue = _HUES[shape] + float(generator.normal(0, 0.02))
    if generator.random() < _ANY_HUE_PROBABILITY:
        hue = float(generator.uniform())
    light = _color(hue, generator.uniform(0.6, 0.8), generator.uniform(0.88, 1.0))
    dark = _color(hue + 0.02, generator.uniform(0.75, 0.95), generator.uniform(0.5, 0.65))
    weight = _texture(shape, size, diameter / 2, angle)
    rgb = weight[..., None] * light + (1 - weight[..., None]) * dark
    return Sprite(shade_rim(rgb.astype(np.float32), alpha, diameter), alpha)


def shade_rim(rgb: Floats, alpha: Floats, diameter: float) -> Floats:
    """Darken the rim, so that overlapping objects of one class can be told apart."""
    image = Image.fromarray((alpha * 255).astype(np.uint8))
    inner = image.resize((max(1, round(alpha.shape[1] - max(2.0, diameter * 0.06))),) * 2, Image.Resampling.BILINEAR)
    offset = (alpha.shape[1] - inner.width) // 2
    core = np.zeros_like(alpha)
    middle = slice(offset, offset + inner.width)
    core[middle, middle] = np.asarray(inner, dtype=np.float32) / np.float32(255)
    return rgb * (np.float32(0.55) + np.float32(0.45) * core[..., None])


def rasterize_polygons(outer: list[Points], holes: list[Points], size: int) -> Floats:
    """Coverage (size, size) in 0..1 of polygons in pixels less other polygons."""
    canvas = Image.new("L", (size * OVERSAMPLING, size * OVERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    for polygons, value in ((outer, 255), (holes, 0)):
        for polygon in polygons:
            draw.polygon([(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in polygon], fill=value)
    return np.asarray(canvas.reduce(OVERSAMPLING), dtype=np.float32) / np.float32(255)


def arc(x: float, y: float, radius: float, start: float = 0.0, stop: float = 2 * math.pi) -> Points:
    """Points along a circle, angles in radians."""
    angles = np.linspace(start, stop, 48)
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def _draw_alpha(shape: str, radius: float, size: int, angle: float) -> Floats:
    centre = size / 2

    def polar(corners: list[tuple[float, float]]) -> Points:
        return [
            (centre + radius * r * math.cos(angle + a), centre + radius * r * math.sin(angle + a)) for r, a in corners
        ]

    outer: list[Points] = [arc(centre, centre, radius)]
    holes: list[Points] = []
    if shape == "square":
        outer = [polar([(1.0, math.pi / 4 + k * math.pi / 2) for k in range(4)])]
    elif shape == "triangle":
        outer = [polar([(1.0, k * 2 * math.pi / 3) for k in range(3)])]
    elif shape == "star":
        outer = [polar([(1.0 if k % 2 == 0 else 0.48, k * math.pi / 5) for k in range(10)])]
    elif shape == "ring":
        holes = [arc(centre, centre, radius * 0.5)]
    elif shape == "cross":
        tip, notch = math.atan2(0.33, 0.94), math.pi / 4
        corners = [[(1.0, q - tip), (1.0, q + tip), (0.47, q + notch)] for q in np.arange(4) * math.pi / 2]
        outer = [polar([corner for arm in corners for corner in arm])]
    elif shape == "crescent":
        (cut,) = polar([(0.5, 0.0)])
        holes = [arc(*cut, radius * 0.78)]
    return rasterize_polygons(outer, holes, size)


def _texture(shape: str, size: int, radius: float, angle: float) -> Floats:
    """How much of the light colour each pixel has, (size, size) in 0..1, in a pattern of the class."""
    axis = (np.arange(size, dtype=np.float32) + 0.5 - size / 2) / radius
    x = axis[None, :] * math.cos(angle) + axis[:, None] * math.sin(angle)
    y = axis[:, None] * math.cos(angle) - axis[None, :] * math.sin(angle)
    if shape == "circle":  # lit from the upper left, whatever the rotation
        return np.exp(-((axis[None, :] + 0.35) ** 2 + (axis[:, None] + 0.35) ** 2) * 1.1)
    if shape == "square":
        return 0.5 + 0.5 * np.tanh(4 * np.sin(x * 9))
    if shape == "triangle":
        return (0.75 - 0.5 * x).clip(0, 1)
    if shape == "star":
        return np.exp(-(x**2 + y**2) * 1.6)
    if shape == "ring":
        return 0.5 + 0.5 * np.cos((np.sqrt(x**2 + y**2) - 0.75) * 12)
    if shape == "cross":
        return (1.1 - np.maximum(np.abs(x), np.abs(y))).clip(0, 1)
    return 0.5 + 0.5 * np.tanh(4 * np.sin(x * 10) * np.sin(y * 10) + 1)


def _color(hue: float, saturation: float, value: float) -> Floats:
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, float(saturation), float(value)), dtype=np.float32)
