"""COCO metrics: equal to pycocotools bit for bit, for random cases, published results and any partition."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskray.ops.match_images import match_overlaps, unpack_levels
from maskray.platform.data.formats.segmentation import segmentation_rle
from maskray.platform.evaluation.coco_ap import evaluate_images, merge
from maskray.platform.evaluation.matching import IOU_THRESHOLDS
from maskray.platform.evaluation.rules import REGION_RULES, metric_names

ORDER = 1e-12  # of float64 sums in another order


def pycocotools_metrics(ground_truth: dict[str, Any], detections: list[dict[str, Any]], iou_type: str) -> COCOeval:
    """What the reference implementation computes; it wants results files, and adds fields to what it is given."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = copy.deepcopy(ground_truth)
        gt.createIndex()
        results = copy.deepcopy(detections)
        if iou_type == "segm":  # with a box it would take the area of the box
            results = [{k: v for k, v in result.items() if k != "bbox"} for result in results]
        evaluation = COCOeval(gt, gt.loadRes(results), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def images_of(ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> list[Any]:
    return [
        (
            image["id"],
            (image["height"], image["width"]),
            [a for a in ground_truth["annotations"] if a["image_id"] == image["id"]],
            [d for d in detections if d["image_id"] == image["id"]],
        )
        for image in ground_truth["images"]
    ]


def our_metrics(ground_truth: dict[str, Any], detections: list[dict[str, Any]], iou_type: Any, partitions: int = 1):
    category_ids = [category["id"] for category in ground_truth["categories"]]
    images = images_of(ground_truth, detections)
    random.Random(partitions).shuffle(images)
    parts = [evaluate_images(images[i::partitions], category_ids, iou_type) for i in range(partitions)]
    return merge([part for group in reversed(parts) for part in group], category_ids, iou_type)


def assert_same(ground_truth: dict[str, Any], detections: list[dict[str, Any]], iou_type: str, partitions: int) -> None:
    theirs = pycocotools_metrics(ground_truth, detections, iou_type)
    ours = our_metrics(ground_truth, detections, iou_type, partitions)
    np.testing.assert_array_equal(ours.precision, theirs.eval["precision"])
    np.testing.assert_array_equal(ours.recall, theirs.eval["recall"])
    np.testing.assert_array_equal(ours.scores, theirs.eval["scores"])
    assert ours.stats == theirs.stats.tolist()


def triangle_rle(box: list[float], size: tuple[int, int]) -> dict[str, Any]:
    rle = segmentation_rle([[box[0], box[1], box[0] + box[2], box[1], box[0] + box[2] / 2, box[1] + box[3]]], *size)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def random_case(seed: int, num_images: int, most_objects: int, most_detections: int) -> tuple[dict, list[dict]]:
    """Ground truth with crowds, empty images, unused categories, and detections near it, off it, tied and many."""
    rng = random.Random(seed)
    category_ids = rng.sample(range(1, 90), 4)
    dataset: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": str(i)} for i in category_ids],
    }
    detections: list[dict[str, Any]] = []
    for image_id in rng.sample(range(1000), num_images):
        height, width = rng.randint(40, 240), rng.randint(40, 240)
        dataset["images"].append({"id": image_id, "height": height, "width": width, "file_name": f"{image_id}.jpg"})
        boxes = []
        for _ in range(rng.randint(0, most_objects)):
            w, h = rng.uniform(2, width), rng.uniform(2, height)
            box = [rng.uniform(0, width - w), rng.uniform(0, height - h), w, h]
            crowd = int(rng.random() < 0.2)
            rle = triangle_rle(box, (height, width))
            polygon = [[box[0], box[1], box[0] + w, box[1], box[0] + w / 2, box[1] + h]]
            category = rng.choice(category_ids[:3])  # the fourth has no ground truth
            boxes.append((category, box))
            dataset["annotations"].append(
                {
                    "id": len(dataset["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": box,
                    "area": float(rle_masks.area(rle)),
                    "iscrowd": crowd,
                    "segmentation": rle if crowd else polygon,
                }
            )
        for _ in range(rng.randint(0, most_detections)):
            category, box = rng.choice(boxes) if boxes and rng.random() < 0.8 else (rng.choice(category_ids), [0] * 4)
            x0, y0, w, h = (v + rng.choice([0.0, rng.uniform(-6, 6)]) for v in box)
            box = [max(x0, 0.0), max(y0, 0.0), max(w, 1.0), max(h, 1.0)]
            detections.append(
                {
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": box,
                    "score": rng.choice([rng.random(), round(rng.random(), 1)]),  # many ties
                    "segmentation": triangle_rle(box, (height, width)),
                }
            )
    return dataset, detections


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 8), st.integers(0, 12), st.integers(1, 25), st.integers(1, 4))
def test_random_cases_equal_pycocotools(seed, num_images, most_objects, most_detections, partitions):
    ground_truth, detections = random_case(seed, num_images, most_objects, most_detections)
    if not detections:  # pycocotools cannot load an empty list of results
        return
    for iou_type in ("bbox", "segm"):
        assert_same(ground_truth, detections, iou_type, partitions)


def test_more_than_100_detections_of_a_category_equal_pycocotools():
    ground_truth, detections = random_case(seed=5, num_images=2, most_objects=12, most_detections=1)
    seed_of = {a["image_id"]: a for a in ground_truth["annotations"]}
    assert seed_of
    rng = random.Random(0)
    for annotation in seed_of.values():
        for _ in range(260):
            x, y, w, h = annotation["bbox"]
            box = [x + rng.uniform(-3, 3), y, w, h]
            detections.append({**annotation, "bbox": box, "score": round(rng.random(), 2)})
    detections = [{k: d[k] for k in ("image_id", "category_id", "bbox", "score")} for d in detections]
    assert_same(ground_truth, detections, "bbox", 2)


def box_case(gt_boxes: list[list[float]], dt: list[tuple[list[float], float]]) -> tuple[dict, list[dict]]:
    dataset = {
        "images": [{"id": 1, "height": 100, "width": 100}],
        "categories": [{"id": 3, "name": "thing"}],
        "annotations": [
            {"id": i + 1, "image_id": 1, "category_id": 3, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for i, b in enumerate(gt_boxes)
        ],
    }
    return dataset, [{"image_id": 1, "category_id": 3, "bbox": b, "score": s} for b, s in dt]


def test_hand_computed_metrics():
    # Two objects of 20x20; one is found exactly, then a false positive, the other is never found: precision 1 up to
    # recall 0.5 (51 of 101 levels), recall 0.5. A 20x20 object is small (below 32x32).
    metrics = our_metrics(
        *box_case([[0, 0, 20, 20], [60, 60, 20, 20]], [([0, 0, 20, 20], 0.9), ([30, 0, 9, 9], 0.8)]), "bbox"
    )
    expected = dict.fromkeys(("AP", "AP50", "AP75", "APs"), 51 / 101)
    expected |= dict.fromkeys(("APm", "APl", "ARm", "ARl"), -1.0)
    expected |= dict.fromkeys(("AR1", "AR10", "AR100", "ARs"), 0.5)
    assert metrics.metrics == {
        f"bbox/{name}": pytest.approx(expected[name], abs=ORDER) for name in metric_names("bbox")
    }
    assert metrics.per_category()[3]["AP"] == pytest.approx(51 / 101)


def test_an_image_without_detections_lowers_recall_and_no_detections_at_all_give_zero():
    assert our_metrics(*box_case([[0, 0, 20, 20]], []), "bbox").stats[:4] == [0.0] * 4
    assert our_metrics(*box_case([], [([0, 0, 9, 9], 0.5)]), "bbox").stats == [-1.0] * 12
    assert merge([], [1, 2], "segm").stats == [-1.0] * 12


def match_greedily(overlaps, gt_ignored, crowd, det_areas):
    """Matched and ignored (D, A, T) of the matching alone."""
    areas = np.array(list(REGION_RULES.areas.values()))
    levels = match_overlaps(overlaps, gt_ignored, crowd, det_areas, areas, IOU_THRESHOLDS)
    return [unpack_levels(one, len(areas), len(IOU_THRESHOLDS)) for one in levels]


def test_greedy_matching_prefers_objects_that_count_then_overlap_then_the_later_one():
    all_count = np.zeros((4, 3), dtype=bool)
    nobody = np.zeros(3, dtype=bool)
    areas = np.array([500.0])
    tie = np.array([[0.7, 0.8, 0.8]])
    matched, ignored = match_greedily(np.vstack([tie, tie]), all_count, nobody, np.array([500.0, 500.0]))
    assert matched[:, 0, 0].tolist() == [True, True]
    assert matched[:, 0, 6].tolist() == [True, True]  # IoU 0.8: the second takes the other 0.8
    assert matched[:, 0, 7].tolist() == [False, False]
    only_poor_counts = np.array([[False, True, True]] * 4)
    matched, ignored = match_greedily(tie, only_poor_counts, nobody, areas)
    assert not ignored[0, 0, 4]  # at IoU 0.70 it takes the object that counts
    assert ignored[0, 0, 5]  # at 0.75 only ignored ones are left
    assert matched[0, 0, 5]


def test_a_crowd_swallows_any_number_of_detections():
    overlaps = np.full((3, 1), 0.9)
    matched, ignored = match_greedily(overlaps, np.ones((4, 1), dtype=bool), np.array([True]), np.full(3, 500.0))
    assert matched[:, :, 0].all()
    assert ignored[:, :, 0].all()


def test_an_image_evaluated_twice_is_an_error():
    ground_truth, detections = box_case([[0, 0, 20, 20]], [([0, 0, 20, 20], 0.9)])
    parts = evaluate_images(images_of(ground_truth, detections), [3], "bbox")
    with pytest.raises(ValueError, match="image 1 was evaluated twice"):
        merge(parts + parts, [3], "bbox")


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_an_error(score):
    with pytest.raises(ValueError, match="image 1: a detection has a score"):
        our_metrics(*box_case([[0, 0, 20, 20]], [([0, 0, 20, 20], score)]), "bbox")


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("partitions", [1, 3, 7])
def test_published_results_give_the_published_metrics(shared, iou_type, partitions):
    folder = shared("data/coco-eval-reference")
    ground_truth = json.loads((folder / "instances_val2014_100.json").read_text())
    detections = json.loads((folder / f"instances_val2014_fake{iou_type}100_results.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())
    metrics = our_metrics(ground_truth, detections, iou_type, partitions)
    assert metrics.num_images == 100
    assert metrics.stats == pytest.approx(expected[iou_type], abs=ORDER)
    theirs = pycocotools_metrics(ground_truth, detections, iou_type)
    np.testing.assert_array_equal(metrics.precision, theirs.eval["precision"])
    assert metrics.stats == theirs.stats.tolist()


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_disturbed_ground_truth_of_real_images_equals_pycocotools(shared, iou_type):
    ground_truth = json.loads(shared("data/coco-sample/annotations/instances_val2017.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in ground_truth["images"]}
    rng = random.Random(1)
    detections = []
    for annotation in ground_truth["annotations"]:
        for _ in range(rng.randint(0, 3)):
            mask = rle_masks.decode(segmentation_rle(annotation["segmentation"], *sizes[annotation["image_id"]]))
            shifted = np.asfortranarray(np.roll(mask, (rng.randint(-4, 4), rng.randint(-4, 4)), axis=(0, 1)))
            rle = rle_masks.encode(shifted)
            detections.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": annotation["category_id"],
                    "bbox": rle_masks.toBbox(rle).tolist(),
                    "score": round(rng.random(), 2),
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                }
            )
    assert len(detections) > 300
    assert_same(ground_truth, detections, iou_type, 5)
