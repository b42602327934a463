"""The data set of the programs about evaluation: objects and detections drawn by a seed, written as COCO files.

Images are 640 x 480, of 80 classes; each has about 7 objects of few classes as polygons of 16 corners, 2 % of them
crowds as run lengths, and detections of which half lie near an object. Persons have 17 keypoints.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

HEIGHT, WIDTH, NUM_CATEGORIES, NUM_KEYPOINTS = 480, 640, 80, 17
ANGLES = np.linspace(0.0, 2 * np.pi, 16, endpoint=False)
Floats = NDArray[np.float64]


def write_case(folder: Path, num_images: int, num_detections: int) -> None:
    """Write gt.json, bbox.json, segm.json (masks without boxes), gt_keypoints.json and keypoints.json; once."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "done").exists():
        return
    names = [{"id": k + 1, "name": f"class {k + 1}"} for k in range(NUM_CATEGORIES)]
    person = [{"id": 1, "name": "person", "keypoints": [f"k{k}" for k in range(NUM_KEYPOINTS)], "skeleton": []}]
    images = [{"id": i + 1, "file_name": f"{i + 1}.jpg", "height": HEIGHT, "width": WIDTH} for i in range(num_images)]
    for name, categories, draw in (("", names, _draw_regions), ("_keypoints", person, _draw_persons)):
        annotations: list[dict[str, Any]] = []
        with _Results(folder, ["keypoints"] if name else ["bbox", "segm"]) as results:
            for image_id, objects, found in draw(num_images, num_detections):
                for entry in objects:
                    annotations.append({"id": len(annotations) + 1, "image_id": image_id} | entry)
                for entry in found:
                    results.add({"image_id": image_id} | entry)
        tree = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"gt{name}.json").write_text(json.dumps(tree))
    (folder / "done").touch()


class _Results:
    """Results files, written entry by entry: of each entry the one that has its region."""

    def __init__(self, folder: Path, kinds: list[str]) -> None:
        self._files = {kind: (folder / f"{kind}.json").open("w") for kind in kinds}
        self._separator = "["

    def __enter__(self) -> _Results:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.write("]" if self._separator == ", " else "[]")
            file.close()

    def add(self, entry: dict[str, Any]) -> None:
        left_out = {"bbox": {"segmentation"}, "segm": {"bbox"}, "keypoints": set()}
        for kind, file in self._files.items():
            kept = {key: value for key, value in entry.items() if key not in left_out[kind]}
            file.write(self._separator + json.dumps(kept))
        self._separator = ", "


def _boxes(random: np.random.Generator, count: int) -> Floats:
    sizes = np.exp(random.uniform(np.log(12), np.log(260), (count, 2)))
    corners = random.uniform(0, 1, (count, 2)) * (np.array([WIDTH, HEIGHT]) - sizes)
    return np.round(np.concatenate([corners, sizes], axis=1), 2)


def _outlines(random: np.random.Generator, boxes: Floats) -> Floats:
    """Polygons (N, 32) within boxes, x y by turns: ellipses with dents."""
    radius = random.uniform(0.75, 1.0, (len(boxes), len(ANGLES)))
    x = boxes[:, :1] + boxes[:, 2:3] * (0.5 + 0.5 * radius * np.cos(ANGLES))
    y = boxes[:, 1:2] + boxes[:, 3:] * (0.5 + 0.5 * radius * np.sin(ANGLES))
    return np.round(np.stack([x, y], axis=2).reshape(len(boxes), 2 * len(ANGLES)), 2)


def _rle(outline: list[float]) -> dict[str, Any]:
    (rle,) = coco_mask.frPyObjects([outline], HEIGHT, WIDTH)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def _near(random: np.random.Generator, boxes: Floats, count: int) -> tuple[NDArray[np.int64], Floats]:
    """Boxes (count, 4), half of them moved from one of `boxes`, and of which, -1 for the others."""
    near = np.where(random.random(count) < 0.5, random.integers(0, max(len(boxes), 1), count), -1)
    near = near if len(boxes) else np.full(count, -1)
    found = _boxes(random, count)
    moved = boxes[near] + random.normal(0, 0.08, (count, 4)) * np.tile(boxes[near][:, 2:], 2) if len(boxes) else found
    moved[:, 2:] = np.maximum(moved[:, 2:], 2.0)
    return near, np.round(np.where(near[:, None] >= 0, moved, found), 2)


def _draw_regions(num_images: int, num_detections: int) -> Iterator[tuple[int, list[Any], list[Any]]]:
    random = np.random.default_rng(0)
    for image_id in range(1, num_images + 1):
        boxes = _boxes(random, int(random.integers(0, 16)))
        kinds = random.choice(random.integers(1, NUM_CATEGORIES + 1, 4), len(boxes))
        objects = []
        for box, outline, kind in zip(boxes.tolist(), _outlines(random, boxes).tolist(), kinds.tolist()):
            crowd = random.random() < 0.02
            rle = _rle(outline)
            segmentation: Any = rle if crowd else [outline]
            area = float(coco_mask.area(rle))
            objects.append({"category_id": kind, "bbox": box, "area": area, "iscrowd": int(crowd)})
            objects[-1]["segmentation"] = segmentation
        near, found = _near(random, boxes, num_detections)
        scores = np.round(random.random(num_detections), 4)
        wrong = random.integers(1, NUM_CATEGORIES + 1, num_detections)
        right = (near >= 0) & (random.random(num_detections) < 0.8)
        categories = np.where(right, kinds[near] if len(kinds) else wrong, wrong)
        outlines = _outlines(random, found)
        yield (
            image_id,
            objects,
            [
                {"category_id": kind, "score": score, "bbox": box, "segmentation": _rle(outline)}
                for kind, score, box, outline in zip(
                    categories.tolist(), scores.tolist(), found.tolist(), outlines.tolist()
                )
            ],
        )


def _draw_persons(num_images: int, num_detections: int) -> Iterator[tuple[int, list[Any], list[Any]]]:
    random = np.random.default_rng(1)
    for image_id in range(1, num_images + 1):
        boxes = _boxes(random, int(random.integers(0, 8)))
        places = random.random((len(boxes), NUM_KEYPOINTS, 2))
        visible = random.integers(0, 3, (len(boxes), NUM_KEYPOINTS)) * (random.random((len(boxes), 1)) > 0.1)
        objects = []
        for box, place, visibility in zip(boxes, places, visible):
            points = np.concatenate([np.round(box[:2] + place * box[2:]), visibility[:, None]], axis=1)
            points[visibility == 0] = 0
            objects.append(
                {"category_id": 1, "bbox": box.tolist(), "area": round(0.6 * box[2] * box[3], 2), "iscrowd": 0}
                | {"keypoints": points.astype(int).reshape(-1).tolist(), "num_keypoints": int((visibility > 0).sum())}
            )
        near, found = _near(random, boxes, num_detections)
        random_places = random.random((num_detections, NUM_KEYPOINTS, 2))
        known = places[near] + random.normal(0, 0.05, random_places.shape) if len(boxes) else random_places
        chosen = np.where(near[:, None, None] >= 0, known, random_places)
        points = np.round(found[:, None, :2] + chosen * found[:, None, 2:], 2)
        points = np.concatenate([points, np.ones((num_detections, NUM_KEYPOINTS, 1))], axis=2)
        scores = np.round(random.random(num_detections), 4)
        yield (
            image_id,
            objects,
            [
                {"category_id": 1, "score": score, "bbox": box, "keypoints": points_of}
                for score, box, points_of in zip(
                    scores.tolist(), found.tolist(), points.reshape(num_detections, -1).tolist()
                )
            ],
        )
