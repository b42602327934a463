"""Resizing and the draws of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from maskray.model.config import InputConfig
from maskray.platform.data.decode import decode_image
from maskray.platform.data.transforms import (
    draw_augmentation,
    flip_boxes,
    mirror_image,
    resize_image,
    resized_size,
)


def test_resized_size_by_hand() -> None:
    assert resized_size(480, 640, 800, 1333) == (800, 1067)
    assert resized_size(400, 1000, 800, 1333) == (533, 1333)  # the longer edge decides
    assert resized_size(1, 5000, 800, 1333) == (1, 1333)


def test_resize_is_antialiased_and_close_to_pillow() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 254
    small = resize_image(stripes, 16, 100)
    assert small.shape == (16, 16, 3)
    assert small.flags.c_contiguous
    np.testing.assert_allclose(small, 127, atol=10)  # without antialiasing it would be all black or all white
    noise = np.random.default_rng(1).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    pillow = np.asarray(Image.fromarray(noise).resize((45, 32), Image.Resampling.BILINEAR), dtype=int)
    assert np.abs(resize_image(noise, 32, 100).astype(int) - pillow).max() <= 1


@pytest.mark.parametrize("resize", ["antialias", "bilinear"])
def test_pixels_do_not_depend_on_the_number_of_threads(one_thread: None, resize: Any) -> None:
    image = np.random.default_rng(3).integers(0, 256, (301, 417, 3)).astype(np.uint8)
    alone = resize_image(image, 377, 900, resize)
    torch.set_num_threads(3)
    np.testing.assert_array_equal(resize_image(image, 377, 900, resize), alone)


@pytest.mark.parametrize("edges", [(256, 400), (320, 380), (427, 1333)])
def test_bilinear_pixels_are_those_of_torchvision(coco_sample: Path, edges: tuple[int, int], one_thread: None) -> None:
    config = InputConfig(shorter_edge=edges[0], longer_edge_max=edges[1], resize="bilinear")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.pixel_mean, config.pixel_std))
    theirs = GeneralizedRCNNTransform(*edges, [m / 255 for m in config.pixel_mean], [s / 255 for s in config.pixel_std])
    for path in sorted((coco_sample / "val2017").glob("*.jpg"))[:8]:
        image = decode_image(path.read_bytes())
        wanted, _ = theirs.eval()([torch.from_numpy(image).permute(2, 0, 1) / 255])
        ours = resize_image(image, *edges, config.resize)
        assert ours.dtype == np.float32
        assert [tuple(ours.shape[:2])] == wanted.image_sizes
        normalised = (torch.from_numpy(ours).permute(2, 0, 1) - mean) / std
        height, width = ours.shape[:2]
        # Within 1/150 of a grey level: processors round the interpolation differently.
        torch.testing.assert_close(normalised, wanted.tensors[0, :, :height, :width], rtol=0, atol=1e-4)


def test_bilinear_sizes_are_those_of_torchvision() -> None:
    generator = np.random.default_rng(2)
    theirs = GeneralizedRCNNTransform(80, 133, [0.0] * 3, [1.0] * 3)
    different = 0
    for height, width in generator.integers(10, 300, (300, 2)).tolist():
        resized, _ = theirs.eval().resize(torch.zeros(3, height, width))
        size = resized_size(height, width, 80, 133, "bilinear")
        assert size == tuple(resized.shape[1:]), (height, width)
        different += size != resized_size(height, width, 80, 133)
    assert different > 50


def test_draws_depend_on_seed_epoch_and_image_alone() -> None:
    def draw(seed: int, epoch: int, image_id: int) -> Any:
        return draw_augmentation(seed, epoch, image_id, (1, 2, 3, 4), 0.5)

    assert draw(1, 2, -3) == draw(1, 2, -3)
    draws = [draw(0, epoch, image_id) for epoch in range(20) for image_id in range(50)]
    assert 400 < sum(d.flip for d in draws) < 600
    assert all(200 < sum(d.shorter_edge == edge for d in draws) < 300 for edge in (1, 2, 3, 4))
    assert (
        [draw(0, 0, i) for i in range(50)] != [draw(0, 1, i) for i in range(50)] != [draw(1, 0, i) for i in range(50)]
    )
    assert not draw_augmentation(0, 0, 0, (1,), 0.0).flip
    assert draw_augmentation(0, 0, 0, (1,), 1.0).flip


def test_flip_boxes_by_hand() -> None:
    boxes = np.array([[1, 2, 4, 8]], dtype=np.float32)
    np.testing.assert_array_equal(flip_boxes(boxes, 10), [[6, 2, 9, 8]])
    np.testing.assert_array_equal(flip_boxes(flip_boxes(boxes, 10), 10), boxes)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 120), st.integers(0, 2**32))
def test_resized_pixels_are_those_that_torch_writes_channel_by_channel(
    height: int, width: int, edge: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    ours = resize_image(image, edge, 2 * edge)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    theirs = torch.nn.functional.interpolate(planes, ours.shape[:2], mode="bilinear", antialias=True)
    np.testing.assert_array_equal(ours, theirs[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_mirrored_image_has_its_columns_in_reverse_order(dtype: Any) -> None:
    image = np.random.default_rng(4).integers(0, 256, (37, 91, 3)).astype(dtype)
    mirrored = mirror_image(image[3:, 5:])  # of a crop too
    np.testing.assert_array_equal(mirrored, image[3:, :4:-1])
    assert mirrored.flags.c_contiguous
    assert mirrored.dtype == dtype
