"""Resampled metrics: those of the data set itself where nothing is resampled, those of copies where images repeat."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from single_matches import write_matches

from maskray.platform.evaluation.bootstrap import draw_weights, resampled_metrics
from maskray.platform.evaluation.coco_ap import evaluate_images, merge
from maskray.platform.evaluation.matches_file import read_matches
from maskray.platform.evaluation.matching import ImageMatches

CATEGORIES = (1, 4, 7)
NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl"]


def random_parts(seed: int, num_images: int = 9) -> list[ImageMatches]:
    """Boxes near objects and elsewhere, of three categories, one of which may have no object; distinct scores."""
    generator = np.random.default_rng(seed)
    images = []
    for image_id in range(1, num_images + 1):
        objects, detections = [], []
        for _ in range(int(generator.integers(0, 5))):
            box = np.concatenate([generator.uniform(0, 80, 2), generator.uniform(10, 120, 2)])
            category = int(generator.choice(CATEGORIES[:2]))
            objects.append(
                {"category_id": category, "bbox": box.tolist(), "area": float(box[2] * box[3]),
                 "iscrowd": int(generator.random() < 0.1)}
            )  # fmt: skip
            for _ in range(int(generator.integers(0, 3))):
                near = (box + generator.normal(0, 6, 4)).clip(1)
                detections.append({"category_id": category, "bbox": near.tolist(), "score": float(generator.random())})
        for _ in range(int(generator.integers(0, 3))):
            away = generator.uniform(5, 90, 4)
            category = int(generator.choice(CATEGORIES))
            detections.append({"category_id": category, "bbox": away.tolist(), "score": float(generator.random())})
        images.append((image_id, (200, 200), objects, detections))
    return evaluate_images(images, CATEGORIES, "bbox")


def as_fractions(row: np.ndarray) -> list[float]:
    """The -1 of the metrics for what is undefined, as nan."""
    return [float("nan") if value == -1 else value for value in row]


ORDER = 1e-12  # of float64 sums in another order


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_without_resampling_the_metrics_are_those_of_coco(seed):
    parts = random_parts(seed)
    found = resampled_metrics(parts, CATEGORIES, "bbox", NAMES, np.ones((1, len(parts)), dtype=np.int64))
    wanted = merge(parts, CATEGORIES, "bbox").metrics
    np.testing.assert_allclose(found[0], as_fractions([wanted[f"bbox/{name}"] for name in NAMES]), atol=ORDER)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_an_image_drawn_twice_counts_as_two(seed):
    parts = random_parts(seed)
    weights = draw_weights(len(parts), 3, seed)
    found = resampled_metrics(parts, CATEGORIES, "bbox", ["AP", "AP50", "APm"], weights)
    for row, times in zip(found, weights):
        copies = [part for part, count in zip(parts, times) for _ in range(count)]
        copies = [dataclasses.replace(part, image_id=index) for index, part in enumerate(copies)]
        wanted = merge(copies, CATEGORIES, "bbox").metrics
        expected = as_fractions([wanted[f"bbox/{name}"] for name in ("AP", "AP50", "APm")])
        np.testing.assert_allclose(row, expected, atol=ORDER)


def test_groups_of_resamples_change_nothing(monkeypatch):
    parts = random_parts(3)
    weights = draw_weights(len(parts), 7)
    whole = resampled_metrics(parts, CATEGORIES, "bbox", ["AP"], weights)
    monkeypatch.setattr("maskray.platform.evaluation.bootstrap.MOST_VALUES", 1)
    np.testing.assert_array_equal(resampled_metrics(parts, CATEGORIES, "bbox", ["AP"], weights), whole)


def test_weights_are_resamples_of_the_images():
    weights = draw_weights(50, 400)
    assert weights.shape == (400, 50)
    assert (weights.sum(axis=1) == 50).all()
    assert np.array_equal(weights, draw_weights(50, 400))
    assert abs((weights == 0).mean() - np.exp(-1)) < 0.01  # of images that are not drawn


def test_recall_has_no_interval():
    with pytest.raises(ValueError, match="bbox/AR100: it is made of precisions alone"):
        resampled_metrics(random_parts(1), CATEGORIES, "bbox", ["AR100"], np.ones((1, 9), dtype=np.int64))


def test_matches_come_back_as_they_were_written(tmp_path):
    parts = random_parts(5)
    path = tmp_path / "matches.npz"
    write_matches(path, parts[::-1])
    for before, after in zip(parts, read_matches(path, "bbox"), strict=True):
        for field in dataclasses.fields(before):
            np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))


@pytest.mark.parametrize("length", [0, 10, 600])
def test_a_file_cut_short_is_told(tmp_path, length):
    path = tmp_path / "matches.npz"
    write_matches(path, random_parts(5))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"matches\.npz: not a whole file of matches"):
        read_matches(path, "bbox")


def test_a_damaged_file_is_told_or_read(tmp_path):
    """Whatever bytes are changed, nothing but a ValueError that names the file comes of it."""
    path = tmp_path / "matches.npz"
    write_matches(path, random_parts(5))
    whole = path.read_bytes()
    told = []
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read_matches(path, "bbox")
        except ValueError as error:
            told.append(str(error))
    assert len(told) > len(whole) // 14
    assert all(str(path) in line for line in told)


def test_a_missing_kind_and_a_missing_file_are_told(tmp_path):
    write_matches(tmp_path / "matches.npz", random_parts(5))
    with pytest.raises(ValueError, match="holds no matches of segm"):
        read_matches(tmp_path / "matches.npz", "segm")
    with pytest.raises(ValueError, match="no such file of matches"):
        read_matches(tmp_path / "none.npz", "segm")
