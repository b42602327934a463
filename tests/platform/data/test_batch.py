"""Targets at network size and padded batches, by hand and against pycocotools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from maskray.model.config import BackboneConfig, InputConfig, ModelConfig
from maskray.platform.data.batch import ImageTargets, SampleBuilder, build_targets, collate, collate_images, rasterize
from maskray.platform.data.formats.coco import read_labels
from maskray.platform.data.synthetic.dataset import SyntheticPaths
from maskray.platform.data.synthetic.outline import encode_rle
from maskray.platform.job.data_config import DataConfig

RECTANGLE = [[2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]]


def annotation(**changes: Any) -> dict[str, Any]:
    return {"id": 3, "category_id": 7, "bbox": [2, 1, 4, 3], "iscrowd": 0, "segmentation": RECTANGLE} | changes


def test_boxes_and_masks_are_scaled_by_axis() -> None:
    targets = build_targets([annotation()], (10, 10), (20, 30), {7: 5})
    np.testing.assert_array_equal(targets.boxes, [[6, 2, 18, 8]])
    np.testing.assert_array_equal(targets.classes, [5])
    expected = np.zeros((20, 30), dtype=np.uint8)
    expected[2:8, 6:18] = 1
    assert targets.masks is not None
    np.testing.assert_array_equal(targets.masks[0], expected)


@pytest.mark.parametrize("compressed", [True, False])
def test_rle_and_polygon_agree(compressed: bool) -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[1:4, 2:6] = True
    rle = encode_rle(mask)
    if not compressed:
        rle["counts"] = [21, 3, 7, 3, 7, 3, 7, 3, 46]
    from_rle = rasterize(annotation(segmentation=rle), (10, 10), (40, 30))
    different = np.argwhere(from_rle != rasterize(annotation(), (10, 10), (40, 30)))
    # resampling takes the sharp corners off, and nothing else
    assert different.tolist() == [[4, 6], [4, 17], [15, 6], [15, 17]]


def test_what_is_dropped() -> None:
    annotations = [
        annotation(iscrowd=1),
        annotation(bbox=[2, 2, 0, 3]),
        annotation(bbox=[9.9, 0, 40, 5]),  # a tenth of a pixel is inside
        annotation(bbox=[-5, -5, 8, 9]),
    ]
    targets = build_targets(annotations, (10, 10), (10, 10), {7: 0}, min_box_pixels=1.0)
    np.testing.assert_array_equal(targets.boxes, [[0, 0, 3, 4]])
    assert len(build_targets(annotations, (10, 10), (10, 10), {7: 0}).classes) == 2
    empty = build_targets([], (10, 10), (4, 6), {7: 0})
    assert empty.boxes.shape == (0, 4)
    assert empty.masks is not None
    assert empty.masks.shape == (0, 4, 6)


def test_masks_need_a_segmentation() -> None:
    with pytest.raises(ValueError, match="annotation 3: no segmentation to train a mask on"):
        build_targets([annotation(segmentation=None)], (10, 10), (10, 10), {7: 0})
    assert build_targets([annotation(segmentation=None)], (10, 10), (10, 10), {7: 0}, masks=False).masks is None


def test_collate_by_hand() -> None:
    images = [np.full((40, 33, 3), 7, np.uint8), np.arange(2 * 70 * 3, dtype=np.uint8).reshape(2, 70, 3)]
    none = ImageTargets(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros((0, 40, 33), np.uint8))
    two = ImageTargets(np.ones((2, 4), np.float32), np.array([3, 1]), np.ones((2, 2, 70), np.uint8))
    batch = collate_images(images, [11, 12], [(80, 66), (4, 140)], 32, [none, two])
    assert batch.images.shape == (2, 3, 64, 96)
    assert batch.images.dtype == torch.uint8
    assert int(batch.images[0].sum()) == 40 * 33 * 3 * 7
    np.testing.assert_array_equal(batch.images[1, :, :2, :70].permute(1, 2, 0).numpy(), images[1])
    assert batch.image_sizes.tolist() == [[40, 33], [2, 70]]
    assert batch.original_sizes.tolist() == [[80, 66], [4, 140]]
    assert batch.image_ids.tolist() == [11, 12]
    assert batch.targets is not None
    assert batch.targets.classes.tolist() == [[-1, -1], [3, 1]]
    assert batch.targets.boxes[0].tolist() == [[0] * 4] * 2
    assert batch.targets.masks is not None
    assert batch.targets.masks.shape == (2, 64, 96)
    assert int(batch.targets.masks.sum()) == 2 * 2 * 70
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
    np.testing.assert_array_equal(mirrored.targets.masks, plain.targets.masks[:, :, ::-1])  # type: ignore[index]
    np.testing.assert_allclose(mirrored.targets.boxes[:, 0], 85 - plain.targets.boxes[:, 2])
    for targets in (plain.targets, mirrored.targets):  # a box is still around its mask
        assert targets.masks is not None
        for box, mask in zip(targets.boxes, targets.masks):
            rows, columns = np.nonzero(mask)
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(box, around, atol=1.01)  # whole pixels of the mask, and rounding
    assert collate(samples, 32).images.shape == (2, 3, 64, 96)


def test_official_masks_equal_pycocotools(coco_sample: Path) -> None:
    coco = COCO(str(coco_sample / "annotations/instances_val2017.json"))
    annotations = [a for a in coco.anns.values() if not a["iscrowd"]][:120]
    for entry in annotations:
        image = coco.imgs[entry["image_id"]]
        size = (image["height"], image["width"])
        np.testing.assert_array_equal(rasterize(entry, size, size), coco.annToMask(entry))
