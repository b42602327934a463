"""Protocols beside COCO's: LVIS as the package lvis has it, boundary AP as the paper defines it."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import json
import random
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskray.platform.evaluation.evaluate_files import evaluate_files
from maskray.platform.evaluation.protocols import PROTOCOLS, find_protocol
from maskray.platform.evaluation.rules import LVIS_RULES

SIZE = (60, 80)
# What lvis 0.5.3 makes of draw_lvis(0): AP AP50 AP75 APs APm APl APr APc APf AR@300 ARs@300 ARm@300 ARl@300.
LVIS_OF_SEED_0 = {
    "bbox": [
        0.2285691088750334,
        0.4787742872031564,
        0.225945913919123,
        0.2274275559442302,
        0.6999999999999998,
        -1.0,
        0.2203759112217485,
        0.2840260811795466,
        0.1854019330504479,
        0.3977040816326531,
        0.3875,
        0.7,
        -1.0,
    ],
    "segm": [
        0.2293477056027798,
        0.4700271718901214,
        0.2277333375594462,
        0.2249849632060912,
        0.6999999999999998,
        -1.0,
        0.2205950962133717,
        0.2791168402554541,
        0.1927074850342177,
        0.3984183673469388,
        0.3882142857142858,
        0.7,
        -1.0,
    ],
}


def polygon(box: list[float]) -> list[list[float]]:
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + 0.7 * h, x + 0.5 * w, y + h, x, y + 0.8 * h]]


def rle(box: list[float]) -> dict[str, Any]:
    found = coco_mask.merge(coco_mask.frPyObjects(polygon(box), *SIZE))
    return {"size": found["size"], "counts": found["counts"].decode()}


def draw_lvis(seed: int, detections_per_image: int = 30) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Images with lists of missing and of not exhaustively annotated categories, ties, and unknown categories."""
    rng = random.Random(seed)
    ids = rng.sample(range(1, 50), 9)
    categories = [{"id": i, "name": str(i), "frequency": rng.choice("rcf")} for i in ids]
    images, annotations, results = [], [], []
    for image_id in rng.sample(range(1, 500), 14):
        boxes = []
        for _ in range(rng.randint(0, 7)):
            box = [rng.uniform(0, 40), rng.uniform(0, 25), rng.uniform(3, 40), rng.uniform(3, 35)]
            boxes.append((rng.choice(ids[:7]), box))
            entry = {"id": len(annotations) + 1, "image_id": image_id, "category_id": boxes[-1][0], "bbox": box}
            annotations.append(entry | {"area": 0.8 * box[2] * box[3], "segmentation": polygon(box)})
        present = {category for category, _ in boxes}
        absent = [i for i in ids if i not in present]
        image = {"id": image_id, "height": SIZE[0], "width": SIZE[1], "coco_url": f"http://localhost/v/{image_id}.jpg"}
        image["neg_category_ids"] = rng.sample(absent, min(2, len(absent)))
        image["not_exhaustive_category_ids"] = rng.sample(sorted(present), min(1, len(present)))
        images.append(image)
        for _ in range(rng.randint(1, detections_per_image)):
            category, box = (
                rng.choice(boxes) if boxes and rng.random() < 0.8 else (rng.choice(ids), [5.0, 5.0, 9.0, 9.0])
            )
            box = [max(v + rng.uniform(-3, 3), 1.0) for v in box]
            category = category if rng.random() < 0.8 else rng.choice(ids)
            results.append(
                {"image_id": image_id, "category_id": category, "score": round(rng.random(), 1), "bbox": box}
            )
    return {"images": images, "annotations": annotations, "categories": categories}, results


def for_type(results: list[dict[str, Any]], iou_type: str) -> list[dict[str, Any]]:
    """Results of boxes alone, or of masks alone, of which lvis then takes the areas of the masks."""
    if iou_type == "bbox":
        return results
    return [{**{k: v for k, v in one.items() if k != "bbox"}, "segmentation": rle(one["bbox"])} for one in results]


def run_ours(folder: Path, dataset: Any, results: Any, iou_type: Any, protocol: str) -> Any:
    (folder / "gt.json").write_text(json.dumps(dataset))
    (folder / "dt.json").write_text(json.dumps(results))
    return evaluate_files(folder / "gt.json", folder / "dt.json", iou_type, 1, protocol)


@pytest.fixture
def lvis(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package, which wants OpenCV for drawing and a name that NumPy no longer has."""
    if importlib.util.find_spec("lvis") is None:
        pytest.skip("the package lvis is not installed; the golden numbers of it are tested")
    if importlib.util.find_spec("cv2") is None:
        monkeypatch.setitem(sys.modules, "cv2", types.ModuleType("cv2"))
    monkeypatch.setattr(np, "float", float, raising=False)
    import lvis

    return lvis


def run_lvis(lvis: Any, folder: Path, dataset: Any, results: Any, iou_type: str) -> Any:
    (folder / "lvis.json").write_text(json.dumps(dataset))
    gt = lvis.LVIS(str(folder / "lvis.json"))
    evaluation = lvis.LVISEval(gt, lvis.LVISResults(gt, copy.deepcopy(results)), iou_type)
    evaluation.run()
    return evaluation


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_lvis_is_that_of_its_package(tmp_path, lvis, iou_type):
    for seed in range(12):
        dataset, results = draw_lvis(seed, 700 if seed > 9 else 30)  # more than 300 of an image are cut
        results = for_type(results, iou_type)
        theirs = run_lvis(lvis, tmp_path, dataset, results, iou_type)
        ours = run_ours(tmp_path, dataset, results, iou_type, "lvis")
        np.testing.assert_array_equal(ours.precision[..., 0], theirs.eval["precision"])
        np.testing.assert_array_equal(ours.recall[..., 0], theirs.eval["recall"])
        assert ours.stats == [float(value) for value in theirs.results.values()]
        assert [metric.name for metric in LVIS_RULES.metrics] == list(theirs.results)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_lvis_gives_the_golden_numbers(tmp_path, iou_type):
    dataset, results = draw_lvis(0)
    metrics = run_ours(tmp_path, dataset, for_type(results, iou_type), iou_type, "lvis")
    assert metrics.stats == pytest.approx(LVIS_OF_SEED_0[iou_type], abs=1e-12)
    assert list(metrics.metrics)[6:9] == [f"{iou_type}/APr", f"{iou_type}/APc", f"{iou_type}/APf"]


def test_categories_that_nobody_looked_for_do_not_count(tmp_path):
    box = [10.0, 10.0, 30.0, 30.0]
    image = {"id": 1, "height": 60, "width": 80, "neg_category_ids": [], "not_exhaustive_category_ids": []}
    truth = {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 900.0, "segmentation": polygon(box)}
    dataset = {"images": [image], "annotations": [truth], "categories": []}
    dataset["categories"] = [{"id": i, "name": str(i), "frequency": "f"} for i in (1, 2)]
    found = {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": box}
    wrong = {"image_id": 1, "category_id": 1, "score": 0.9, "bbox": [50.0, 40.0, 9.0, 9.0]}
    assert run_ours(tmp_path, dataset, [found, wrong], "bbox", "lvis").stats[0] == pytest.approx(0.5)
    image["not_exhaustive_category_ids"] = [1]  # an object that was not annotated may be there
    assert run_ours(tmp_path, dataset, [found, wrong], "bbox", "lvis").stats[0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["images"][0].pop("neg_category_ids"),
            r"image \d+: neg_category_ids is None, not a list",
        ),
        (lambda d: d["images"][0].update(not_exhaustive_category_ids=["a"]), "not_exhaustive_category_ids is"),
        (lambda d: d["images"][0].update(neg_category_ids=[2**70]), "neg_category_ids is"),
        (lambda d: d["categories"][0].pop("frequency"), r"category \d+: frequency is None, not r, c or f"),
    ],
)
def test_what_lvis_needs_and_a_file_lacks_is_named(tmp_path, change, message):
    dataset, results = draw_lvis(0)
    change(dataset)
    with pytest.raises(ValueError, match=message):
        run_ours(tmp_path, dataset, results, "bbox", "lvis")


def test_a_protocol_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="protocol 'voc': there are coco, boundary, lvis, lvis-boundary, cityscapes"):
        find_protocol("voc", "bbox")
    with pytest.raises(ValueError, match="protocol boundary: evaluates segm, not bbox"):
        find_protocol("boundary", "bbox")
    assert all(name == protocol.name for name, protocol in PROTOCOLS.items())


def boundary_of(encoded: Any) -> Any:
    """The mask without what is left after eroding it by 3 x 3 neighbours, as often as the distance has pixels."""
    mask = coco_mask.decode(encoded).astype(bool)
    height, width = mask.shape
    distance = max(1, round(0.02 * float(np.hypot(height, width))))
    inner = np.pad(mask, distance + 1)
    for _ in range(distance):
        rows = inner[:-2] & inner[1:-1] & inner[2:]
        inner[1:-1] = rows
        inner[0] = inner[-1] = False
        columns = inner[:, :-2] & inner[:, 1:-1] & inner[:, 2:]
        inner[:, 1:-1] = columns
        inner[:, 0] = inner[:, -1] = False
    edge = mask & ~inner[distance + 1 : distance + 1 + height, distance + 1 : distance + 1 + width]
    return coco_mask.encode(np.asfortranarray(edge, dtype=np.uint8))


class BoundaryEval(COCOeval):
    """pycocotools with the smaller of both overlaps (Cheng et al. 2021, section 5)."""

    def computeIoU(self, imgId: int, catId: int) -> Any:
        """Overlaps of the masks of an image, and of their boundaries."""
        whole = super().computeIoU(imgId, catId)
        if len(whole) == 0:
            return whole
        gts, dts = self._gts[imgId, catId], self._dts[imgId, catId]
        order = np.argsort([-d["score"] for d in dts], kind="mergesort")[: self.params.maxDets[-1]]
        found = [boundary_of(dts[i]["segmentation"]) for i in order]
        truth = [boundary_of(g["segmentation"]) for g in gts]
        return np.minimum(whole, coco_mask.iou(found, truth, [int(g["iscrowd"]) for g in gts]))


@pytest.mark.parametrize("size", [(60, 80), (200, 300)])
def test_boundary_ap_is_what_the_paper_defines(tmp_path, monkeypatch, size):
    monkeypatch.setitem(globals(), "SIZE", size)  # distances of 2 and 7 pixels
    for seed in range(4):
        dataset, results = draw_lvis(seed)
        for number, entry in enumerate(dataset["annotations"]):
            entry["iscrowd"] = int(number % 6 == 0)
        results = for_type(results, "segm")
        with contextlib.redirect_stdout(io.StringIO()):
            gt = COCO()
            gt.dataset = copy.deepcopy(dataset)
            gt.createIndex()
            theirs = BoundaryEval(gt, gt.loadRes(copy.deepcopy(results)), "segm")
            theirs.evaluate()
            theirs.accumulate()
            theirs.summarize()
        ours = run_ours(tmp_path, dataset, results, "segm", "boundary")
        np.testing.assert_array_equal(ours.precision, theirs.eval["precision"])
        assert ours.stats == theirs.stats.tolist()
        assert ours.stats[0] < run_ours(tmp_path, dataset, results, "segm", "coco").stats[0]
