"""Synthetic streets in the manner of Cityscapes: what stands and moves on them, as labelled polygons and as an image.

The camera is a little above the ground, so that what is far is small and near the horizon.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from maskray.platform.data.synthetic.street_shapes import (
    OUTLINES,
    Color,
    Points,
    Sketch,
    box,
    circle,
    paint,
    sketch,
    sketch_group,
)

CAMERA_HEIGHT = 1.3  # metres
HORIZON = 0.42  # of the height of the image
PIXELS_PER_METRE = (3.2, 44.0)  # far and near, in an image of 256 pixels height
WIDEST = 0.55  # of the width of the image
OVERSAMPLING = 2
# What is drawn, how often; a rider comes with what he rides.
FREQUENCIES = {
    "person": 0.2, "rider": 0.16, "car": 0.22, "truck": 0.11, "bus": 0.1, "train": 0.07, "motorcycle": 0.06,
    "bicycle": 0.08,
}  # fmt: skip
GROUPS = ("person", "car", "bicycle")
GROUP_PROBABILITY, OTHER_PROBABILITY = 0.5, 0.15


@dataclass
class StreetObject:
    """One polygon of an annotation: its label (cargroup, sky, ...), corners x y in pixels, and how it is drawn."""

    label: str
    outline: Points
    color: Color
    details: list[tuple[Points, Color]] = field(default_factory=list)


def draw_street(
    height: int, width: int, max_things: int, generator: np.random.Generator
) -> tuple[NDArray[np.uint8], list[StreetObject]]:
    """A (height, width, 3) uint8 image and its objects, what hides others after them, as annotators order them."""
    objects = [*_background(height, width, generator), *_things(height, width, max_things, generator)]
    objects += _void(height, width, generator)
    return _paint(height, width, objects, generator), objects


def _things(height: int, width: int, most: int, generator: np.random.Generator) -> Iterator[StreetObject]:
    """Groups far away, then persons and vehicles from far to near."""
    unit = height / 256
    if generator.random() < GROUP_PROBABILITY:
        name = GROUPS[int(generator.integers(len(GROUPS)))]
        scale = unit * float(generator.uniform(8, 18))
        group = sketch_group(name, int(generator.integers(4, 8)), generator)
        yield _place(f"{name}group", group, float(generator.uniform(0.1, 0.9)) * width, scale, height)
    low, high = (math.log(value * unit) for value in PIXELS_PER_METRE)
    scales = np.sort(np.exp(generator.uniform(low, high, int(generator.integers(2, most + 1)))))
    if generator.random() < OTHER_PROBABILITY:
        name = ("caravan", "trailer")[int(generator.integers(2))]
        yield _place(name, sketch(name, generator), float(generator.uniform()) * width, 6 * unit, height)
    names, weights = list(FREQUENCIES), list(FREQUENCIES.values())
    for scale in scales.tolist():
        name = names[int(generator.choice(len(names), p=weights))]
        x, mirrored = float(generator.uniform(0.03, 0.97)) * width, bool(generator.random() < 0.5)
        widest = WIDEST * width / (max(px for px, _ in OUTLINES[name]) * 2)
        for part in [("bicycle", "motorcycle")[int(generator.integers(2))], name] if name == "rider" else [name]:
            thing = sketch(part, generator).moved(0.0, mirrored)
            yield _place(part, thing, x, min(scale, widest), height)


def _place(label: str, thing: Sketch, x: float, scale: float, height: int) -> StreetObject:
    """A thing in metres on the ground of the image, at so many pixels a metre."""
    ground = HORIZON * height + CAMERA_HEIGHT * scale

    def project(points: Points) -> Points:
        return [(x + px * scale, ground - py * scale) for px, py in points]

    details = [(project(points), color) for points, color in thing.details]
    return StreetObject(label, project(thing.outline), thing.color, details)


def _background(height: int, width: int, generator: np.random.Generator) -> Iterator[StreetObject]:
    horizon = HORIZON * height
    yield StreetObject("sky", box(0, 0, width, horizon + 4), (150, 180, 215))
    left = 0.0
    while left < width:
        right = left + float(generator.uniform(0.08, 0.25)) * width
        yield _building(left, right, float(generator.uniform(0.02, 0.3)) * height, horizon, generator)
        left = right + (float(generator.uniform(0, 0.06)) * width if generator.random() < 0.4 else 0)
    yield StreetObject("terrain", box(0, horizon, width, height), (110, 125, 80))
    middle, spread = float(generator.uniform(0.4, 0.6)) * width, 0.12 * width
    walk = [
        (middle - 2.2 * spread, horizon),
        (middle + 2.2 * spread, horizon),
        (1.6 * width, height),
        (-0.6 * width, height),
    ]
    yield StreetObject("sidewalk", walk, (150, 140, 145))
    road = [(middle - spread, horizon), (middle + spread, horizon), (1.1 * width, height), (-0.1 * width, height)]
    lines = [
        (
            [(middle - 1, horizon + 2), (middle + 1, horizon + 2), (middle + 6, height), (middle - 6, height)],
            (190, 190, 180),
        )
    ]
    yield StreetObject("road", road, (92, 88, 94), lines)
    for _ in range(int(generator.integers(1, 4))):
        x, radius = float(generator.uniform(0, width)), float(generator.uniform(0.05, 0.14)) * height
        crown = [(px, py + horizon - radius) for px, py in circle(x, 0, radius)]
        green = (50 + int(generator.integers(30)), 90 + int(generator.integers(40)), 45)
        yield StreetObject("vegetation", crown, green)
    for _ in range(int(generator.integers(1, 3))):
        yield from _pole(height, width, generator)


def _building(left: float, right: float, top: float, low: float, generator: np.random.Generator) -> StreetObject:
    shade = int(generator.integers(90, 180))
    color = (shade, shade - int(generator.integers(25)), shade - int(generator.integers(45)))
    step = max(6.0, (right - left) / 5)
    windows = [
        (box(x, y, x + 0.5 * step, y + 0.6 * step), (70, 75, 85))
        for x in np.arange(left + 0.3 * step, right - 0.6 * step, step).tolist()
        for y in np.arange(top + 0.4 * step, low - step, step).tolist()
    ]
    return StreetObject("building", box(left, top, right, low + 3), color, windows)


def _pole(height: int, width: int, generator: np.random.Generator) -> Iterator[StreetObject]:
    x, ground = float(generator.uniform(0.05, 0.95)) * width, float(generator.uniform(0.5, 0.62)) * height
    size = 0.012 * height
    yield StreetObject("pole", box(x - size / 2, 0.22 * height, x + size / 2, ground), (105, 105, 105))
    if generator.random() < 0.5:
        sign = [(px, py + 0.24 * height) for px, py in circle(x, 0, 2.2 * size)]
        yield StreetObject("traffic sign", sign, (200, 40, 40))
    else:
        light = box(x - 1.2 * size, 0.2 * height, x + 1.2 * size, 0.28 * height)
        yield StreetObject(
            "traffic light", light, (40, 45, 40), [(circle(x, 0.22 * height, 0.8 * size), (230, 60, 50))]
        )


def _void(height: int, width: int, generator: np.random.Generator) -> Iterator[StreetObject]:
    """What is not judged: something on the ground, the car of the camera, the borders that the rectification leaves."""
    for label in ("static", "dynamic"):
        if generator.random() < 0.5:
            x, scale = float(generator.uniform(0.05, 0.95)) * width, height / 256 * float(generator.uniform(10, 25))
            yield _place(label, Sketch(box(-0.5, 0, 0.5, 0.9), paint(generator), []), x, scale, height)
    hood = [
        (0.08 * width, height),
        (0.25 * width, 0.94 * height),
        (0.75 * width, 0.94 * height),
        (0.92 * width, height),
    ]
    yield StreetObject("ego vehicle", hood, (45, 48, 52))
    edge = max(2.0, 0.01 * width)
    for strip in (box(0, 0, edge / 2, height), box(width - edge / 2, 0, width, height)):
        yield StreetObject("rectification border", strip, (0, 0, 0))
    yield StreetObject("out of roi", box(0, height - edge / 2, width, height), (0, 0, 0))


def _paint(height: int, width: int, objects: list[StreetObject], generator: np.random.Generator) -> NDArray[np.uint8]:
    """The image, with soft edges, uneven light and noise."""
    canvas = Image.new("RGB", (width * OVERSAMPLING, height * OVERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    for one in objects:
        for points, color in [(one.outline, one.color), *one.details]:
            draw.polygon([(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points], fill=color)
    image = np.asarray(canvas.reduce(OVERSAMPLING), dtype=np.float32)
    grid = generator.uniform(0.82, 1.12, (height // 48 + 2, width // 48 + 2)).astype(np.float32)
    light = np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))
    noisy = image * light[..., None] + generator.normal(0, 3.0, (height, width, 1)).astype(np.float32)
    return (noisy + 0.5).clip(0, 255).astype(np.uint8)
