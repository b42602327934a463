"""Errors and what they cost: by hand, and as tidecv and hotcoco have them on random images."""

from __future__ import annotations

import copy
import importlib.util
import sys
import types
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from maskray.platform.evaluation.diagnosis import diagnose_entries
from maskray.platform.evaluation.error_costs import KINDS, class_precisions, measure_errors

CATEGORIES = [2, 5, 9]
NAMES = {
    "Cls": "class",
    "Loc": "localisation",
    "Both": "both",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
}
# What tidecv 1.0.1 makes of draw_errors(0): AP, and what errors cost in the order of NAMES, in percent.
TIDECV_OF_SEED_0 = {
    "bbox": [
        14.976661662724288,
        2.6229203950048134,
        7.670881187828469,
        1.4967629798115478,
        0.939023328937509,
        9.495132287431668,
        6.733881720278005,
    ],
    "segm": [
        13.618313238977564,
        2.2524457344612614,
        9.26870522738173,
        1.256659463643862,
        0.7813639351178097,
        9.13425289024428,
        5.841738077657322,
    ],
}


def by_hand(ground_truth: list[Any], detections: list[Any]) -> Any:
    gt = [{"category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": crowd} for c, b, crowd in ground_truth]
    dt = [{"category_id": c, "bbox": b, "score": s} for c, b, s in detections]
    return measure_errors(diagnose_entries([(1, (100, 100), gt, dt)], CATEGORIES, "bbox"))


def test_every_kind_of_error_is_told():
    box = [10.0, 10.0, 20.0, 20.0]
    found = by_hand(
        [
            (2, box, 0),
            (5, [60.0, 60.0, 20.0, 20.0], 0),
            (9, [10.0, 60.0, 20.0, 20.0], 0),
            (2, [70.0, 5.0, 9.0, 9.0], 0),
        ],
        [
            (2, box, 0.9),
            (2, [10.0, 10.0, 20.0, 19.0], 0.8),  # the same once more
            (9, [60.0, 60.0, 20.0, 20.0], 0.7),  # of class 5
            (9, [10.0, 68.0, 20.0, 20.0], 0.6),  # IoU 3/7
            (5, [12.0, 70.0, 20.0, 20.0], 0.5),  # IoU 9/31 of class 9
            (5, [40.0, 40.0, 9.0, 9.0], 0.4),
        ],
    )
    counts = {name: values.tolist() for name, values in found.counts.items()}
    assert counts == {
        "class": [0, 0, 1],
        "localisation": [0, 0, 1],
        "both": [0, 1, 0],
        "duplicate": [1, 0, 0],
        "background": [0, 1, 0],
        "missed": [1, 0, 0],
    }
    # Class 2: one of two objects, found first: precision 1 to recall 0.5, 51 of 101 levels. The others: nothing.
    assert found.average_precision == pytest.approx(51 / 101 / 3)
    # Class 5 becomes right, of class 9 an error remains that ranks before nothing that is right.
    assert found.costs["class"] == pytest.approx(1 / 3)
    assert found.costs["missed"] == pytest.approx((1 - 51 / 101) / 3)
    assert found.costs["duplicate"] == found.costs["both"] == found.costs["background"] == 0


def test_what_lies_in_a_crowd_is_no_error_of_precision():
    box = [10.0, 10.0, 20.0, 20.0]
    crowd = (2, [50.0, 50.0, 40.0, 40.0], 1)
    without = by_hand([(2, box, 0)], [(2, box, 0.5)])
    found = by_hand([(2, box, 0), crowd], [(2, [55.0, 55.0, 9.0, 9.0], 0.9), (2, box, 0.5)])
    assert found.average_precision == without.average_precision == 1
    assert found.counts["missed"].tolist() == [0, 0, 0]


def test_precision_by_hand():
    # Right, wrong, right of three objects: precision 1 to recall 1/3 (34 levels), then 2/3 to 2/3 (33 levels).
    classes, scores = np.zeros(3, np.int32), np.array([0.9, 0.8, 0.7])
    (value, nothing) = class_precisions(classes, scores, np.array([True, False, True]), np.array([3, 4]))
    assert value == pytest.approx((34 + 33 * 2 / 3) / 101)
    assert nothing == 0


def test_nothing_at_all():
    found = measure_errors(diagnose_entries([], CATEGORIES, "bbox"))
    assert found.average_precision == 0
    assert set(found.costs.values()) == {0.0}


@pytest.fixture
def tidecv(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package, which wants OpenCV and seaborn for its drawings alone."""
    if importlib.util.find_spec("tidecv") is None:
        pytest.skip("the package tidecv is not installed; the golden numbers of it are tested")
    wanted = {"cv2": {"FONT_HERSHEY_SIMPLEX": 0, "LINE_AA": 0}, "seaborn": {}, "appdirs": {"user_data_dir": str}}
    for name, values in wanted.items():
        if importlib.util.find_spec(name) is None:
            module = types.ModuleType(name)
            vars(module).update(values)
            monkeypatch.setitem(sys.modules, name, module)
    import tidecv

    return tidecv


def run_tidecv(tidecv: Any, dataset: dict[str, Any], results: list[dict[str, Any]], iou_type: str) -> Any:
    truth, found = tidecv.Data("truth"), tidecv.Data("found")
    for image in dataset["images"]:
        truth.add_image(image["id"], "")
    sizes = {image["id"]: (image["height"], image["width"]) for image in dataset["images"]}
    for one in dataset["annotations"]:
        mask = one["segmentation"]
        if isinstance(mask, list):
            mask = coco_mask.merge(coco_mask.frPyObjects(mask, *sizes[one["image_id"]]))
        add = truth.add_ignore_region if one["iscrowd"] else truth.add_ground_truth
        add(one["image_id"], one["category_id"], one["bbox"], mask)
    for one in results:
        found.add_detection(one["image_id"], one["category_id"], one["score"], one["bbox"], one["segmentation"])
    return tidecv.TIDERun(truth, found, 0.5, 0.1, "bbox" if iou_type == "bbox" else "mask", 100)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_errors_are_those_of_tidecv(tidecv, draw_errors, as_entries, iou_type):
    for seed in range(12):
        dataset, results = draw_errors(seed)
        theirs = run_tidecv(tidecv, dataset, copy.deepcopy(results), iou_type)
        ours = measure_errors(diagnose_entries(as_entries(dataset, results), CATEGORIES, iou_type))
        assert 100 * ours.average_precision == pytest.approx(theirs.ap, abs=1e-9)
        costs = {kind.short_name: cost for kind, cost in theirs.fix_main_errors().items()}
        counts = {kind.short_name: count for kind, count in theirs.count_errors().items()}
        for short, name in NAMES.items():
            assert ours.counts[name].sum() == counts[short], (seed, name)
            assert 100 * ours.costs[name] == pytest.approx(costs[short], abs=1e-9), (seed, name)
        assert set(NAMES.values()) == set(KINDS)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_errors_are_those_that_tidecv_had(draw_errors, as_entries, iou_type):
    ours = measure_errors(diagnose_entries(as_entries(*draw_errors(0)), CATEGORIES, iou_type))
    costs = [ours.average_precision, *(ours.costs[name] for name in NAMES.values())]
    np.testing.assert_allclose([100 * value for value in costs], TIDECV_OF_SEED_0[iou_type], atol=1e-9)
