"""AP of some objects alone: attributes by hand, and by area as COCO has it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maskray.ops.match_images import match_images
from maskray.platform.evaluation.diagnosis import diagnose_entries
from maskray.platform.evaluation.diagnostics import measure_slices
from maskray.platform.evaluation.matching import IOU_THRESHOLDS, gather_images
from maskray.platform.evaluation.slices import ATTRIBUTES, NUM_RANGES, measure_regions

CATEGORIES = [2, 5, 9]
BOXES = [[10.0, 10.0, 40.0, 20.0], [40.0, 10.0, 20.0, 20.0], [80.0, 60.0, 6.0, 12.0]]


def entries(detections, boxes=BOXES, crowd=()):
    gt = [
        {"category_id": 2, "bbox": box, "area": box[2] * box[3], "iscrowd": int(n in crowd)}
        for n, box in enumerate(boxes)
    ]
    return [(1, (100, 100), gt, [{"category_id": 2, "bbox": box, "score": 0.5} for box in detections])]


def test_attributes_by_hand():
    _, _, objects, detections, _ = gather_images(entries([[10.0, 10.0, 40.0, 16.0]]), CATEGORIES, "bbox")
    of_objects, of_detections = measure_regions(objects, detections)
    # width / height; other boxes that touch; the largest share inside another one; objects in the image
    assert of_objects.tolist() == [[2, 1, 0.25, 3], [1, 1, 0.5, 3], [0.5, 0, 0, 3]]
    # It overlaps the first most, so that this is not one of the others.
    assert of_detections.tolist() == [[2.5, 1, 0.25, 3]]


def test_crowds_are_no_others():
    _, _, objects, detections, _ = gather_images(entries([], crowd=(1,)), CATEGORIES, "bbox")
    of_objects, of_detections = measure_regions(objects, detections)
    assert of_objects[:, 3].tolist() == [2, 2, 2]
    assert of_objects[0, 1:3].tolist() == [0, 0]
    assert of_detections.shape == (0, len(ATTRIBUTES))


def test_precision_of_the_objects_in_a_range():
    found = measure_slices(diagnose_entries(entries([BOXES[0], [0.0, 80.0, 30.0, 10.0]]), CATEGORIES, "bbox"))
    values = {(one.attribute, one.name): (one.average_precision, one.objects) for one in found}
    assert len(values) == NUM_RANGES * len(ATTRIBUTES)
    # The wide one is found, and the wrong detection is wide and ranks behind it.
    assert values["aspect", "wide, from 1.33"] == (pytest.approx(1), 1)
    assert values["aspect", "tall, to 0.75"] == (0, 1)
    # Of two objects that one other touches the first is found.
    assert values["crowding", "1 or 2 others"] == (pytest.approx(51 / 101), 2)
    assert np.isnan(values["crowding", "3 or more"][0])
    assert values["objects in the image", "to 3"] == (pytest.approx(34 / 101), 3)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_areas_as_measures_are_areas(draw_errors, as_entries, iou_type):
    _, sizes, objects, detections, _ = gather_images(as_entries(*draw_errors(4)), CATEGORIES, iou_type)
    ranges = np.array([[0, 300.0], [300.0, 1e10]])
    plain = match_images(iou_type, sizes, objects, detections, ranges, IOU_THRESHOLDS, 100)
    measured = replace(objects, measures=objects.areas), replace(detections, measures=detections.areas)
    found = match_images(iou_type, sizes, *measured, ranges, IOU_THRESHOLDS, 100)
    for name, values in vars(plain).items():
        np.testing.assert_array_equal(values, getattr(found, name))
    assert (plain.ignored != 0).any()


def test_a_detection_on_the_border_of_two_ranges_is_in_both():
    for attribute in ATTRIBUTES:
        ends = list(attribute.ranges.values())
        assert ends[0][0] == 0
        assert len(ends) == NUM_RANGES
        assert all(low <= high for low, high in ends)
