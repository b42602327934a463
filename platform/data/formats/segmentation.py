"""Segmentations of COCO files: polygons and run lengths as any program may have written them, checked and measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from maskray.platform.data.formats.json_values import is_pixels, read_whole
from maskray.platform.data.formats.problem import shown
from maskray.platform.data.formats.records import Segmentation

# Filling polygons takes memory along their outline, about 100 bytes a pixel, and small images are enlarged with it.
# Longer ones are of no object: one that goes around every pixel has 4 pixels of outline for each.
LONGEST_OUTLINE = 4_000_000
OUTLINE_PER_PIXEL, OUTLINE_PER_SIDE = 4, 1000
# Corners farther from the image than this many of its longer sides are of no object in it: a few of them would be
# outlines of millions of pixels, a tenth of a second each.
FARTHEST_SIDES = 10
# Of the counts of an RLE a pixel has one at most. Those of length 0 are allowed, within reason.
COUNTS_PER_PIXEL, TEXT_PER_COUNT = 2, 7

Finding = tuple[str, str]  # code and message


def read_segmentation(value: Any, height: int, width: int) -> tuple[Segmentation | None, list[Finding]]:
    """A segmentation of an image of this size in pixels, and what was odd about it.

    It is None where there is none, or where a finding says why the object has to be left out. What is sound already
    is returned as it is.
    """
    if value is None or value == [] or value == [[]]:
        return None, [("no_segmentation", "no segmentation: a box without a mask")]
    if isinstance(value, list):
        longest = OUTLINE_PER_PIXEL * height * width + OUTLINE_PER_SIDE * (height + width)
        return _read_polygons(value, min(longest, LONGEST_OUTLINE), FARTHEST_SIDES * max(height, width))
    if isinstance(value, dict) and "counts" in value and "size" in value:
        return _read_rle(value, height, width)
    return None, [("bad_segmentation", "segmentation is neither a list of polygons nor an RLE with size and counts")]


def _read_polygons(value: list[Any], longest: int, farthest: int) -> tuple[Segmentation | None, list[Finding]]:
    findings: list[Finding] = []
    if len(value) >= 6 and len(value) % 2 == 0 and is_pixels(value):
        value = [value]
        findings.append(("flat_polygon", "the polygon is not in a list of polygons"))
    if not all(map(is_pixels, value)):
        return None, [("bad_segmentation", "a polygon is not a list of numbers of pixels")]
    sound = [polygon for polygon in value if len(polygon) >= 6]
    for polygon in value:
        if len(polygon) % 2 or not sound:
            message = f"a polygon has {len(polygon)} coordinates; at least 6 and an even number are needed"
            return None, [("bad_segmentation", message)]
    if len(sound) < len(value):
        findings.append(("short_polygon", f"{len(value) - len(sound)} of its polygons are points or lines"))
    if any(min(polygon) < -farthest or max(polygon) > farthest for polygon in sound):
        return None, [("bad_segmentation", f"a polygon has corners farther than {farthest} pixels from its image")]
    if not _are_fillable(sound, longest):
        return None, [("bad_segmentation", "the polygons are longer than any outline of an object")]
    if len(sound) > 1:
        different = list({tuple(polygon): polygon for polygon in sound}.values())
        if len(different) < len(sound):
            findings.append(("duplicate_polygon", f"{len(sound) - len(different)} polygons stand twice"))
            sound = different
    return (value if len(sound) == len(value) else sound), findings


def _are_fillable(polygons: Sequence[Sequence[float]], longest: int) -> bool:
    if sum((max(polygon) - min(polygon)) * len(polygon) for polygon in polygons) <= longest:
        return True  # quickly: no step is longer than the extent
    total = 0.0
    for polygon in polygons:
        points = np.reshape(np.asarray(polygon, dtype=np.float64), (-1, 2))
        total += float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())
    return total <= longest


def _read_rle(value: dict[str, Any], height: int, width: int) -> tuple[Segmentation | None, list[Finding]]:
    size, counts = value["size"], value["counts"]
    if not isinstance(size, list) or [read_whole(side) for side in size] != [height, width]:
        return None, [("rle_mismatch", f"RLE size {shown(size)} is not [height, width] of its image {[height, width]}")]
    if isinstance(counts, str):
        problem = rle_text_problem(counts, height * width)
        if problem is not None:
            return None, [("rle_mismatch", problem)]
    elif isinstance(counts, list):
        if len(counts) > most_counts(height * width):
            return None, [("rle_mismatch", f"{len(counts)} RLE counts are more than {height * width} pixels can have")]
        whole = counts if set(map(type, counts)) <= {int} else [read_whole(count) for count in counts]
        if any(count is None or count < 0 for count in whole) or sum(whole) != height * width:
            return None, [("rle_mismatch", f"RLE counts do not add up to {height * width} pixels")]
        counts = whole
    else:
        return None, [("rle_mismatch", "RLE counts are neither a list nor text")]
    if counts is value["counts"] and set(map(type, size)) == {int}:
        return value, []
    return {**value, "size": [height, width], "counts": counts}, [("rle_as_float", "RLE with numbers such as 1.0")]


def most_counts(num_pixels: int) -> int:
    """How many run lengths an RLE of so many pixels may have, those of length 0 among them."""
    return COUNTS_PER_PIXEL * (num_pixels + 1)


def rle_text_problem(counts: str, num_pixels: int) -> str | None:
    """What is wrong with the text of compressed run lengths for an image of so many pixels, or None.

    The C code of pycocotools reads and writes beyond its memory where the text is cut short or the runs do not add up,
    so what comes from a file is decoded here first (the format is that of cocoapi's maskApi.c, rleFrString).
    """
    if len(counts) > TEXT_PER_COUNT * most_counts(num_pixels):
        return f"RLE text of {len(counts)} letters is longer than {num_pixels} pixels can have"
    try:
        digits = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        return "RLE counts hold letters that are not ASCII"
    if digits.size == 0 or (digits < 0).any() or (digits > 63).any() or digits[-1] & 32:
        return "RLE counts are cut short or hold letters that do not belong there"
    ends = np.flatnonzero((digits & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:
        return "an RLE count is too large"
    position = np.arange(digits.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((digits & 31) << (5 * position), starts)
    values -= np.where(digits[ends] & 16, np.int64(1) << (5 * lengths), 0)
    runs = values.copy()  # from the fourth on, a run is stored as the difference to the one two before it
    runs[1::2] = np.cumsum(values[1::2])
    runs[2::2] = np.cumsum(values[2::2])
    if (runs < 0).any() or runs.sum() != num_pixels:
        return f"RLE counts do not add up to the {num_pixels} pixels of its image"
    return None


def segmentation_rle(segmentation: Segmentation, height: int, width: int) -> dict[str, Any]:
    """A sound segmentation as one compressed RLE."""
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return dict(segmentation)


def mask_area(segmentation: Segmentation, height: int, width: int) -> float:
    """Pixels that a sound segmentation covers."""
    return float(coco_mask.area(segmentation_rle(segmentation, height, width)))


def segmentation_box(segmentation: Segmentation, height: int, width: int) -> tuple[float, float, float, float]:
    """Box x y width height in pixels of a sound segmentation; all 0 where an RLE covers nothing."""
    if isinstance(segmentation, list):
        xs = [value for polygon in segmentation for value in polygon[0::2]]
        ys = [value for polygon in segmentation for value in polygon[1::2]]
        left, top = float(min(xs)), float(min(ys))
        return left, top, max(xs) - left, max(ys) - top
    x, y, box_width, box_height = coco_mask.toBbox(segmentation_rle(segmentation, height, width)).tolist()
    return x, y, box_width, box_height
