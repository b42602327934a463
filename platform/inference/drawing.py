"""Detections and ground truth drawn on an image: tinted masks, outlines, boxes, skeletons and labels."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as rle_masks

from maskray.model.config import LabelMap
from maskray.platform.inference.fonts import Font, Run, split_runs
from maskray.platform.inference.skeletons import Skeleton, draw_skeleton, read_skeleton
from maskray.platform.job.plain_text import shown_name

Pixels = NDArray[np.uint8]
Color = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]  # x0 y0 x1 y1 pixels

TINT = 0.45
GOLDEN_RATIO = 0.618033988749895  # steps of this around the colour circle never come close to one another soon
CROWD_COLOR: Color = (150, 150, 150)


@dataclass(frozen=True)
class _Shape:
    """One object ready to draw: box in pixels of the canvas; segmentation and skeleton in those of the image."""

    box: tuple[float, float, float, float]
    segmentation: Any
    skeleton: Skeleton | None
    color: Color
    label: str


def draw_detections(
    image: Pixels,
    results: Sequence[Mapping[str, Any]],
    labels: LabelMap,
    score_threshold: float = 0.5,
    scale: int = 1,
) -> Pixels:
    """A copy of an image with COCO results drawn on it, (H * scale, W * scale, 3) uint8 RGB.

    image is (H, W, 3) uint8; results are COCO results or annotations of it: category_id, bbox [x, y, width, height],
    perhaps a segmentation (RLE or polygons), keypoints and a score. Those with a score below score_threshold are left
    out; annotations have none and are all drawn, crowds in grey. The colour is that of the class, varied by instance.
    A whole `scale` above 1 enlarges a small image first, so that its labels can be read. Raises ValueError for a
    category that labels lack.
    """
    height, width = image.shape[:2]
    shown = [result for result in results if result.get("score", 1.0) >= score_threshold]
    shown.sort(key=lambda result: -result["bbox"][2] * result["bbox"][3])  # small objects on top of large ones
    seen: dict[int, int] = {}
    shapes = []
    for result in shown:
        nth = seen[result["category_id"]] = seen.get(result["category_id"], -1) + 1
        shapes.append(_shape(result, labels, nth, scale))
    canvas = np.array(_enlarge(Image.fromarray(image), (width * scale, height * scale)))
    stroke = max(1, round(min(canvas.shape[:2]) / 400))
    for shape in shapes:
        if shape.segmentation:
            # One mask at a time: a hundred of a large image would not fit into memory.
            _tint(canvas, _decode(shape.segmentation, (height, width), scale), shape.color, stroke)
    drawn = Image.fromarray(canvas)
    _draw_boxes(drawn, shapes, stroke)
    for shape in shapes:
        if shape.skeleton is not None:
            draw_skeleton(ImageDraw.Draw(drawn), shape.skeleton, scale, 2 * stroke)
    _draw_labels(drawn, shapes)
    return np.array(drawn)


def class_color(class_index: int, instance: int = 0) -> Color:
    """Colour of a class as RGB 0..255; instances of it differ a little in hue and lightness."""
    hue = (class_index * GOLDEN_RATIO + 0.03 * ((instance + 1) // 2) * (-1) ** instance) % 1.0
    red, green, blue = colorsys.hls_to_rgb(hue, (0.52, 0.62, 0.44)[instance % 3], 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def _shape(result: Mapping[str, Any], labels: LabelMap, instance: int, scale: int) -> _Shape:
    category_id = result["category_id"]
    if category_id not in labels.class_indices:
        raise ValueError(f"category id {category_id} is not in the label map")
    class_index = labels.class_indices[category_id]
    crowd = bool(result.get("iscrowd", 0))
    label = shown_name(labels.names[class_index]) + (" (crowd)" if crowd else "")
    if "score" in result:
        label += f" {100 * result['score']:.0f}%"
    x, y, width, height = (scale * value for value in result["bbox"])
    color = CROWD_COLOR if crowd else class_color(class_index, instance)
    skeleton = read_skeleton(result, labels.categories[class_index])
    return _Shape((x, y, x + width, y + height), result.get("segmentation"), skeleton, color, label)


def _decode(segmentation: Any, image_size: tuple[int, int], scale: int) -> NDArray[np.bool_]:
    """The mask (H * scale, W * scale) of a COCO segmentation of any kind."""
    height, width = image_size
    if isinstance(segmentation, list):
        segmentation = rle_masks.merge(rle_masks.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = rle_masks.frPyObjects(segmentation, height, width)
    mask = rle_masks.decode(segmentation)
    if scale > 1:
        mask = np.asarray(_enlarge(Image.fromarray(mask * np.uint8(255)), (width * scale, height * scale))) >= 128
    return mask.astype(bool)


def _enlarge(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def _tint(canvas: Pixels, mask: NDArray[np.bool_], color: Color, stroke: int) -> None:
    """Mix a colour into the pixels of a mask and trace its border in full colour, in place."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    inside = mask[top:bottom, left:right]
    inner = np.pad(inside, stroke)
    for axis in (0, 1):
        inner = np.logical_and.reduce([np.roll(inner, step, axis=axis) for step in range(-stroke, stroke + 1)])
    border = inside & ~inner[stroke:-stroke, stroke:-stroke]
    region = canvas[top:bottom, left:right]
    rgb = np.array(color, dtype=np.float32)
    region[inside] = (region[inside] * (1 - TINT) + rgb * TINT).astype(np.uint8)
    region[border] = color


def _draw_boxes(image: Image.Image, shapes: list[_Shape], stroke: int) -> None:
    draw = ImageDraw.Draw(image)
    for shape in shapes:
        x0, y0, x1, y1 = (round(value) for value in shape.box)
        # Corners are pixel edges: the last pixel inside is one before.
        draw.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=shape.color, width=stroke)


def _draw_labels(image: Image.Image, shapes: list[_Shape]) -> None:
    """Labels beside their boxes where they hide no other label, as far as there is room."""
    size = int(np.clip(min(image.size) / 34, 11, 34))
    draw = ImageDraw.Draw(image)
    taken: list[Rectangle] = []
    pad = max(1, size // 6)
    for shape in reversed(shapes):  # the small ones, which have the least room, choose first
        runs = split_runs(shape.label, size)
        left, top, right, bottom = _extent(draw, runs)
        width, height = right - left + 2 * pad, bottom - top + 2 * pad
        place = _place(shape.box, (width, height), image.size, taken)
        taken.append(place)
        draw.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=shape.color)
        red, green, blue = shape.color
        ink = (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
        _write(draw, runs, (place[0] + pad - left, place[1] + pad - top), ink)


def _extent(draw: ImageDraw.ImageDraw, runs: Sequence[Run]) -> Rectangle:
    """The pixels of runs that are written one after the other at (0, 0)."""
    if len(runs) == 1:
        left, top, right, bottom = (int(value) for value in draw.textbbox((0, 0), runs[0][1], font=runs[0][0]))
        return left, top, right, bottom
    boxes = [draw.textbbox((x, 0), text, font=font, anchor="ls") for x, font, text in _places(draw, runs)]
    left, top = (int(min(box[k] for box in boxes)) for k in (0, 1))
    right, bottom = (int(max(box[k] for box in boxes)) for k in (2, 3))
    return left, top, right, bottom


def _write(draw: ImageDraw.ImageDraw, runs: Sequence[Run], corner: tuple[int, int], ink: Color) -> None:
    if len(runs) == 1:
        draw.text(corner, runs[0][1], fill=ink, font=runs[0][0])
        return
    for x, font, text in _places(draw, runs):
        draw.text((corner[0] + x, corner[1]), text, fill=ink, font=font, anchor="ls")  # on one baseline


def _places(draw: ImageDraw.ImageDraw, runs: Sequence[Run]) -> Iterator[tuple[int, Font, str]]:
    """Runs with the column at which each begins."""
    x = 0.0
    for font, text in runs:
        yield round(x), font, text
        x += draw.textlength(text, font=font)


def _place(
    box: tuple[float, float, float, float], size: tuple[int, int], bounds: tuple[int, int], taken: list[Rectangle]
) -> Rectangle:
    """The first free place for a label of (width, height) pixels: above its box, below it, or inside it."""
    x0, y0, x1, y1 = (round(value) for value in box)
    width, height = size
    tried = []
    for x, y in ((x0, y0 - height), (x0, y1), (x1 - width, y0 - height), (x0, y0), (x1 - width, y1), (x1, y0)):
        x, y = max(0, min(x, bounds[0] - width)), max(0, min(y, bounds[1] - height))
        place = (x, y, x + width, y + height)
        tried.append(place)
        if not any(place[0] < t[2] and t[0] < place[2] and place[1] < t[3] and t[1] < place[3] for t in taken):
            return place
    return tried[0]
