"""Evaluation of files: the published metrics through Ray, and one clear line for everything that can be wrong."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle_masks

from maskray.platform.data.formats.segmentation import rle_text_problem
from maskray.platform.evaluation.evaluate_files import evaluate_files
from maskray.platform.evaluation.results import GroundTruth, read_results

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(0, 20) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from(["size", "counts"]), inner),
    max_leaves=8,
)


@pytest.fixture
def files(tmp_path):
    """Writes an annotation file of one 20x10 image with one object, and a results file; returns both paths."""
    mask = np.zeros((10, 20), dtype=np.uint8, order="F")
    mask[2:8, 3:12] = 1
    rle = rle_masks.encode(mask)
    segmentation = {"size": [10, 20], "counts": rle["counts"].decode()}
    ground_truth: dict[str, Any] = {
        "images": [{"id": 7, "height": 10, "width": 20}],
        "categories": [{"id": 3, "name": "thing"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 3,
                "bbox": [3, 2, 9, 6],
                "area": 54,
                "iscrowd": 0,
                "segmentation": segmentation,
            }
        ],
    }
    result = {"image_id": 7, "category_id": 3, "bbox": [3, 2, 9, 6], "score": 0.9, "segmentation": segmentation}

    def write(change_gt=None, change_result=None, results: Any = None) -> tuple[Path, Path]:
        if change_gt:
            change_gt(ground_truth)
        if change_result:
            change_result(result)
        (tmp_path / "gt.json").write_text(json.dumps(ground_truth))
        (tmp_path / "dt.json").write_text(json.dumps([result] if results is None else results))
        return tmp_path / "gt.json", tmp_path / "dt.json"

    return write


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_a_perfect_detection_scores_one(files, iou_type):
    stats = evaluate_files(*files(), iou_type).stats
    assert stats[:4] == pytest.approx([1.0] * 4)  # pycocotools adds an epsilon
    assert stats[4:6] == [-1.0, -1.0]


def test_boxes_come_from_masks_where_a_file_has_masks_only(files):
    assert evaluate_files(*files(change_result=lambda r: r.pop("bbox")), "bbox").stats[0] == pytest.approx(1.0)


def test_boxes_come_from_polygons_too(files):
    """The polygon of the very box; whole numbers as float and ids as text are of the same object."""
    polygon = {"segmentation": [[3, 2, 12, 2, 12, 8, 3, 8]], "image_id": 7.0, "category_id": "3"}
    gt, dt = files(change_result=lambda r: (r.pop("bbox"), r.update(polygon)))
    assert evaluate_files(gt, dt, "bbox").stats[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "change",
    [
        {"iscrowd": "0"},
        {"iscrowd": None},
        {"area": "54"},
        {"area": None},
        {"image_id": 7.0},
        {"bbox": None},
        {"id": "1"},
    ],
)
def test_ground_truth_is_read_as_meant_and_that_is_told(files, caplog, change):
    stats = evaluate_files(*files(change_gt=lambda g: g["annotations"][0].update(change)), "bbox").stats
    assert stats == evaluate_files(*files(change_gt=lambda g: g["annotations"][0].update(id=1)), "bbox").stats
    assert stats[0] == pytest.approx(1.0)
    assert "gt.json: read as meant: 1 " in caplog.text


def test_ground_truth_of_boxes_alone_evaluates_boxes(files):
    gt, dt = files(change_gt=lambda g: g["annotations"][0].pop("segmentation"))
    assert evaluate_files(gt, dt, "bbox").stats[0] == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"annotation 1: no segmentation, which segm needs \(1 of 1 annotations\)"):
        evaluate_files(gt, dt, "segm")


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["image_id", "category_id", "score", "bbox", "segmentation", "keypoints"]), VALUES)
)
@pytest.mark.parametrize("iou_type", ["bbox", "segm", "keypoints"])
def test_any_result_is_read_or_refused_in_one_line(iou_type, change):
    truth = GroundTruth(Path("gt"), {7: (10, 20)}, {7: []}, (3,))
    entry = {"image_id": 7, "category_id": 3, "score": 0.5, "bbox": [1, 2, 3, 4]} | change
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps([entry]))
        file.flush()
        told = f"{file.name}: result 0: "
        try:
            read_results(file.name, truth, iou_type)
        except ValueError as error:
            told = str(error)
    assert told.startswith(f"{file.name}: result 0: ")
    assert told.isprintable()


def test_no_detections_at_all_score_zero(files):
    assert evaluate_files(*files(results=[]), "segm").stats[:4] == [0.0] * 4


def test_detections_of_unknown_categories_are_left_out_and_told(files, caplog):
    gt, dt = files(change_result=lambda r: r.update(category_id=99))
    assert evaluate_files(gt, dt, "bbox").stats[0] == 0.0
    assert "1 of 1 results" in caplog.text


@pytest.mark.parametrize(
    ("change", "iou_type", "message"),
    [
        (lambda r: r.update(image_id=8), "bbox", r"dt\.json: result 0: image id 8 is not in .*gt\.json"),
        (lambda r: r.pop("score"), "bbox", "result 0: no 'score'"),
        (lambda r: r.pop("category_id"), "bbox", "result 0: no 'category_id'"),
        (lambda r: r.update(score="high"), "bbox", "score is 'high', not a number"),
        (lambda r: r.update(score=float("nan")), "bbox", "score is nan, not a number"),
        (lambda r: r.update(bbox=[1, 2, 3]), "bbox", "not four numbers"),
        (lambda r: r.update(bbox=[1, 2, 3, None]), "bbox", "not four numbers"),
        (lambda r: r.pop("segmentation"), "segm", "result 0: no segmentation, which segm needs"),
        (lambda r: r["segmentation"].update(size=[20, 10]), "segm", r"RLE size \[20, 10\]"),
        (lambda r: r["segmentation"].update(counts="~~~~"), "segm", "cut short or hold letters"),
        (lambda r: r["segmentation"].update(counts="oooo"), "segm", "cut short or hold letters"),
        (lambda r: r["segmentation"].update(counts="1234"), "segm", "do not add up to the 200 pixels"),
        (lambda r: r["segmentation"].update(counts=[5, 4]), "segm", "do not add up to 200 pixels"),
    ],
)
def test_a_bad_result_is_named(files, change, iou_type, message):
    gt, dt = files(change_result=change)
    with pytest.raises(ValueError, match=message):
        evaluate_files(gt, dt, iou_type)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g["annotations"][0].update(image_id=1), "annotation 1: image id 1 is not among the images"),
        (lambda g: g["annotations"][0].update(category_id=1), "annotation 1: category id 1 is not among"),
        (lambda g: g["annotations"][0].update(segmentation=[]), "annotation 1: no segmentation, which segm needs"),
        (lambda g: g["images"][0].pop("height"), "image 7: height is None, not an integer"),
        (lambda g: g["images"].append(g["images"][0]), "image id 7 stands twice"),
        (lambda g: g.pop("categories"), "no list 'categories'"),
    ],
)
def test_a_bad_annotation_file_is_named(files, change, message):
    gt, dt = files(change_gt=change)
    with pytest.raises(ValueError, match=r"gt\.json: " + message + r"|gt\.json: .*" + message):
        evaluate_files(gt, dt, "segm")


def test_files_that_are_missing_cut_short_or_something_else(files):
    gt, dt = files()
    with pytest.raises(ValueError, match=r"nowhere\.json"):
        evaluate_files(gt, dt.with_name("nowhere.json"), "bbox")
    dt.write_text(dt.read_text()[:-20])
    with pytest.raises(ValueError, match=r"dt\.json: not JSON"):
        evaluate_files(gt, dt, "bbox")
    with pytest.raises(ValueError, match=r"gt\.json: not a COCO results file"):
        evaluate_files(gt, gt, "bbox")
    with pytest.raises(ValueError, match="IoU type 'mask'"):
        evaluate_files(gt, dt, "mask")  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**31))
def test_the_rle_of_any_mask_is_sound_and_a_changed_one_is_not(height, width, density, seed):
    mask = np.asfortranarray(np.random.default_rng(seed).random((height, width)) < density)
    counts = rle_masks.encode(mask.astype(np.uint8))["counts"].decode()
    assert rle_text_problem(counts, mask.size) is None
    assert rle_text_problem(counts + "1", mask.size) is not None
    assert rle_text_problem(counts[:-1], mask.size) is not None


def test_ray_tasks_give_the_published_metrics(ray_cluster, shared):
    folder = shared("data/coco-eval-reference")
    expected = json.loads((folder / "expected.json").read_text())
    for iou_type in ("bbox", "segm"):
        results = folder / f"instances_val2014_fake{iou_type}100_results.json"
        for partitions in (1, 3, 7):
            metrics = evaluate_files(folder / "instances_val2014_100.json", results, iou_type, partitions)
            assert metrics.stats == pytest.approx(expected[iou_type], abs=1e-12)  # of float64 sums in another order
