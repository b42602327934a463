"""Sprites of stick-figure persons in random poses, with the 17 keypoints of COCO."""

from __future__ import annotations

import colorsys
import math

import numpy as np
from PIL import Image, ImageDraw

from maskray.platform.data.synthetic.shapes import OVERSAMPLING, Floats, Sprite, shade_rim

KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
# Pairs of keypoints from 1, as COCO lists them.
SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9),
    (8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip
_SKIN = ((0.98, 0.86, 0.74), (0.88, 0.68, 0.5), (0.62, 0.43, 0.3), (0.42, 0.28, 0.2))


def draw_person(height: float, generator: np.random.Generator) -> Sprite:
    """A person of about a height in pixels, facing the viewer (its left is at the right), in a random pose."""
    size = math.ceil(height) + 4
    joints = _pose(generator) * np.float32(height) + np.array((size / 2, 2), dtype=np.float32)
    shirt = _cloth(generator, float(generator.uniform()))
    trousers = _cloth(generator, float(generator.uniform(0.55, 0.7))) * np.float32(0.6)
    skin = np.array(_SKIN[int(generator.integers(len(_SKIN)))], dtype=np.float32)
    canvas = Image.new("RGBA", (size * OVERSAMPLING, size * OVERSAMPLING))
    _draw_body(ImageDraw.Draw(canvas), joints * OVERSAMPLING, height * OVERSAMPLING, skin, shirt, trousers)
    # Pillow premultiplies when it scales RGBA down, so the transparent surroundings do not darken the edge
    pixels: Floats = np.asarray(canvas.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / np.float32(255)
    alpha = np.ascontiguousarray(pixels[..., 3])
    return Sprite(shade_rim(np.ascontiguousarray(pixels[..., :3]), alpha, height * 0.3), alpha, joints)


def _pose(generator: np.random.Generator) -> Floats:
    """Joints (17, 2) in units of the height: x from the middle of the metric, y from the top."""
    joints = np.zeros((17, 2), dtype=np.float32)
    lean = float(generator.normal(0, 0.02))
    joints[0] = (lean, 0.13)
    for side, (eye, ear, shoulder, hip) in ((1, (1, 3, 5, 11)), (-1, (2, 4, 6, 12))):
        joints[eye] = (lean + side * 0.035, 0.1)
        joints[ear] = (lean + side * 0.085, 0.115)
        joints[shoulder] = (lean + side * 0.12, 0.27)
        joints[hip] = (side * 0.075, 0.55)
        arm = generator.uniform(0.15, 2.4), generator.uniform(-0.9, 0.9)
        joints[shoulder + 2] = joints[shoulder] + _limb(side * arm[0], 0.16)
        joints[shoulder + 4] = joints[shoulder + 2] + _limb(side * (arm[0] + arm[1]), 0.15)
        leg = generator.uniform(0.0, 0.55), generator.uniform(-0.35, 0.2)
        joints[hip + 2] = joints[hip] + _limb(side * leg[0], 0.2)
        joints[hip + 4] = joints[hip + 2] + _limb(side * (leg[0] + leg[1]), 0.2)
    joints[:, 1] = joints[:, 1].clip(0.02, 0.97)
    joints[:, 0] = joints[:, 0].clip(-0.48, 0.48)
    return joints


def _limb(angle: float, length: float) -> tuple[float, float]:
    """A vector at an angle in radians from straight down."""
    return length * math.sin(angle), length * math.cos(angle)


def _draw_body(
    draw: ImageDraw.ImageDraw, joints: Floats, height: float, skin: Floats, shirt: Floats, trousers: Floats
) -> None:
    def capsule(start: int, stop: int, width: float, color: Floats) -> None:
        ends = [(float(joints[joint][0]), float(joints[joint][1])) for joint in (start, stop)]
        fill = _rgba(color)
        draw.line(ends, fill=fill, width=max(1, round(width * height)))
        for x, y in ends:
            _disc(draw, x, y, width * height / 2, fill)

    for hip in (11, 12):
        capsule(hip, hip + 2, 0.105, trousers)
        capsule(hip + 2, hip + 4, 0.09, trousers)
    torso = [(float(joints[j][0]), float(joints[j][1])) for j in (5, 6, 12, 11)]
    draw.polygon(torso, fill=_rgba(shirt))
    for start, stop in ((5, 6), (11, 12), (5, 11), (6, 12)):
        capsule(start, stop, 0.1, shirt if start < 11 else trousers)
    for shoulder in (5, 6):
        capsule(shoulder, shoulder + 2, 0.085, shirt * np.float32(0.85))
        capsule(shoulder + 2, shoulder + 4, 0.07, skin)
    x, y = float(joints[0][0]), float(joints[0][1]) - 0.02 * height
    draw.line([(x, y), (x, y + 0.16 * height)], fill=_rgba(skin), width=round(0.07 * height))
    _disc(draw, x, y, 0.095 * height, _rgba(skin))
    for eye in (1, 2):
        _disc(draw, float(joints[eye][0]), float(joints[eye][1]), 0.014 * height, (20, 20, 30, 255))


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: tuple[int, int, int, int]) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _cloth(generator: np.random.Generator, hue: float) -> Floats:
    saturation, value = float(generator.uniform(0.25, 0.55)), float(generator.uniform(0.65, 0.95))
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), dtype=np.float32)


def _rgba(color: Floats) -> tuple[int, int, int, int]:
    red, green, blue = (int(255 * min(1.0, float(value))) for value in color)
    return red, green, blue, 255
