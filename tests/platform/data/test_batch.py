"""Padded batches by hand, and what a flip does to a sample."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from maskray.model.config import BackboneConfig, InputConfig, ModelConfig
from maskray.model.outlines import Outlines
from maskray.platform.data.batch import SampleBuilder, collate, collate_images
from maskray.platform.data.formats.coco import read_labels
from maskray.platform.data.synthetic.dataset import SyntheticPaths
from maskray.platform.data.targets import ImageTargets
from maskray.platform.job.data_config import DataConfig


def test_collate_by_hand() -> None:
    images = [np.full((40, 33, 3), 7, np.uint8), np.arange(2 * 70 * 3, dtype=np.uint8).reshape(2, 70, 3)]
    none = ImageTargets(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), Outlines.none((40, 33)))
    two = ImageTargets(np.ones((2, 4), np.float32), np.array([3, 1]), Outlines.from_bitmaps(torch.ones(2, 2, 70)))
    batch = collate_images(images, [11, 12], [(80, 66), (4, 140)], 32, [none, two])
    assert batch.images.shape == (2, 3, 64, 96)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert int(batch.images[0].sum()) == 40 * 33 * 3 * 7
    np.testing.assert_array_equal(batch.images[1, :, :2, :70].permute(1, 2, 0).numpy(), images[1])
    assert batch.image_sizes.tolist() == [[40, 33], [2, 70]]
    assert batch.original_sizes.tolist() == [[80, 66], [4, 140]]
    assert batch.image_ids.tolist() == [11, 12]
    assert batch.targets is not None
    assert batch.targets.classes.tolist() == [[-1, -1], [3, 1]]
    assert batch.targets.boxes[0].tolist() == [[0] * 4] * 2
    assert batch.targets.masks is not None
    assert batch.targets.masks.bitmaps().shape == (2, 64, 96)
    assert int(batch.targets.masks.bitmaps().sum()) == 2 * 2 * 70
    assert collate_images(images, [1, 2], [(1, 1), (1, 1)], 32).targets is None
    no_objects = collate_images(images[:1], [1], [(1, 1)], 32, [none]).targets
    assert no_objects is not None
    assert no_objects.boxes.shape == (1, 0, 4)
    with pytest.raises(ValueError, match="at least one image"):
        collate_images([], [], [], 32)


def test_a_batch_is_padded_to_what_the_backbone_needs() -> None:
    images = [np.full((40, 33, 3), 0.5, np.float32), np.full((2, 70, 3), 0.25, np.float32)]
    for features, size in (("fpn", (64, 96)), ("c4", (40, 70))):
        batch = collate_images(images, [1, 2], [(1, 1)] * 2, BackboneConfig(features=features).size_divisor)
        assert batch.images.shape[2:] == size
        assert batch.images.dtype == torch.float32
        assert batch.images.sum() == 40 * 33 * 3 * 0.5 + 2 * 70 * 3 * 0.25


def test_a_flip_mirrors_image_boxes_and_masks(drawn: SyntheticPaths) -> None:
    tree = json.loads(drawn.annotations.read_text())
    entry = max(tree["images"], key=lambda e: sum(a["image_id"] == e["id"] for a in tree["annotations"]))
    objects = [a for a in tree["annotations"] if a["image_id"] == entry["id"]]
    row = entry | {
        "image_id": entry["id"],
        "image": (drawn.images / entry["file_name"]).read_bytes(),
        "annotations": json.dumps(objects),
    }
    labels = read_labels(drawn.annotations, tree)
    source = {"kind": "synthetic", "num_images": 1}
    samples = []
    for flip in (0.0, 1.0):
        data = DataConfig.model_validate({"train": source, "val": source, "flip": flip})
        builder = SampleBuilder(data, InputConfig(shorter_edge=64, longer_edge_max=200), ModelConfig(), labels, 0)
        samples.append(builder.build(row, 0))
    plain, mirrored = samples
    assert plain.targets is not None
    assert mirrored.targets is not None
    assert plain.image.shape == (64, 85, 3)
    np.testing.assert_array_equal(mirrored.image, plain.image[:, ::-1])
    assert plain.targets.masks is not None
    assert mirrored.targets.masks is not None
    assert torch.equal(mirrored.targets.masks.bitmaps(), plain.targets.masks.bitmaps().flip(2))
    np.testing.assert_allclose(mirrored.targets.boxes[:, 0], 85 - plain.targets.boxes[:, 2])
    for targets in (plain.targets, mirrored.targets):  # a box is still around its mask
        assert targets.masks is not None
        for box, mask in zip(targets.boxes, targets.masks.bitmaps().numpy()):
            rows, columns = np.nonzero(mask)
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(box, around, atol=1.01)  # whole pixels of the mask, and rounding
    assert collate(samples, 32).images.shape == (2, 3, 64, 96)
