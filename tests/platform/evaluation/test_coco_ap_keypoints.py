"""Keypoint metrics: equal to pycocotools for random persons, real ones and any partition; mistakes are named."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskray.platform.evaluation.coco_ap import CocoMetrics, evaluate_images, merge
from maskray.platform.evaluation.evaluate_files import evaluate_files
from maskray.platform.evaluation.oks import COCO_SIGMAS, NUM_KEYPOINTS, similarities
from maskray.platform.evaluation.rules import metric_names
from maskray.platform.job.config import COCO_KEYPOINTS

ORDER = 1e-12  # of float64 sums in another order


def test_the_persons_of_jobs_are_those_that_are_compared():
    assert NUM_KEYPOINTS == COCO_KEYPOINTS


def pycocotools_evaluation(ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = copy.deepcopy(ground_truth)
        gt.createIndex()
        evaluation = COCOeval(gt, gt.loadRes(copy.deepcopy(detections)), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def our_metrics(ground_truth: dict[str, Any], detections: list[dict[str, Any]], partitions: int) -> CocoMetrics:
    category_ids = [category["id"] for category in ground_truth["categories"]]
    images = [
        (
            image["id"],
            (image["height"], image["width"]),
            [a for a in ground_truth["annotations"] if a["image_id"] == image["id"]],
            [d for d in detections if d["image_id"] == image["id"]],
        )
        for image in ground_truth["images"]
    ]
    random.Random(partitions).shuffle(images)
    parts = [evaluate_images(images[i::partitions], category_ids, "keypoints") for i in range(partitions)]
    return merge([part for group in reversed(parts) for part in group], category_ids, "keypoints")


def assert_same(ground_truth: dict[str, Any], detections: list[dict[str, Any]], partitions: int) -> CocoMetrics:
    theirs, ours = pycocotools_evaluation(ground_truth, detections), our_metrics(ground_truth, detections, partitions)
    np.testing.assert_array_equal(ours.precision, theirs.eval["precision"])
    np.testing.assert_array_equal(ours.recall, theirs.eval["recall"])
    np.testing.assert_array_equal(ours.scores, theirs.eval["scores"])
    assert ours.stats == theirs.stats.tolist()
    return ours


def perturbed(annotation: dict[str, Any], rng: random.Random, spread: float, boxes: bool) -> dict[str, Any]:
    """A detection near an annotation; spread is in shares of the side of its box."""
    x, y, w, h = annotation["bbox"]
    keypoints = []
    for px, py, visibility in np.reshape(annotation["keypoints"], (-1, 3)).tolist():
        if visibility == 0:
            px, py = rng.uniform(x, x + w), rng.uniform(y, y + h)
        keypoints += [px + rng.gauss(0, spread * w), py + rng.gauss(0, spread * h), rng.random()]
    found = {"image_id": annotation["image_id"], "category_id": annotation["category_id"], "keypoints": keypoints}
    found["score"] = rng.choice([rng.random(), round(rng.random(), 1)])  # many ties
    return found | ({"bbox": [x, y, w * rng.uniform(0.5, 1.5), h]} if boxes else {})


def random_persons(seed: int, num_images: int, most_objects: int, most_detections: int) -> tuple[dict, list[dict]]:
    """Persons small to large, some crowds, some without any keypoint labelled, and detections near and off them."""
    rng = random.Random(seed)
    boxes = rng.random() < 0.5
    dataset: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1}, {"id": 4}, {"id": 9}]}
    detections: list[dict[str, Any]] = []
    for image_id in rng.sample(range(1000), num_images):
        dataset["images"].append({"id": image_id, "height": 400, "width": 400})
        here = []
        for _ in range(rng.randint(0, most_objects)):
            w, h = rng.uniform(5, 250), rng.uniform(5, 250)
            x, y = rng.uniform(0, 400 - w), rng.uniform(0, 400 - h)
            labelled = rng.choice([0.0, 0.1, 0.7, 1.0])
            keypoints = []
            for _ in range(17):
                visible = rng.random() < labelled
                point = [round(rng.uniform(x, x + w)), round(rng.uniform(y, y + h)), rng.choice([1, 2])]
                keypoints += point if visible else [0, 0, 0]
            here.append(
                {
                    "id": len(dataset["annotations"]) + len(here) + 1,
                    "image_id": image_id,
                    "category_id": rng.choice([1, 4]),
                    "bbox": [x, y, w, h],
                    "area": w * h * rng.uniform(0.3, 1),
                    "iscrowd": int(rng.random() < 0.15),
                    "keypoints": keypoints,
                    "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
                }
            )
        dataset["annotations"] += here
        for _ in range(rng.randint(0, most_detections) if here else 0):
            detections.append(perturbed(rng.choice(here), rng, rng.choice([0.0, 0.02, 0.1, 1.0]), boxes))
    return dataset, detections


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 8), st.integers(1, 6), st.integers(1, 40), st.integers(1, 4))
def test_random_persons_equal_pycocotools(seed, num_images, most_objects, most_detections, partitions):
    ground_truth, detections = random_persons(seed, num_images, most_objects, most_detections)
    if detections:  # pycocotools cannot load an empty list of results
        assert_same(ground_truth, detections, partitions)


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_persons_equal_pycocotools_for_any_partition(shared, split):
    path = shared(f"data/coco-sample/annotations/person_keypoints_{split}2017.json")
    ground_truth = json.loads(path.read_text())
    rng = random.Random(1)
    detections = [
        perturbed(annotation, rng, rng.choice([0.01, 0.03, 0.06]), boxes=True)
        for annotation in ground_truth["annotations"]
        for _ in range(rng.randint(0, 3))
    ]
    assert len(detections) > 100
    metrics = [assert_same(ground_truth, detections, partitions) for partitions in (1, 3, 7)]
    assert metrics[0].stats == metrics[1].stats == metrics[2].stats
    assert all(0.05 < value < 1 for value in metrics[0].stats)


def person(keypoints: list[float], **changes: Any) -> dict[str, Any]:
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 100, 100], "area": 10000.0, "iscrowd": 0}
    return entry | {"keypoints": keypoints} | changes


def test_similarity_by_hand():
    """A keypoint that is off by twice its sigma times the root of the area counts exp(-1/2), another one 1."""
    nose, left_eye = [50.0, 50.0], [60.0, 40.0]
    annotation = person([*nose, 2, *left_eye, 1] + [0] * 45)
    off = 2 * COCO_SIGMAS[0] * math.sqrt(10000.0)
    found = {"keypoints": [nose[0] + off, nose[1], 0.5, *left_eye, 0.5] + [7.0] * 45}
    assert similarities([found], [annotation])[0, 0] == pytest.approx((math.exp(-0.5) + 1) / 2, abs=ORDER)
    nobody = person([0] * 51)
    inside = {"keypoints": [199.0, -100.0, 1.0] * 17}  # within three times the box
    assert similarities([inside], [nobody])[0, 0] == 1.0
    assert similarities([], [annotation]).shape == (0, 1)
    assert similarities([found], []).shape == (1, 0)


def test_metrics_by_hand():
    """One of two persons found exactly, and a third without keypoints that neither counts nor harms."""
    points = [float(v) for i in range(17) for v in (10 + i, 20 + i, 2)]
    far = [float(v) for i in range(17) for v in (300 + i, 320 + i, 2)]
    ground_truth = {
        "images": [{"id": 1, "height": 400, "width": 400}],
        "categories": [{"id": 1}],
        "annotations": [
            person(points, id=1, area=5000.0),
            person(far, id=2, area=5000.0),
            person([0] * 51, id=3, bbox=[200, 0, 50, 50], area=5000.0, num_keypoints=0),
        ],
    }
    hit = {"image_id": 1, "category_id": 1, "score": 0.9, "keypoints": points, "bbox": [0, 0, 100, 50]}
    ignored = hit | {"score": 0.95, "keypoints": [220.0, 20.0, 1.0] * 17}
    metrics = our_metrics(ground_truth, [hit, ignored], 1)
    expected = dict.fromkeys(("AP", "AP50", "AP75", "APm"), 51 / 101) | {"APl": -1.0, "ARl": -1.0}
    expected |= dict.fromkeys(("AR", "AR50", "AR75", "ARm"), 0.5)
    assert list(metrics.metrics) == [f"keypoints/{name}" for name in metric_names("keypoints")]
    assert metrics.metrics == {f"keypoints/{name}": pytest.approx(value, abs=ORDER) for name, value in expected.items()}
    assert metrics.per_category()[1] == pytest.approx({"AP": 51 / 101, "AP50": 51 / 101, "AP75": 51 / 101, "AR": 0.5})
    for annotation in ground_truth["annotations"]:  # counted where a file does not state it
        annotation.pop("num_keypoints", None)
    assert our_metrics(ground_truth, [hit, ignored], 1).stats == metrics.stats
    ground_truth["annotations"][2].pop("keypoints")  # as objects of categories that have none
    assert our_metrics(ground_truth, [hit, ignored], 1).stats == metrics.stats


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        ("dt", {"keypoints": None}, "result 0: keypoints are not a list of numbers"),
        ("dt", {"keypoints": []}, "result 0: it has no keypoints"),
        ("dt", {"keypoints": [1.0] * 15}, "result 0: it has 5 keypoints: .* COCO's 17"),
        ("dt", {"keypoints": [float("nan")] * 51}, "result 0: keypoints are not a list of numbers"),
        ("dt", {"bbox": [1, 2, 3]}, "result 0: bbox is .*, not four numbers"),
        ("gt", {"keypoints": [1.0] * 15}, "image 1, annotation 1: it has 5 keypoints"),
    ],
)
def test_mistakes_in_files_are_named(tmp_path, where, change, message):
    points = [1.0, 2.0, 2] * 17
    gt = person(points) | (change if where == "gt" else {})
    dt = {"image_id": 1, "category_id": 1, "score": 0.9, "keypoints": points} | (change if where == "dt" else {})
    images, categories = [{"id": 1, "height": 100, "width": 100}], [{"id": 1, "name": "person"}]
    for name, tree in (("gt", {"images": images, "annotations": [gt], "categories": categories}), ("dt", [dt])):
        (tmp_path / name).write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=message):
        evaluate_files(tmp_path / "gt", tmp_path / "dt", "keypoints")


def test_files_evaluate_and_annotations_without_keypoints_are_an_error(tmp_path):
    ground_truth, detections = random_persons(3, 4, 5, 10)
    for image in ground_truth["categories"]:
        image["name"] = str(image["id"])
    (tmp_path / "gt").write_text(json.dumps(ground_truth))
    (tmp_path / "dt").write_text(json.dumps(detections))
    metrics = evaluate_files(tmp_path / "gt", tmp_path / "dt", "keypoints")
    assert metrics.stats == pycocotools_evaluation(ground_truth, detections).stats.tolist()
    del ground_truth["annotations"][0]["keypoints"]
    (tmp_path / "gt").write_text(json.dumps(ground_truth))
    with pytest.raises(ValueError, match=r"annotation [0-9]+: no keypoints, which keypoints needs"):
        evaluate_files(tmp_path / "gt", tmp_path / "dt", "keypoints")
