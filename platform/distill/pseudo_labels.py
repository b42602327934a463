"""A teacher's detections as a COCO data set: hard labels of every class, with where they come from.

Letters: K keypoints.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from pycocotools import mask as rle_masks

from maskray.model.config import Category, LabelMap
from maskray.platform.distill.thresholds import Rate, choose_threshold
from maskray.platform.files.atomic import new_folder

ANNOTATIONS, PROVENANCE = "annotations.json", "distillation.json"
VISIBLE = 2  # COCO's word for a keypoint that is labelled and seen


@dataclass(frozen=True)
class ClassLabels:
    """What becomes labels of one class: scores from `threshold` on, None for none of them.

    wanted and keypoints_wanted are what people annotate: objects an image, keypoints an object. detections count what
    was found at any score, labels what is kept; scores are the least, median and greatest of labels.
    """

    id: int
    name: str
    wanted: float
    threshold: float | None
    detections: int
    labels: int
    scores: tuple[float, float, float] | None = None
    keypoints_wanted: float | None = None
    keypoint_threshold: float | None = None
    keypoints: int | None = None

    def as_dict(self, num_images: int) -> dict[str, Any]:
        """For JSON, with the mean of labels in an image and whether as many were found as were wanted."""
        told: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "objects_per_labelled_image": self.wanted,
            "labels_per_image": self.labels / num_images,
            "threshold": self.threshold,
            "enough_found": self.threshold != 0.0,
            "detections": self.detections,
            "labels": self.labels,
            "scores": None if self.scores is None else dict(zip(("least", "median", "greatest"), self.scores)),
        }
        if self.keypoints_wanted is not None:
            told["keypoints"] = {
                "per_labelled_object": self.keypoints_wanted,
                "threshold": self.keypoint_threshold,
                "kept": self.keypoints,
            }
        return told


@dataclass
class _Scores:
    """Scores of the detections of one class, and those of their keypoints where it has any."""

    objects: list[float] = field(default_factory=list)
    keypoints: list[list[float]] = field(default_factory=list)


def choose_labels(
    predictions: Iterable[Mapping[str, Any]], labels: LabelMap, rates: Mapping[int, Rate], num_images: int
) -> list[ClassLabels]:
    """What becomes labels of each class, in the order of the label map, for num_images unlabelled images.

    Thresholds as choose_threshold has them; those of keypoints so that an object has as many on average as people
    label. Detections that can be no label (is_usable) do not count.
    """
    scores: dict[int, _Scores] = defaultdict(_Scores)
    with_keypoints = {category.id for category in labels.categories if category.keypoints}
    for image in predictions:
        for result in filter(is_usable, image["results"]):
            of_class = scores[result["category_id"]]
            of_class.objects.append(result["score"])
            if result["category_id"] in with_keypoints and "keypoints" in result:
                of_class.keypoints.append(result["keypoints"][2::3])
    return [
        _choose(category, scores[category.id], rates.get(category.id, Rate()), num_images)
        for category in labels.categories
    ]


def _choose(category: Category, found: _Scores, rate: Rate, num_images: int) -> ClassLabels:
    scores = np.array(found.objects)
    threshold = choose_threshold(scores, rate.objects_per_image * num_images)
    keeps = np.zeros(len(scores), dtype=bool) if threshold is None else scores >= threshold
    kept = np.sort(scores[keeps])
    counts = (category.id, category.name, rate.objects_per_image, threshold, len(scores), len(kept))
    summary = (float(kept[0]), float(np.median(kept)), float(kept[-1])) if len(kept) else None
    if not found.keypoints:
        return ClassLabels(*counts, summary)
    of_keypoints = np.array(found.keypoints)[keeps].ravel()
    least = choose_threshold(of_keypoints, rate.keypoints_per_object * len(kept))
    number = 0 if least is None else int((of_keypoints >= least).sum())
    return ClassLabels(*counts, summary, rate.keypoints_per_object, least, number)


def is_usable(result: Mapping[str, Any]) -> bool:
    """Whether a detection can be a label: its box has an area, and its mask has a pixel where it has a mask."""
    if min(result["bbox"][2:]) <= 0:
        return False
    return "segmentation" not in result or int(rle_masks.area(result["segmentation"])) > 0


def write_labels(
    folder: Path,
    images: Sequence[Mapping[str, Any]],
    labels: LabelMap,
    predictions: Iterable[Mapping[str, Any]],
    chosen: Sequence[ClassLabels],
    provenance: Mapping[str, Any],
) -> None:
    """Write the COCO file and the file that says where it comes from to a new folder, all or nothing.

    images are entries of a COCO file, the others' ids being theirs; provenance goes to `info` of the COCO file too.
    Annotations are in the order of the images, best first, with the teacher's score.
    """
    told = json.dumps(provenance, indent=1)
    info = {"description": "labels of a teacher (maskray, data distillation)", "distillation": provenance}
    categories = [category.model_dump(mode="json", exclude_defaults=True) for category in labels.categories]
    with new_folder(folder) as new_one:
        with (new_one / ANNOTATIONS).open("w", encoding="utf-8") as file:
            head = {"info": info, "categories": categories, "images": list(images)}
            file.write(f'{json.dumps(head)[:-1]}, "annotations": [')
            _write_annotations(file, images, predictions, {one.id: one for one in chosen})
            file.write("\n]}\n")
        (new_one / PROVENANCE).write_text(f"{told}\n", encoding="utf-8")


def _write_annotations(
    file: IO[str],
    images: Sequence[Mapping[str, Any]],
    predictions: Iterable[Mapping[str, Any]],
    chosen: Mapping[int, ClassLabels],
) -> None:
    kept = {image["image_id"]: [json.dumps(one) for one in _annotations(image, chosen)] for image in predictions}
    number = 0
    for image in images:
        for text in kept.get(image["id"], ()):
            number += 1
            file.write(f'{"," if number > 1 else ""}\n{{"id": {number}, {text[1:]}')


def _annotations(image: Mapping[str, Any], chosen: Mapping[int, ClassLabels]) -> Iterator[dict[str, Any]]:
    """The labels of one image, without ids."""
    for result in filter(is_usable, image["results"]):
        of_class = chosen[result["category_id"]]
        if of_class.threshold is None or result["score"] < of_class.threshold:
            continue
        x, y, width, height = result["bbox"]
        label = {
            "image_id": image["image_id"],
            "category_id": of_class.id,
            "bbox": [x, y, width, height],
            "area": width * height,
            "iscrowd": 0,
            "score": result["score"],
        }
        if "segmentation" in result:
            label |= {
                "area": float(rle_masks.area(result["segmentation"])),
                "segmentation": result["segmentation"],
            }
        if of_class.keypoints is not None:
            label |= _keypoints(result["keypoints"], of_class.keypoint_threshold)
        yield label


def _keypoints(found: Sequence[float], least: float | None) -> dict[str, Any]:
    """Those (K,) from a score on as COCO writes them; zeros for the others."""
    keypoints: list[float] = []
    for x, y, score in zip(found[::3], found[1::3], found[2::3], strict=True):
        keypoints += [x, y, VISIBLE] if least is not None and score >= least else [0, 0, 0]
    return {"keypoints": keypoints, "num_keypoints": sum(value > 0 for value in keypoints[2::3])}
