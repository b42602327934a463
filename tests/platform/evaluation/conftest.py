"""What the tests of this folder share: one thread, and random images with every kind of error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

CATEGORIES = [2, 5, 9]
SIZE = (90, 120)
Case = tuple[dict[str, Any], list[dict[str, Any]]]


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """Every test of this folder has networks and tensors that are small."""


def polygon_of(box: np.ndarray) -> list[list[float]]:
    x, y, w, h = box.tolist()
    return [[x, y, x + w, y, x + w, y + 0.7 * h, x + 0.5 * w, y + h, x, y + 0.8 * h]]


def rle_of(box: np.ndarray) -> dict[str, Any]:
    found = coco_mask.merge(coco_mask.frPyObjects(polygon_of(box), *SIZE))
    return {"size": found["size"], "counts": found["counts"].decode()}


@pytest.fixture(scope="session")
def draw_errors() -> Callable[..., Case]:
    """A function of a seed: data set and results with wrong classes and places, doubles, background, crowds, misses."""

    def draw(seed: int, num_images: int = 40, crowds: bool = True) -> Case:
        random = np.random.default_rng(seed)
        ids = random.permutation(1000)[:num_images].tolist()
        images = [{"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]} for i in ids]
        annotations: list[dict[str, Any]] = []
        results: list[dict[str, Any]] = []
        for image_id in ids:
            boxes = []
            for _ in range(int(random.integers(0, 7))):
                box = np.concatenate([random.uniform(0, 50, 2), random.uniform(8, 40, 2)])
                category = int(random.choice(CATEGORIES))
                crowd = crowds and random.random() < 0.15
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": image_id, "category_id": category, "bbox": box.tolist()}
                    | {"area": float(box[2] * box[3]), "iscrowd": int(crowd)}
                    | {"segmentation": rle_of(box) if crowd else polygon_of(box)}
                )
                boxes.append((box, category))
            for _ in range(int(random.integers(0, 20))):
                box = np.concatenate([random.uniform(0, 50, 2), random.uniform(8, 40, 2)])
                category = int(random.choice(CATEGORIES))
                if boxes and random.random() < 0.85:
                    near, category = boxes[random.integers(len(boxes))]
                    box = near + random.normal(0, random.choice([0.5, 3, 12]), 4)
                    box[2:] = np.maximum(box[2:], 4)
                    category = category if random.random() < 0.7 else int(random.choice(CATEGORIES))
                results.append(
                    {"image_id": image_id, "category_id": category, "bbox": box.tolist(), "score": random.random()}
                    | {"segmentation": rle_of(box)}
                )
        categories = [{"id": category, "name": f"class {category}"} for category in CATEGORIES]
        return {"images": images, "annotations": annotations, "categories": categories}, results

    return draw


@pytest.fixture(scope="session")
def as_entries() -> Callable[..., Any]:
    """A function of a data set and results: images as match_entries takes them."""

    def entries(dataset: dict[str, Any], results: list[dict[str, Any]]) -> Any:
        of_image: dict[int, Any] = {
            one["id"]: (one["id"], (one["height"], one["width"]), [], []) for one in dataset["images"]
        }
        for one in dataset["annotations"]:
            of_image[one["image_id"]][2].append(one)
        for one in results:
            of_image[one["image_id"]][3].append(one)
        return list(of_image.values())

    return entries
