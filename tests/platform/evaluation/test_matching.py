"""Objects without a mask in ground truth for masks: what lies on them neither counts nor harms."""

from __future__ import annotations

import pytest

from maskray.platform.evaluation.coco_ap import merge
from maskray.platform.evaluation.matching import ignore_maskless, match_image

SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]
OTHER = [[60, 60, 80, 60, 80, 80, 60, 80]]


def box(number: int, corner: int, **keys: object) -> dict[str, object]:
    whole = {"id": number, "category_id": 1, "bbox": [corner, corner, 20, 20], "area": 400.0, "iscrowd": 0}
    return whole | keys


def test_a_detection_on_an_object_without_mask_is_ignored() -> None:
    truth = [box(1, 10, segmentation=SQUARE), box(2, 60, segmentation=None)]
    with pytest.raises(ValueError, match="no segmentation, which segm needs"):
        match_image(1, (100, 100), truth, [], [1], "segm")
    ignoring = ignore_maskless(truth)
    assert ignoring[0] is truth[0]
    assert truth[1]["segmentation"] is None
    found = [
        {"category_id": 1, "score": 0.9, "segmentation": OTHER},  # better than the right one, and no false positive
        {"category_id": 1, "score": 0.8, "segmentation": SQUARE},
    ]
    metrics = merge([match_image(1, (100, 100), ignoring, found, [1], "segm")], [1], "segm").metrics
    assert metrics["segm/AP"] == pytest.approx(1.0)
    assert metrics["segm/AR100"] == pytest.approx(1.0)
    alone = merge([match_image(1, (100, 100), truth[:1], found, [1], "segm")], [1], "segm").metrics
    assert alone["segm/AP"] == pytest.approx(0.5)
