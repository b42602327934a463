"""One entry of `annotations` of a COCO file to an object, whatever JSON values stand in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from maskray.platform.data.formats.json_values import is_number, is_pixels, read_flag, read_whole
from maskray.platform.data.formats.problem import VERDICTS, shown
from maskray.platform.data.formats.records import Annotation, ImageRecord, Segmentation
from maskray.platform.data.formats.segmentation import Finding, mask_area, read_segmentation, segmentation_box

if TYPE_CHECKING:
    from maskray.model.config import Category

Box = tuple[float, float, float, float]

OUTSIDE_PIXELS = 1.0  # COCO's own boxes stick out by fractions of a pixel
LARGEST_AREA = 1e15
LEAST_EDGE = 8  # an image with a shorter side may well have all its coordinates below 1


def read_object(
    entry: Mapping[str, Any], annotation_id: int, category: Category, image: ImageRecord
) -> tuple[Annotation | None, list[Finding]]:
    """The object of an entry whose ids are known, and what was odd about it; None where it has to be left out."""
    findings: list[Finding] = []
    iscrowd = _read_crowd(entry, findings)
    segmentation, of_mask = read_segmentation(entry.get("segmentation"), image.height, image.width)
    findings += of_mask
    bbox = _read_box(entry.get("bbox"), segmentation, image, findings)
    keypoints, num_keypoints = _read_keypoints(entry, category, findings)
    if any(VERDICTS[code] == "dropped" for code, _ in findings) or iscrowd is None or bbox is None:
        return None, [finding for finding in findings if VERDICTS[finding[0]] == "dropped"]
    if segmentation is not None and has_fractions(segmentation, image) and not _is_fraction_box(bbox, image):
        message = "the polygons lie within one pixel, the box does not: fractions of the image in place of pixels"
        return None, [("bad_segmentation", message)]
    area = _read_area(entry, bbox, segmentation, image, findings)
    return Annotation(annotation_id, category.id, bbox, area, iscrowd, segmentation, keypoints, num_keypoints), findings


def _read_crowd(entry: Mapping[str, Any], findings: list[Finding]) -> int | None:
    value = entry.get("iscrowd", 0)
    flag = read_flag(value)
    if flag is None:
        findings.append(("bad_iscrowd", f"iscrowd is {shown(value)}, not 0 or 1"))
    elif type(value) is not int:
        findings.append(("iscrowd_read", f"iscrowd is {shown(value)}, read as {flag}"))
    return flag


def _read_box(value: Any, segmentation: Segmentation | None, image: ImageRecord, findings: list[Finding]) -> Box | None:
    bbox: Box
    if value is None or value == []:
        if segmentation is None:
            findings.append(("bad_bbox", f"bbox is {shown(value)}, not four numbers x y width height"))
            return None
        bbox = segmentation_box(segmentation, image.height, image.width)
        findings.append(("bbox_computed", "no bbox, taken of the segmentation"))
    elif is_pixels(value) and len(value) == 4:
        bbox = (float(value[0]), float(value[1]), float(value[2]), float(value[3]))
    else:
        findings.append(("bad_bbox", f"bbox is {shown(value)}, not four numbers x y width height"))
        return None
    x, y, width, height = bbox
    if width <= 0 or height <= 0:
        findings.append(("zero_area", f"bbox {list(bbox)} has no area"))
    elif x >= image.width or y >= image.height or x + width <= 0 or y + height <= 0:
        message = f"bbox {list(bbox)} lies outside the image of {image.width}x{image.height}"
        findings.append(("outside_image", message))
    elif max(-x, -y, x + width - image.width, y + height - image.height) > OUTSIDE_PIXELS:
        message = f"bbox {list(bbox)} leaves the image of {image.width}x{image.height}"
        findings.append(("box_outside_image", message))
    return bbox


def _read_area(
    entry: Mapping[str, Any],
    bbox: Box,
    segmentation: Segmentation | None,
    image: ImageRecord,
    findings: list[Finding],
) -> float:
    value: Any = entry.get("area")
    if is_number(value) and 0 <= value < LARGEST_AREA:
        return float(value)
    if segmentation is None:
        area, source = bbox[2] * bbox[3], "box"
    else:
        area, source = mask_area(segmentation, image.height, image.width), "mask"
    findings.append(("area_computed", f"area is {shown(value)}, taken of the {source}"))
    return area


def _read_keypoints(
    entry: Mapping[str, Any], category: Category, findings: list[Finding]
) -> tuple[list[float] | None, int]:
    keypoints: Any = entry.get("keypoints")
    keypoints = None if keypoints == [] else keypoints
    if keypoints is not None and (not is_pixels(keypoints) or len(keypoints) % 3):
        findings.append(("keypoints_length", "keypoints are not triples x y visibility"))
        return None, 0
    if keypoints is not None and category.keypoints and 3 * len(category.keypoints) != len(keypoints):
        message = f"{len(keypoints) // 3} keypoints, its category names {len(category.keypoints)}"
        findings.append(("keypoints_length", message))
        return None, 0
    labelled = sum(visibility > 0 for visibility in keypoints[2::3]) if keypoints else 0
    if "num_keypoints" not in entry:
        return keypoints, labelled
    stated = read_whole(entry["num_keypoints"])
    if stated is None or not 0 <= stated <= LARGEST_AREA or (keypoints is None and stated):
        findings.append(("keypoints_counted", f"num_keypoints is {shown(entry['num_keypoints'])}, {labelled} counted"))
        return keypoints, labelled
    if stated != labelled:
        findings.append(("keypoints_count", f"num_keypoints is {stated}, {labelled} are labelled"))
    return keypoints, stated


def is_fraction(annotation: Annotation, image: ImageRecord) -> bool:
    """Whether the box lies within the first pixel of an image of some size, as fractions of the image would."""
    return _is_fraction_box(annotation.bbox, image)


def _is_fraction_box(bbox: Box, image: ImageRecord) -> bool:
    x, y, width, height = bbox
    return x >= 0 and y >= 0 and x + width <= 1 and y + height <= 1 and min(image.width, image.height) >= LEAST_EDGE


def has_fractions(segmentation: Segmentation, image: ImageRecord) -> bool:
    """Whether all coordinates of polygons lie within the first pixel of an image of some size."""
    if not isinstance(segmentation, list) or min(image.width, image.height) < LEAST_EDGE:
        return False
    return all(max(polygon) <= 1 and min(polygon) >= 0 for polygon in segmentation)


def count_from_one(keypoints: Any, skeleton: Any) -> Any:
    """A skeleton that counts keypoints from 0 counted from 1; anything else as it is."""
    try:
        ends = [end for pair in skeleton for end in pair]
    except TypeError:
        return skeleton
    if not ends or not {type(end) for end in ends} <= {int} or not isinstance(keypoints, list):
        return skeleton
    if min(ends) != 0 or max(ends) >= len(keypoints):
        return skeleton
    return [[end + 1 for end in pair] for pair in skeleton]
