"""Matches of thousands of images, each equal to those of pycocotools: random ones, crowds, ties, and empty images.

A case is one image and category in one area range; a style makes some 3,000 of them.
"""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskray.ops.match_images import unpack_levels
from maskray.platform.evaluation.coco_ap import merge_columns
from maskray.platform.evaluation.matching import IOU_THRESHOLDS, MatchColumns, match_entries
from maskray.platform.evaluation.rules import RULES

NUM_IMAGES, CATEGORIES, SIZE = 250, [2, 5, 9], (90, 120)
STYLES = ("random", "crowds", "ties", "sparse")


def draw_boxes(random: np.random.Generator, count: int, style: str) -> np.ndarray:
    boxes = np.concatenate([random.uniform(0, 60, (count, 2)), random.uniform(3, 60, (count, 2))], axis=1)
    if style == "ties":  # of a few places and sizes, so that many overlaps are equal
        boxes = 20 * np.round(boxes / 20)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 20)
    return boxes


def draw_mask(random: np.random.Generator, box: np.ndarray, as_polygon: bool) -> Any:
    x, y, w, h = box.tolist()
    polygons = [[x, y, x + w, y, x + w, y + h / 2, x + w / 2, y + h]]
    if random.random() < 0.3:  # of two parts, which may overlap
        polygons.append([x + w / 3, y + h / 3, x + 1.2 * w, y, x + w, y + 1.3 * h])
    if as_polygon:
        return polygons
    rle = coco_mask.merge(coco_mask.frPyObjects(polygons, *SIZE))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def draw_points(random: np.random.Generator, box: np.ndarray, scale: float) -> list[float]:
    points = box[:2] + np.linspace(0.1, 0.9, 17)[:, None] * box[2:] + random.normal(0, scale, (17, 2))
    return np.round(np.concatenate([points, np.ones((17, 1))], axis=1), 1).reshape(-1).tolist()


def draw_case(seed: int, style: str, iou_type: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    random = np.random.default_rng(seed)
    ids = random.permutation(10_000)[:NUM_IMAGES].tolist()
    images = [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in ids]
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    most = (2, 2) if style == "sparse" else (8, 30)
    for image_id in ids:
        boxes = draw_boxes(random, int(random.integers(0, most[0] + 1)), style)
        for box in boxes:
            crowd = random.random() < (0.5 if style == "crowds" else 0.1)
            entry = {"id": len(annotations) + 1, "image_id": image_id, "category_id": int(random.choice(CATEGORIES))}
            entry |= {"bbox": box.tolist(), "area": float(box[2] * box[3]), "iscrowd": int(crowd)}
            if iou_type == "segm":
                entry["segmentation"] = draw_mask(random, box, not crowd)
            if iou_type == "keypoints":
                labels = random.integers(0, 3, 17) * int(random.random() < 0.8)
                points = np.reshape(draw_points(random, box, 0), (17, 3))
                points[:, 2] = labels
                entry |= {"keypoints": points.reshape(-1).tolist(), "num_keypoints": int((labels > 0).sum())}
            annotations.append(entry)
        for _ in range(int(random.integers(0, most[1] + 1))):
            near = len(boxes) and random.random() < 0.8
            box = boxes[random.integers(len(boxes))] if near else draw_boxes(random, 1, style)[0]
            box = box + (random.normal(0, 2, 4) if style != "ties" else 0)
            box[2:] = np.maximum(box[2:], 1)
            score = float(np.round(random.random(), 1 if style == "ties" else 3))
            entry = {"image_id": image_id, "category_id": int(random.choice([*CATEGORIES, 77])), "score": score}
            if iou_type == "segm":
                entry["segmentation"] = draw_mask(random, box, False)
            else:
                entry["bbox"] = box.tolist()
            if iou_type == "keypoints":
                entry["keypoints"] = draw_points(random, box, 2)
            detections.append(entry)
    categories = [{"id": category, "name": str(category)} for category in CATEGORIES]
    return {"images": images, "annotations": annotations, "categories": categories}, detections


def evaluate_theirs(dataset: dict[str, Any], detections: list[dict[str, Any]], iou_type: str) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = copy.deepcopy(dataset)
        gt.createIndex()
        evaluation = COCOeval(gt, gt.loadRes(copy.deepcopy(detections)), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def match_ours(
    dataset: dict[str, Any], detections: list[dict[str, Any]], iou_type: Any, parts: int
) -> list[MatchColumns]:
    of_image: dict[int, tuple[list[Any], list[Any]]] = {image["id"]: ([], []) for image in dataset["images"]}
    for entry in dataset["annotations"]:
        of_image[entry["image_id"]][0].append(entry)
    for entry in detections:
        of_image[entry["image_id"]][1].append(entry)
    images = [(image_id, SIZE, *entries) for image_id, entries in of_image.items()]
    return [match_entries(images[part::parts], CATEGORIES, iou_type) for part in range(parts)]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("iou_type", ["bbox", "segm", "keypoints"])
def test_every_image_is_matched_as_by_pycocotools(iou_type, style):
    dataset, detections = draw_case(STYLES.index(style), style, iou_type)
    theirs = evaluate_theirs(dataset, detections, iou_type)
    (ours,) = match_ours(dataset, detections, iou_type, 1)
    by_image = {image.image_id: image for image in ours.images()}
    areas = [list(area) for area in RULES[iou_type].areas.values()]
    compared = 0
    for found in filter(None, theirs.evalImgs):
        image, a = by_image[found["image_id"]], areas.index(list(found["aRng"]))
        chosen = image.categories == found["category_id"]
        np.testing.assert_array_equal(image.scores[chosen], found["dtScores"])
        np.testing.assert_array_equal(image.matched[chosen, a].T, found["dtMatches"] > 0)
        np.testing.assert_array_equal(image.ignored[chosen, a].T, found["dtIgnore"])
        counts = image.gt_counts[image.gt_categories == found["category_id"], a].sum()
        assert counts == np.count_nonzero(np.array(found["gtIgnore"]) == 0)
        compared += 1
    assert compared > (500 if style == "sparse" else 2000)
    for parts in (1, 2, 7):
        metrics = merge_columns(match_ours(dataset, detections, iou_type, parts)[::-1], CATEGORIES, iou_type)
        np.testing.assert_array_equal(metrics.precision, theirs.eval["precision"])
        np.testing.assert_array_equal(metrics.recall, theirs.eval["recall"])
        np.testing.assert_array_equal(metrics.scores, theirs.eval["scores"])


def test_levels_are_few_bytes_and_flags_again():
    dataset, detections = draw_case(0, "random", "bbox")
    (ours,) = match_ours(dataset, detections, "bbox", 1)
    flags = unpack_levels(ours.matched, 4, len(IOU_THRESHOLDS))
    assert flags.shape == (len(ours.scores), 4, 10)
    assert (flags.sum(axis=2)[:, 0] >= flags[:, 0, 0]).all()
    of_detections = [ours.classes, ours.scores, ours.matched, ours.ignored]
    assert sum(column.itemsize for column in of_detections) == 28
