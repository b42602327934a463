"""What is kept of images as they come: the same metrics and files as of all at once, in whatever order and batches."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from single_matches import write_matches

from maskray.platform.evaluation import evaluated_images
from maskray.platform.evaluation.chosen_images import image_qualities, image_quality
from maskray.platform.evaluation.coco_ap import merge, merge_columns
from maskray.platform.evaluation.evaluated_images import BatchEvaluation, EvaluatedImages, collect
from maskray.platform.evaluation.matches_file import read_matches, write_match_columns
from maskray.platform.evaluation.matching import match_entries

CATEGORIES = [3, 8]


def draw_images(count: int) -> list[tuple[int, tuple[int, int], list[Any], list[Any]]]:
    rng = random.Random(0)
    images: list[tuple[int, tuple[int, int], list[Any], list[Any]]] = []
    for image_id in rng.sample(range(1000), count):
        boxes = [[rng.uniform(0, 40), rng.uniform(0, 40), 30.0, 30.0] for _ in range(rng.randint(0, 3))]
        truth = [{"category_id": rng.choice(CATEGORIES), "bbox": box, "area": 900.0, "iscrowd": 0} for box in boxes]
        found = [
            {"image_id": image_id, "category_id": rng.choice(CATEGORIES), "bbox": box, "score": round(rng.random(), 1)}
            for box in boxes
            for _ in range(2)
        ]
        images.append((image_id, (90, 90), truth, found))
    return images


def batches_of(images: list[Any], size: int) -> list[BatchEvaluation]:
    batches = []
    for start in range(0, len(images), size):
        group = images[start : start + size]
        found = [image[3] for image in group]
        parts = [match_entries(group, CATEGORIES, "bbox")]
        texts = [json.dumps(results).encode() for results in found]
        batches.append(BatchEvaluation([image[0] for image in group], texts, sum(map(len, found)), parts))
    return batches


@pytest.mark.parametrize("size", [1, 2, 7, 100])
@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_batches_and_their_order_make_no_difference(monkeypatch, tmp_path, size, at_once):
    monkeypatch.setattr(evaluated_images, "PARTS_AT_ONCE", at_once)
    images = draw_images(40)
    whole = match_entries(images, CATEGORIES, "bbox").images()
    random.Random(size).shuffle(images)
    kept = collect(batches_of(images, size), tmp_path)
    assert list(tmp_path.iterdir()) == []  # its file has no name
    assert kept.num_results == sum(len(image[3]) for image in images)
    assert sorted(kept.image_ids.tolist()) == sorted(image[0] for image in images)
    (matches,) = kept.matches()
    metrics, expected = merge_columns([matches], CATEGORIES, "bbox"), merge(whole, CATEGORIES, "bbox")
    np.testing.assert_array_equal(metrics.precision, expected.precision)
    np.testing.assert_array_equal(metrics.gt_counts, expected.gt_counts)
    assert image_qualities(matches) == pytest.approx(
        {image.image_id: image_quality(image) for image in whole}, abs=0, nan_ok=True
    )
    kept.write_results(tmp_path / "results.json")
    ordered = [result for image in sorted(images) for result in image[3]]
    assert (tmp_path / "results.json").read_text() == json.dumps(ordered)
    assert kept.results([image[0] for image in images[:5]]) == [image[3] for image in images[:5]]


def test_the_file_of_matches_is_that_of_single_images(monkeypatch, tmp_path):
    images = draw_images(30)
    kept = collect(batches_of(images[::-1], 4), tmp_path)
    monkeypatch.setattr("maskray.platform.evaluation.matches_file.DETECTIONS_AT_ONCE", 8)
    write_match_columns(tmp_path / "columns.npz", kept.matches())
    write_matches(tmp_path / "images.npz", match_entries(images, CATEGORIES, "bbox").images())
    for ours, theirs in zip(*(read_matches(tmp_path / name, "bbox") for name in ("columns.npz", "images.npz"))):
        assert vars(ours).keys() == vars(theirs).keys()
        for name, value in vars(ours).items():
            np.testing.assert_array_equal(value, getattr(theirs, name))


def test_no_images_at_all(tmp_path):
    kept = EvaluatedImages(tmp_path)
    assert kept.matches() == []
    kept.write_results(tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()) == []
