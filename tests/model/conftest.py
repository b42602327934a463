"""Small models and batches of drawn rectangles and ellipses, shared by the tests of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.models.detection.transform import _resize_image_and_masks

from maskray.model.build_model import build_model
from maskray.model.config import (
    AnchorConfig,
    BackboneConfig,
    BoxHeadConfig,
    InputConfig,
    MaskHeadConfig,
    ModelConfig,
    RPNConfig,
)
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.outlines import Outlines
from maskray.model.structures import Batch, Targets


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """Every test of this folder has networks and tensors that are small."""


@contextmanager
def whole_model_in_float64() -> Iterator[None]:
    """Models moved to float64 compute in it to their very end.

    Processors and numbers of threads round differently, which turns into other choices (the best boxes, samples, NMS)
    wherever two scores are close: in float32 sums differ by 1e-7, in float64 by 1e-16, closer than scores happen to be.
    Models lift half types to float32 by Tensor.float(); here whole numbers, float32 and float64 stay or become float64.
    """
    to_float32 = Tensor.float

    def widest(tensor: Tensor) -> Tensor:
        return to_float32(tensor) if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.double()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "float", widest)
        yield


@pytest.fixture
def float64() -> Iterator[None]:
    """For one test."""
    with whole_model_in_float64():
        yield


@pytest.fixture(scope="module")
def module_in_float64() -> Iterator[None]:
    """For a file whose models are made once."""
    with whole_model_in_float64():
        yield


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    return ModelConfig(
        backbone=BackboneConfig(
            name="resnet18", norm="group_norm", freeze_stages=0, stem_channels=16, res2_channels=16, fpn_channels=32
        ),
        anchors=AnchorConfig(sizes=(16.0, 32.0, 64.0, 128.0, 256.0)),
        rpn=RPNConfig(samples_per_image=64, pre_nms_top_n_train=100, post_nms_top_n_train=100, post_nms_top_n_test=100),
        box_head=BoxHeadConfig(hidden_channels=64, samples_per_image=64),
        mask_head=MaskHeadConfig(channels=32, num_convs=2),
    )


@pytest.fixture
def tiny_model(tiny_config: ModelConfig) -> MaskRCNN:
    torch.manual_seed(0)
    return build_model(tiny_config, InputConfig(), num_classes=2)


def draw_batch(objects: list[list[tuple[int, int, int, int, int]]], height: int = 96, width: int = 128) -> Batch:
    """Images of noise with filled shapes (class, x0, y0, x1, y1): class 0 rectangles, class 1 ellipses."""
    generator = torch.Generator().manual_seed(0)
    num_images = len(objects)
    images = torch.randint(60, 90, (num_images, 3, height, width), dtype=torch.uint8, generator=generator)
    most = max((len(items) for items in objects), default=0)
    boxes = torch.zeros(num_images, most, 4)
    classes = torch.full((num_images, most), -1)
    masks = []
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    for image, items in enumerate(objects):
        for slot, (label, x0, y0, x1, y1) in enumerate(items):
            inside = (x > x0) & (x < x1) & (y > y0) & (y < y1)
            if label == 1:
                across, down = (2 * x - x0 - x1) / (x1 - x0), (2 * y - y0 - y1) / (y1 - y0)
                inside = across**2 + down**2 < 1
            images[image, label, inside] = 230
            boxes[image, slot] = torch.tensor([x0, y0, x1, y1], dtype=torch.float32)
            classes[image, slot] = label
            masks.append(inside)
    flat = torch.stack(masks).to(torch.uint8) if masks else torch.zeros(0, height, width, dtype=torch.uint8)
    sizes = torch.tensor([[height, width]] * num_images).reshape(-1, 2)
    return Batch(
        images, sizes, torch.arange(num_images) + 100, sizes * 2, Targets(boxes, classes, Outlines.from_bitmaps(flat))
    )


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    return draw_batch


@pytest.fixture
def two_images() -> Batch:
    return draw_batch([[(0, 10, 12, 50, 60), (1, 70, 30, 118, 84)], [(1, 20, 20, 60, 76)]])


@pytest.fixture(scope="session")
def images(shared: Callable[[str], Path]) -> list[Tensor]:
    """Two images of the COCO sample, (3, height, width) float32 in 0..255."""
    folder = shared("data/coco-sample/val2017")
    images = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.jpg"))[:2]]
    return [torch.from_numpy(np.array(image)).permute(2, 0, 1).float() for image in images]


@pytest.fixture(scope="session")
def batch_as_torchvision() -> Callable[..., Batch]:
    """Images to a batch of given shorter edge and longest edge, resized by torchvision's own function."""

    def make(images: list[Tensor], shorter_edge: int, longer_edge_max: int) -> Batch:
        resized = [_resize_image_and_masks(image, shorter_edge, longer_edge_max)[0] for image in images]
        height, width = (max(image.shape[axis] for image in resized) for axis in (1, 2))
        padded = [F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in resized]
        sizes, originals = ([image.shape[1:] for image in pictures] for pictures in (resized, images))
        return Batch(torch.stack(padded), torch.tensor(sizes), torch.arange(len(images)), torch.tensor(originals))

    return make
