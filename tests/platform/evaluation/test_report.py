"""What the report chooses to show, its charts, and the published metrics beside the measured ones."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from maskray.model.config import Category, LabelMap
from maskray.platform.evaluation import rules
from maskray.platform.evaluation.charts import history_chart, precision_recall_chart
from maskray.platform.evaluation.chosen_images import REASONS, choose_images, image_quality, rank_images
from maskray.platform.evaluation.coco_ap import merge
from maskray.platform.evaluation.definitions import MEANING, all_definitions
from maskray.platform.evaluation.diagnosis import diagnose_entries
from maskray.platform.evaluation.error_costs import KINDS
from maskray.platform.evaluation.matching import match_image
from maskray.platform.evaluation.paper import read_paper_row
from maskray.platform.evaluation.report_tables import metric_rows
from maskray.platform.evaluation.rules import IOU_TYPES, metric_names
from maskray.platform.evaluation.tables import per_class_rows


def part(gt_boxes, detections):
    ground_truth = [{"category_id": 1, "bbox": b, "area": b[2] * b[3], "iscrowd": 0} for b in gt_boxes]
    found = [{"category_id": 1, "bbox": b, "score": s} for b, s in detections]
    return match_image(1, (100, 100), ground_truth, found, [1], "bbox")


def test_quality_is_f1_of_what_is_drawn():
    box = [10.0, 10.0, 40.0, 40.0]
    assert image_quality(part([box], [(box, 0.9)])) == pytest.approx(1.0)
    assert image_quality(part([box], [(box, 0.4)])) == 0.0  # too unsure to be drawn
    assert image_quality(part([box], [(box, 0.9), ([60, 60, 9, 9], 0.8)])) == pytest.approx(2 / 3)
    # 40x40 against 40x32: IoU 0.8, right at 0.50 to 0.80 (7 of the 10 thresholds)
    assert image_quality(part([box], [([10.0, 10.0, 40.0, 32.0], 0.9)])) == pytest.approx(0.7)
    assert math.isnan(image_quality(part([], [])))


@given(
    st.dictionaries(st.sampled_from(list(REASONS)), st.lists(st.integers(0, 50), unique=True, max_size=20)),
    st.integers(0, 25),
)
def test_images_are_chosen_once_each_and_as_many_as_there_are(ranked, number):
    chosen = choose_images(ranked, number)
    assert len(chosen) == min(number, len(set().union(*ranked.values())))
    for image_id, reasons in chosen.items():
        assert reasons
        assert all(image_id in ranked[reason] for reason in reasons)


def test_reasons_take_turns():
    ranked = {"first": [1, 2, 3], "best": [3, 5], "worst": [1, 4]}
    assert choose_images(ranked, 4) == {1: ["first", "worst"], 3: ["best"], 2: ["first"], 5: ["best"]}


def test_images_are_ranked_by_what_is_wrong_with_them():
    box, other = [10.0, 10.0, 40.0, 40.0], [55.0, 55.0, 40.0, 40.0]

    def image(image_id, objects, detections):
        gt = [{"category_id": c, "bbox": b, "area": 1600.0, "iscrowd": 0} for c, b in objects]
        return image_id, (100, 100), gt, [{"category_id": c, "bbox": b, "score": s} for c, b, s in detections]

    found = diagnose_entries(
        [
            image(1, [(1, box)], [(1, box, 0.9)]),
            image(2, [(1, box)], [(2, box, 0.85)]),
            image(3, [(1, box), (2, other)], [(1, box, 0.9)]),
            image(4, [(1, box)], [(1, box, 0.9), (2, other, 0.95)]),
            image(5, [(1, box)], [(1, box, 0.9), (2, other, 0.6)]),
        ],
        [1, 2],
        "bbox",
    )
    ranked = rank_images({1: 1.0, 2: 0.0, 3: 0.7, 4: 0.8, 5: math.nan}, found)
    assert ranked == {
        "first": [1, 2, 3, 4, 5],
        "best": [1, 4, 3, 2],
        "worst": [2, 3, 4, 1],
        "missed objects": [3],
        "confident and wrong": [4, 2, 5],
        "object without annotation?": [4],
        "annotation without object?": [3],
        "other class?": [2],
    }
    assert list(ranked) == list(REASONS)


def test_every_figure_and_error_has_a_definition():
    assert {*MEANING, *KINDS} <= set(all_definitions())


def test_charts_are_svg_that_does_not_change():
    metrics = [merge([part([[0.0, 0.0, 9.0, 9.0]], [([0.0, 0.0, 9.0, 9.0], 0.9)])], [1], "bbox")]
    chart = precision_recall_chart(metrics)
    assert chart.startswith("<svg ")
    assert "IoU 0.75" in chart
    assert chart == precision_recall_chart(metrics)
    assert "no ground truth" in precision_recall_chart([merge([], [1], "segm")])


def test_keypoints_have_rows_and_a_chart_of_their_own():
    found = {"category_id": 1, "score": 0.9, "keypoints": [5.0, 6.0, 1.0] * 17, "bbox": [0.0, 0.0, 50.0, 50.0]}
    person = {"category_id": 1, "keypoints": [5, 6, 2] * 17, "bbox": [0, 0, 50, 50], "area": 2500.0}
    parts = {t: [match_image(1, (90, 90), [person], [found], [1], t)] for t in ("bbox", "keypoints")}
    metrics = [merge(part, [1], iou_type) for iou_type, part in parts.items()]
    rows = {row["name"]: [cell["measured"] for cell in row["cells"]] for row in metric_rows(metrics, None)}
    assert rows["AP"] == pytest.approx([1.0, 1.0])
    assert rows["AR"] == [None, 1.0]
    assert rows["AR100"] == [1.0, None]
    assert set(rows) <= set(MEANING)
    assert "OKS 0.75" in precision_recall_chart(metrics)
    (by_category,) = per_class_rows(metrics, LabelMap(categories=(Category(id=1, name="person"),)))
    assert by_category["objects"] == 1
    assert by_category["keypoints/AR"] == by_category["bbox/AR100"] == 1.0


def test_history_without_numbers_has_no_chart():
    assert history_chart([]) == ""
    assert history_chart([{"step": 1, "loss": None, "lr": 0.1}]) == ""
    chart = history_chart([{"step": 1, "loss": 2.0}, {"step": 2, "loss": np.inf}, {"step": 3, "val/segm/AP": 0.5}])
    assert "Loss" in chart
    assert "val/segm/AP" in chart


def test_published_rows_are_fractions():
    row = read_paper_row("2d/RoIAlign")
    assert row.metrics["segm/AP"] == pytest.approx(0.309)
    assert row.metrics["bbox/AP75"] == pytest.approx(0.364)
    assert set(read_paper_row("1/FCIS+++").metrics) == {"segm/AP", "segm/AP50"}
    together = read_paper_row("5/Mask R-CNN keypoint and mask").metrics
    assert together == pytest.approx({"bbox/AP": 0.52, "segm/AP": 0.451, "keypoints/AP": 0.647})


def test_every_published_metric_is_one_that_is_measured():
    measured = {f"{iou_type}/{name}" for iou_type in IOU_TYPES for name in metric_names(iou_type)}
    measured |= {f"cityscapes/{metric.name}" for metric in rules.CITYSCAPES_RULES.metrics}
    path = Path(rules.__file__).with_name("paper.yaml")
    for name, table in yaml.safe_load(path.read_text()).items():
        assert set(table["columns"]) <= measured
        assert {len(row) for row in table["rows"].values()} == {len(table["columns"])}, name


def test_unknown_rows_list_the_valid():
    with pytest.raises(ValueError, match="the rows of table 2a are R50-C4, "):
        read_paper_row("2a/R18")
    with pytest.raises(ValueError, match="the tables are 1, 2a, "):
        read_paper_row("R50-FPN")
