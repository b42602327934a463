"""Augmentations are drawn by position and leave masks, boxes and pixels together; by hand and as properties."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchvision.transforms.functional import adjust_brightness, adjust_contrast, adjust_saturation

from maskray.model.config import InputConfig, LabelMap, ModelConfig
from maskray.platform.data.augmentation import Draws, crop_window, drawn_size, jitter_colour
from maskray.platform.data.batch import Sample, SampleBuilder, collate
from maskray.platform.data.formats.coco import read_labels
from maskray.platform.data.synthetic.dataset import SyntheticPaths
from maskray.platform.data.transforms import draw_augmentation
from maskray.platform.job.config import JobConfig
from maskray.platform.job.data_config import AugmentationConfig, DataConfig

EVERYTHING: dict[str, Any] = {
    "scale_range": [0.1, 2.0],
    "crop_size": 96,
    "random_crop": 0.5,
    "vertical_flip": 0.5,
    "quarter_turns": True,
    "copy_paste": 1.0,
    "color_jitter": 0.4,
}
INPUT = InputConfig(shorter_edge=64, longer_edge_max=200)


@pytest.fixture(scope="module")
def rows(drawn: SyntheticPaths) -> tuple[list[dict[str, Any]], LabelMap]:
    """Rows as a reader gives them, each with the next one to paste from."""
    tree = json.loads(drawn.annotations.read_text())
    found = []
    for entry in tree["images"]:
        objects = [a for a in tree["annotations"] if a["image_id"] == entry["id"]]
        image = (drawn.images / entry["file_name"]).read_bytes()
        found.append(entry | {"image_id": entry["id"], "image": image, "annotations": json.dumps(objects)})
    return [row | {"partner": other} for row, other in itertools.pairwise(found)], read_labels(drawn.annotations, tree)


def make_builder(labels: LabelMap, flip: float = 0.0, seed: int = 0, **augmentation: Any) -> SampleBuilder:
    source = {"kind": "synthetic", "num_images": 1}
    data = DataConfig.model_validate({"train": source, "val": source, "flip": flip, "augmentation": augmentation})
    return SampleBuilder(data, INPUT, ModelConfig(), labels, seed)


def pixels(sample: Sample) -> NDArray[np.uint8]:
    assert sample.targets.masks is not None
    assert sample.targets.masks.size == sample.image.shape[:2]
    return sample.targets.masks.bitmaps().numpy()


def assert_together(sample: Sample) -> None:
    """Every box is around its mask: rounding and whole pixels of the mask aside, and thin tips that fill no pixel."""
    height, width = sample.image.shape[:2]
    for box, mask in zip(sample.targets.boxes, pixels(sample)):
        ys, xs = np.nonzero(mask)
        around = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        np.testing.assert_allclose(box, around, atol=3)
        assert (box[:2] - around[:2] <= 1.01).all()
        assert (around[2:] - box[2:] <= 1.01).all()
        assert (box >= 0).all()
        assert (box <= [width, height, width, height]).all()


def test_alone_each_is_what_its_name_says(rows: tuple[list[dict[str, Any]], LabelMap]) -> None:
    (first, *_), labels = rows
    first = first | {"partner": None}
    plain = make_builder(labels).build(first, 0)
    upside = make_builder(labels, vertical_flip=1.0).build(first, 0)
    np.testing.assert_array_equal(upside.image, plain.image[::-1])
    np.testing.assert_array_equal(pixels(upside), pixels(plain)[:, ::-1])
    np.testing.assert_array_equal(upside.targets.boxes[:, 0], plain.targets.boxes[:, 0])
    turned = [make_builder(labels, quarter_turns=True).build(first, epoch) for epoch in range(12)]
    for sample in turned:
        times = next(k for k in range(4) if np.array_equal(sample.image, np.rot90(plain.image, k)))
        np.testing.assert_array_equal(pixels(sample), np.rot90(pixels(plain), times, axes=(1, 2)))
    assert len({sample.image.tobytes() for sample in turned}) == 4
    for sample in (upside, *turned):
        assert_together(sample)


def test_everything_off_is_what_was(rows: tuple[list[dict[str, Any]], LabelMap]) -> None:
    """Draws of scale and flip are the same whatever else is on."""
    found, labels = rows
    for epoch, row in enumerate(found):
        draw = draw_augmentation(3, epoch, row["image_id"], (64,), 0.5)
        assert make_builder(labels, 0.5, 3).build(row | {"partner": None}, epoch).flipped == draw.flip
        assert make_builder(labels, 0.5, 3, **EVERYTHING).build(row, epoch).flipped == draw.flip


def test_one_that_is_switched_on_leaves_the_others(rows: tuple[list[dict[str, Any]], LabelMap]) -> None:
    (first, *_), labels = rows
    settings = {"scale_range": [0.5, 2.0], "crop_size": 96, "random_crop": 1.0}
    cropped = make_builder(labels, **settings).build(first | {"partner": None}, 4)
    upside = make_builder(labels, **settings, vertical_flip=1.0).build(first | {"partner": None}, 4)
    np.testing.assert_array_equal(upside.image, cropped.image[::-1])
    np.testing.assert_array_equal(pixels(upside), pixels(cropped)[:, ::-1])


@pytest.mark.parametrize("epoch", range(6))
def test_with_everything_on_masks_and_boxes_stay_together(
    rows: tuple[list[dict[str, Any]], LabelMap], epoch: int
) -> None:
    found, labels = rows
    builder = make_builder(labels, 0.5, **EVERYTHING)
    samples = [builder.build(row, epoch) for row in found]
    for sample in samples:
        assert max(sample.image.shape[:2]) <= 96
        assert_together(sample)
    assert sum(len(sample.targets.classes) for sample in samples) > len(samples)
    batch = collate(samples, 32, 96)
    assert batch.images.shape == (len(samples), 3, 96, 96)
    again = collate([builder.build(row, epoch) for row in found], 32, 96)
    assert torch.equal(batch.images, again.images)
    assert batch.targets is not None
    assert again.targets is not None
    assert batch.targets.masks is not None
    assert again.targets.masks is not None
    assert torch.equal(batch.targets.boxes, again.targets.boxes)
    assert all(torch.equal(a, b) for a, b in zip(batch.targets.masks.tensors, again.targets.masks.tensors))
    other = collate([make_builder(labels, 0.5, 1, **EVERYTHING).build(row, epoch) for row in found], 32, 96)
    assert not torch.equal(batch.images, other.images)


def test_sizes_of_large_scale_jitter() -> None:
    config = AugmentationConfig(scale_range=(0.1, 2.0), crop_size=1024)
    sizes = [drawn_size((480, 640), Draws(0, epoch, 5), 800, config, INPUT) for epoch in range(400)]
    factors = np.array([max(size) / 1024 for size in sizes])
    assert 0.1 <= factors.min() < 0.15
    assert 1.95 < factors.max() <= 2.0
    assert abs(factors.mean() - 1.05) < 0.1
    assert all(abs(height / width - 0.75) < 0.01 for height, width in sizes)
    assert drawn_size((480, 640), Draws(0, 0, 5), 800, AugmentationConfig(), InputConfig()) == (800, 1067)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 2**32), st.floats(0.01, 1.0))
def test_a_crop_keeps_an_object_whole(seed: int, smallest: float) -> None:
    random = np.random.default_rng(seed)
    size = (int(random.integers(1, 60)), int(random.integers(1, 60)))
    corners = np.sort(random.random((random.integers(0, 5), 2, 2)), axis=1) * np.array([size[1], size[0]])
    boxes = corners.reshape(-1, 4).astype(np.float32)
    top, left, height, width = crop_window(size, boxes, random, smallest)
    assert 0 <= top <= top + height <= size[0]
    assert 0 <= left <= left + width <= size[1]
    assert height >= np.ceil(smallest * size[0] - 1e-9)
    assert width >= np.ceil(smallest * size[1] - 1e-9)
    if len(boxes):
        low, high = boxes[:, :2] >= [left, top], boxes[:, 2:] <= [left + width, top + height]
        assert (low & high).all(axis=1).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_colours_are_those_of_torchvision(dtype: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(dtype)
    found = jitter_colour(image, np.random.default_rng(7), 0.4)
    assert found.dtype == dtype
    brightness, contrast, saturation = np.random.default_rng(7).uniform(0.6, 1.4, 3)
    theirs = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    theirs = adjust_saturation(adjust_contrast(adjust_brightness(theirs, brightness), contrast), saturation)
    np.testing.assert_allclose(found, 255 * theirs.permute(1, 2, 0), atol=0.51 if dtype == np.uint8 else 0.05)
    np.testing.assert_array_equal(jitter_colour(image, np.random.default_rng(7), 0.0), image)


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        ({"scale_range": [0.1, 2.0]}, "scale_range and crop_size go together"),
        ({"scale_range": [2.0, 0.1], "crop_size": 64}, "scale_range falls from 2 to 0.1"),
        ({"scale_range": [0.0, 2.0], "crop_size": 64}, "greater than 0"),
        ({"copy_paste": 2.0}, "less than or equal to 1"),
    ],
)
def test_settings_that_make_no_sense(augmentation: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentationConfig.model_validate(augmentation)


def test_one_scale_alone() -> None:
    source = {"kind": "synthetic", "num_images": 1}
    tree = {"train": source, "val": source, "shorter_edge_train": [64], "augmentation": EVERYTHING}
    with pytest.raises(ValueError, match="both say how large images are"):
        DataConfig.model_validate(tree)


@pytest.mark.parametrize(
    ("model", "scheme", "augmentation", "message"),
    [
        ({"masks": False}, "joint", {"copy_paste": 0.5}, "copy_paste pastes along masks"),
        ({}, "alternating", {"random_crop": 0.5}, "train.scheme alternating learns from proposals on whole images"),
        ({"masks": False}, "joint", EVERYTHING | {"copy_paste": 0.0}, None),
        ({}, "alternating", {"color_jitter": 0.5}, None),
    ],
)
def test_jobs_that_cannot_be_augmented(model: Any, scheme: str, augmentation: Any, message: str | None) -> None:
    source = {"kind": "synthetic", "num_images": 8}
    tree = {
        "name": "test",
        "data": {"train": source, "val": source, "augmentation": augmentation},
        "model": model,
        "train": {"steps": 4, "images_per_batch": 2, "scheme": scheme},
        "resources": {"num_workers": 1},
    }
    if message is None:
        JobConfig.model_validate(tree)
    else:
        with pytest.raises(ValueError, match=message):
            JobConfig.model_validate(tree)
