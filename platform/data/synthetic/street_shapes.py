"""Outlines of what moves on a street, seen from the side: persons and vehicles, in metres.

x goes to the right from the middle, y up from the ground. All face to the right.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Points = list[tuple[float, float]]
Color = tuple[int, int, int]

DARK, GLASS, SKIN, LIGHT = (28, 28, 32), (70, 90, 110), (214, 170, 140), (235, 235, 225)
WINDOWS = {"bus": (-5.1, 4.4, 1.5, 2.6, 7), "train": (-7.6, 5.6, 1.7, 2.8, 9)}  # left, right, low, high, number
WHEELS = {  # positions and radius
    "car": ((-1.3, 1.3), 0.34),
    "truck": ((-2.2, 2.5), 0.5),
    "bus": ((-3.6, 3.4), 0.5),
    "motorcycle": ((-0.72, 0.72), 0.33),
    "bicycle": ((-0.52, 0.52), 0.34),
    "caravan": ((0.0,), 0.35),
    "trailer": ((0.0,), 0.35),
}
OUTLINES: dict[str, Points] = {
    "person": [
        (-0.1, 1.52), (-0.13, 1.68), (-0.05, 1.78), (0.07, 1.78), (0.13, 1.66), (0.1, 1.52), (0.24, 1.44), (0.3, 1.1),
        (0.26, 0.82), (0.17, 0.85), (0.2, 0.4), (0.24, 0.0), (0.04, 0.0), (0.01, 0.7), (-0.06, 0.0), (-0.24, 0.0),
        (-0.18, 0.45), (-0.17, 0.85), (-0.26, 0.8), (-0.3, 1.1), (-0.24, 1.44),
    ],
    "rider": [
        (-0.42, 0.95), (-0.22, 1.25), (-0.02, 1.5), (0.1, 1.56), (0.1, 1.74), (0.2, 1.84), (0.34, 1.78), (0.37, 1.6),
        (0.28, 1.45), (0.55, 1.12), (0.5, 0.99), (0.2, 1.16), (0.06, 1.0), (0.24, 0.7), (0.12, 0.28), (-0.06, 0.28),
        (0.0, 0.65), (-0.2, 0.84),
    ],
    "car": [
        (-2.1, 0.25), (-2.15, 0.8), (-1.75, 0.98), (-1.15, 1.46), (0.45, 1.5), (1.15, 1.0), (2.0, 0.86), (2.15, 0.5),
        (2.1, 0.25), (1.68, 0.2), (1.5, 0.0), (1.1, 0.0), (0.92, 0.2), (-0.92, 0.2), (-1.1, 0.0), (-1.5, 0.0),
        (-1.68, 0.2),
    ],
    "truck": [
        (-3.5, 0.5), (-3.5, 3.3), (1.5, 3.3), (1.55, 2.75), (2.8, 2.7), (3.35, 1.6), (3.5, 0.4), (3.05, 0.3),
        (2.8, 0.0), (2.2, 0.0), (1.95, 0.38), (-1.6, 0.38), (-1.9, 0.0), (-2.5, 0.0), (-2.75, 0.4),
    ],
    "bus": [
        (-5.5, 0.35), (-5.5, 3.0), (-5.3, 3.15), (5.2, 3.15), (5.5, 2.8), (5.55, 0.35), (4.0, 0.3), (3.7, 0.0),
        (3.1, 0.0), (2.8, 0.3), (-3.0, 0.3), (-3.3, 0.0), (-3.9, 0.0), (-4.2, 0.3),
    ],
    "train": [
        (-8.0, 0.25), (-8.0, 3.45), (6.2, 3.5), (7.4, 2.7), (8.0, 1.5), (8.1, 0.6), (7.8, 0.25),
    ],
    "motorcycle": [
        (-1.05, 0.35), (-1.1, 0.6), (-0.6, 0.88), (0.0, 0.8), (0.3, 1.0), (0.45, 1.18), (0.6, 1.05), (0.7, 0.72),
        (1.05, 0.5), (1.07, 0.25), (0.88, 0.0), (0.55, 0.0), (0.32, 0.24), (-0.32, 0.2), (-0.5, 0.0), (-0.85, 0.0),
    ],
    "bicycle": [
        (-0.87, 0.35), (-0.76, 0.6), (-0.45, 0.7), (-0.3, 0.97), (0.0, 0.9), (0.35, 1.07), (0.55, 0.97), (0.55, 0.69),
        (0.8, 0.55), (0.88, 0.33), (0.75, 0.08), (0.5, 0.0), (0.25, 0.1), (0.12, 0.3), (-0.12, 0.3), (-0.25, 0.1),
        (-0.5, 0.0), (-0.75, 0.08),
    ],
    "caravan": [(-2.2, 0.4), (-2.3, 2.2), (-1.8, 2.5), (1.8, 2.5), (2.3, 1.7), (2.2, 0.4), (0.4, 0.0), (-0.4, 0.0)],
    "trailer": [(-1.5, 0.4), (-1.5, 1.1), (1.5, 1.1), (2.1, 0.5), (0.4, 0.4), (0.3, 0.0), (-0.3, 0.0)],
}  # fmt: skip


@dataclass
class Sketch:
    """A thing in metres: its outline, filled with a colour, and smaller shapes upon it in their order."""

    outline: Points
    color: Color
    details: list[tuple[Points, Color]]

    @property
    def width(self) -> float:
        """Metres from left to right."""
        xs = [x for x, _ in self.outline]
        return max(xs) - min(xs)

    def moved(self, right: float, mirrored: bool = False) -> Sketch:
        """The same elsewhere, or facing to the left."""
        sign = -1 if mirrored else 1

        def move(points: Points) -> Points:
            return [(sign * x + right, y) for x, y in points]

        return Sketch(move(self.outline), self.color, [(move(points), color) for points, color in self.details])


def sketch(name: str, generator: np.random.Generator) -> Sketch:
    """A thing of a class in colours of its own."""
    color = paint(generator)
    if name in ("person", "rider"):
        return _human(name, color, generator)
    if name == "bicycle":
        color = (color[0] // 2 + 40, color[1] // 2 + 40, color[2] // 2 + 40)
    return Sketch(OUTLINES[name], color, _vehicle_details(name, color, generator))


def sketch_group(name: str, number: int, generator: np.random.Generator) -> Sketch:
    """A crowd of so many persons, or parked vehicles close together, under one outline that tells none apart."""
    members, right = [], 0.0
    for _ in range(number):
        one = sketch(name, generator).moved(right, generator.random() < 0.5)
        members.append(one)
        right += one.width * float(generator.uniform(0.45, 0.8))
    top = [(x, y * 1.03) for one in members for x, y in one.outline if y > 0.6 * max(v for _, v in one.outline)]
    top.sort()
    xs = [x for one in members for x, _ in one.outline]
    outline = [(min(xs), 0.0), (min(xs), top[0][1]), *top, (max(xs), top[-1][1]), (max(xs), 0.0)]
    details = [part for one in members for part in [(one.outline, one.color), *one.details]]
    return Sketch(outline, (64, 62, 66), details).moved(-right / 2)


def paint(generator: np.random.Generator) -> Color:
    """A colour of cloth or metal: gray as often as not."""
    saturation = float(generator.uniform(0.0, 0.15) if generator.random() < 0.4 else generator.uniform(0.45, 0.85))
    values = colorsys.hsv_to_rgb(float(generator.uniform()), saturation, float(generator.uniform(0.3, 0.9)))
    red, green, blue = (int(255 * value) for value in values)
    return red, green, blue


def circle(x: float, y: float, radius: float) -> Points:
    """A polygon of 16 corners."""
    angles = [2 * math.pi * step / 16 for step in range(16)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def box(left: float, low: float, right: float, high: float) -> Points:
    """The corners of a rectangle."""
    return [(left, low), (left, high), (right, high), (right, low)]


def _human(name: str, color: Color, generator: np.random.Generator) -> Sketch:
    outline = OUTLINES[name]
    trousers = paint(generator)
    if name == "person":
        legs = [point for point in outline if point[1] < 0.9 and abs(point[0]) < 0.25]
        return Sketch(outline, color, [(legs, trousers), (circle(0.0, 1.65, 0.12), SKIN)])
    legs = [(-0.3, 0.9), (0.06, 1.0), (0.24, 0.7), (0.12, 0.28), (-0.06, 0.28), (0.0, 0.65)]
    return Sketch(outline, color, [(legs, trousers), (circle(0.23, 1.68, 0.11), SKIN), (_helmet(), paint(generator))])


def _helmet() -> Points:
    return [(0.1, 1.7), (0.13, 1.8), (0.21, 1.85), (0.32, 1.8), (0.36, 1.7)]


def _vehicle_details(name: str, color: Color, generator: np.random.Generator) -> list[tuple[Points, Color]]:
    parts: list[tuple[Points, Color]] = []
    if name in WINDOWS:
        left, right, low, high, number = WINDOWS[name]
        step = (right - left) / number
        parts += [(box(left + n * step, low, left + (n + 0.85) * step, high), GLASS) for n in range(number)]
    if name == "car":
        parts += [([(-1.35, 0.98), (-0.98, 1.36), (0.38, 1.4), (0.98, 1.0)], GLASS)]
        parts += [(box(1.9, 0.6, 2.1, 0.75), LIGHT), (box(-0.4, 0.95, -0.32, 1.4), color)]
    if name == "truck":
        parts += [
            (box(-3.4, 0.7, 1.4, 3.2), paint(generator)),
            ([(1.9, 1.7), (1.9, 2.5), (2.7, 2.5), (3.1, 1.7)], GLASS),
        ]
    if name == "train":
        parts += [
            (box(-8.0, 0.7, 7.9, 1.2), paint(generator)),
            ([(6.3, 1.8), (6.3, 3.0), (7.1, 2.6), (7.5, 1.8)], GLASS),
        ]
    if name == "caravan":
        parts.append((box(-1.2, 1.3, 0.8, 2.0), GLASS))
    positions: Sequence[float]
    positions, radius = WHEELS.get(name, ((), 0.0))
    for x in positions:
        parts.append((circle(x, radius, radius), DARK))
        inner = 0.8 if name == "bicycle" else 0.45
        parts.append((circle(x, radius, inner * radius), (120, 120, 120)))
    return parts
