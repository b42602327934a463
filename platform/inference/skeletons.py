"""Keypoints of an object as points and the lines that join them, with colours that tell left from right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import ImageDraw

from maskray.model.config import Category

Color = tuple[int, int, int]
Point = tuple[float, float]

# web/skeletons.js draws the same.
LEAST_SCORE = 0.05  # of a keypoint that is drawn; as a probability of one position among thousands that is much
LEFT: Color = (255, 150, 20)
RIGHT: Color = (40, 170, 255)
MIDDLE: Color = (90, 225, 110)
RIM: Color = (15, 15, 15)


@dataclass(frozen=True)
class Skeleton:
    """What is drawn of one object, in pixels of the original image: points and lines with their colours.

    A hollow point is one that was annotated as hidden.
    """

    lines: list[tuple[Point, Point, Color]]
    points: list[tuple[Point, Color, bool]]


def read_skeleton(result: Mapping[str, Any], category: Category) -> Skeleton | None:
    """The skeleton of a COCO result or annotation with keypoints; None where it has none.

    A result has a score, and its keypoints have scores; the keypoints of an annotation have visibilities. A whole
    number names a pixel, and the point lies in its middle. Points without a name or a line are drawn too.
    """
    keypoints = result.get("keypoints")
    if not keypoints:
        return None
    least = LEAST_SCORE if "score" in result else 0
    found: dict[int, Point] = {}
    points = []
    for index, (x, y, value) in enumerate(zip(keypoints[0::3], keypoints[1::3], keypoints[2::3])):
        if value > least:
            found[index] = (x + 0.5, y + 0.5)
            hidden = "score" not in result and value == 1
            points.append((found[index], _color(category, index), hidden))
    joined = [(start - 1, end - 1) for start, end in category.skeleton]
    lines = [
        (found[start], found[end], _color(category, start, end))
        for start, end in joined
        if start in found and end in found
    ]
    return Skeleton(lines, points)


def draw_skeleton(draw: ImageDraw.ImageDraw, skeleton: Skeleton, scale: float, stroke: int) -> None:
    """Draw on an image enlarged by a scale, with lines of a width in pixels."""
    for rim in (1, 0):
        for start, end, color in skeleton.lines:
            ends = [(scale * start[0], scale * start[1]), (scale * end[0], scale * end[1])]
            draw.line(ends, fill=RIM if rim else color, width=stroke + 2 * rim)
    radius = stroke + 0.5
    for (x, y), color, hidden in skeleton.points:
        x, y = scale * x, scale * y
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(box, fill=None if hidden else color, outline=color if hidden else RIM)


def _color(category: Category, *indices: int) -> Color:
    """Of one side when all the keypoints are."""
    names = [category.keypoints[index] if index < len(category.keypoints) else "" for index in indices]
    for side, color in (("left", LEFT), ("right", RIGHT)):
        if all(name.startswith(side) for name in names):
            return color
    return MIDDLE
