"""A tiny job, its model's description and batches drawn from their position, for the tests of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from maskray.model.config import LabelMap, ModelSpec
from maskray.model.outlines import Outlines
from maskray.model.structures import Batch, Targets
from maskray.platform.job.config import JobConfig

TINY_MODEL: dict[str, Any] = {
    "backbone": {"name": "resnet18", "norm": "group_norm", "freeze_stages": 0, "fpn_channels": 32},
    "rpn": {
        "samples_per_image": 32,
        "pre_nms_top_n_train": 50,
        "post_nms_top_n_train": 20,
        "pre_nms_top_n_test": 50,
        "post_nms_top_n_test": 20,
    },
    "box_head": {"hidden_channels": 32, "samples_per_image": 16},
    "mask_head": {"channels": 16, "num_convs": 1},
    "anchors": {"sizes": [8, 16, 32, 64, 128]},
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """Every test of this folder has networks and tensors that are small."""


@pytest.fixture
def make_job() -> Callable[..., JobConfig]:
    """Builds the tiny job with some of its train and resources fields changed."""

    def make(
        resources: dict[str, Any] | None = None, seed: int = 3, data: dict[str, Any] | None = None, **train: Any
    ) -> JobConfig:
        source = {"kind": "synthetic", "num_images": 8, "seed": 1, "height": 64, "width": 96, "max_objects": 3}
        return JobConfig.model_validate(
            {
                "name": "tiny",
                "seed": seed,
                "data": {"train": source, "val": source, **(data or {})},
                "input": {"shorter_edge": 64, "longer_edge_max": 96},
                "model": TINY_MODEL,
                "train": {
                    "steps": 4,
                    "images_per_batch": 2,
                    "base_lr": 0.01,
                    "reference_images_per_batch": 2,
                    "warmup_steps": 2,
                    "log_every": 1,
                    "checkpoint_every": 2,
                    **train,
                },
                "resources": {"num_workers": 1, **(resources or {})},
            }
        )

    return make


@pytest.fixture
def labels() -> LabelMap:
    return LabelMap.model_validate({"categories": [{"id": 1, "name": "square"}, {"id": 5, "name": "disc"}]})


@pytest.fixture
def make_spec(labels: LabelMap) -> Callable[[JobConfig], ModelSpec]:
    return lambda job: ModelSpec(model=job.model, input=job.input, labels=labels)


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """A batch of noise with one bright square per image, a function of its index alone."""

    def make(index: int, num_images: int = 2, size: int = 64) -> Batch:
        generator = torch.Generator().manual_seed(1000 + index)
        images = torch.randint(0, 100, (num_images, 3, size, size), generator=generator, dtype=torch.uint8)
        corners = torch.randint(4, size // 2, (num_images, 2), generator=generator)
        boxes = torch.zeros(num_images, 1, 4)
        masks = torch.zeros(num_images, size, size, dtype=torch.uint8)
        for image, (x, y) in enumerate(corners.tolist()):
            boxes[image, 0] = torch.tensor([x, y, x + 24, y + 20])
            masks[image, y : y + 20, x : x + 24] = 1
            images[image, :, y : y + 20, x : x + 24] += 120
        sizes = torch.full((num_images, 2), size)
        ids = torch.arange(num_images) + 100 * index
        classes = torch.randint(0, 2, (num_images, 1), generator=generator)
        return Batch(images, sizes, ids, sizes.clone(), Targets(boxes, classes, Outlines.from_bitmaps(masks)))

    return make


@pytest.fixture
def make_batches(make_batch: Callable[..., Batch]) -> Callable[..., Callable[[int], Iterator[Batch]]]:
    """The endless stream of such batches that Trainer.run asks for."""

    def make(num_images: int = 2, accumulate: int = 1) -> Callable[[int], Iterator[Batch]]:
        def batches(start_step: int) -> Iterator[Batch]:
            index = start_step * accumulate
            while True:
                yield make_batch(index, num_images)
                index += 1

        return batches

    return make
