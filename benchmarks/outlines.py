"""Masks of training as outlines beside bitmaps of whole images: memory of a batch, images/s, targets of a step.

A JPEG of 480 x 800 pixels with 20, 100 or 300 objects, drawn as polygons, becomes a sample of 800 x 1333 and a batch of
two. The peer is how maskray did it before: each object filled by pycocotools at network size, all put into one tensor,
and at the loss RoIAlign of the bitmaps in float32. Both decode, resize and collate alike, in one process by turns, and
the targets must be equal to the bit. Targets are those of 128 sampled boxes an image, around the objects.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from side_by_side import medians
from torch import Tensor

from maskray.model.config import Category, InputConfig, LabelMap, ModelConfig
from maskray.model.structures import Batch
from maskray.ops.roi_align import roi_align
from maskray.platform.data.batch import SampleBuilder, collate
from maskray.platform.job.data_config import DataConfig

HEIGHT, WIDTH, IMAGES, SAMPLES, SIDE = 480, 800, 2, 128, 28
COUNTS = (20, 100, 300)
MAX_FLOAT_PIXELS = 64 * 1024 * 1024


def draw_row(num_objects: int) -> dict[str, Any]:
    """A row of a shard: noise, and objects that are rough discs of 30 to 60 corners, smaller the more there are."""
    random = np.random.default_rng(num_objects)
    buffer = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)).save(buffer, "jpeg")
    annotations = []
    for index in range(num_objects):
        radius = random.uniform(0.4, 1.2) * 0.5 * (HEIGHT * WIDTH / num_objects) ** 0.5
        centre = random.random(2) * (np.array([WIDTH, HEIGHT]) - 2 * radius) + radius
        angles = np.sort(random.random(random.integers(30, 60))) * 2 * np.pi
        spokes = radius * random.uniform(0.7, 1.0, len(angles))
        polygon = centre + spokes[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        box = [*low.tolist(), *(high - low).tolist()]
        segmentation = [polygon.round(2).ravel().tolist()]
        annotations.append({"id": index, "category_id": 1, "bbox": box, "iscrowd": 0, "segmentation": segmentation})
    row = {"image_id": num_objects, "file_name": "drawn.jpg", "height": HEIGHT, "width": WIDTH}
    return row | {"image": buffer.getvalue(), "annotations": json.dumps(annotations)}


def make_builder(masks: bool) -> SampleBuilder:
    source = {"kind": "synthetic", "num_images": 1}
    data = DataConfig.model_validate({"train": source, "val": source, "flip": 0.0})
    labels = LabelMap(categories=(Category(id=1, name="disc"),))
    return SampleBuilder(data, InputConfig(), ModelConfig(masks=masks), labels, 0)


def load_outlines(row: Mapping[str, Any]) -> Batch:
    """The input path as it is."""
    builder = make_builder(True)
    return collate([builder.build(row, 0) for _ in range(IMAGES)], 32)


def load_bitmaps(row: Mapping[str, Any]) -> tuple[Batch, Tensor]:
    """The input path as it was: the same batch without masks, and masks (G, H, W) uint8."""
    builder = make_builder(False)
    samples = [builder.build(row, 0) for _ in range(IMAGES)]
    bitmaps = []
    for sample in samples:
        height, width = sample.image.shape[:2]
        scale = np.array([width / WIDTH, height / HEIGHT])
        annotations = json.loads(row["annotations"])
        masks = np.zeros((len(annotations), height, width), dtype=np.uint8)
        for mask, annotation in zip(masks, annotations):
            polygons = [(np.reshape(polygon, (-1, 2)) * scale).ravel() for polygon in annotation["segmentation"]]
            mask[:] = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)))
        bitmaps.append(masks)
    batch = collate(samples, 32)
    whole = torch.zeros(sum(map(len, bitmaps)), *batch.images.shape[2:], dtype=torch.uint8)
    start = 0
    for masks in bitmaps:
        whole.numpy()[start : start + len(masks), : masks.shape[1], : masks.shape[2]] = masks
        start += len(masks)
    return batch, whole


def crop_bitmaps(masks: Tensor, index: Tensor, boxes: Tensor) -> Tensor:
    """Targets as they were made: RoIAlign of bitmaps, some of them in float32 at a time."""
    used, position = torch.unique(index, return_inverse=True)
    per_chunk = max(1, MAX_FLOAT_PIXELS // (masks.shape[1] * masks.shape[2]))
    crops = torch.zeros(len(boxes), SIDE, SIDE, dtype=torch.bool)
    for start in range(0, len(used), per_chunk):
        chunk = masks[used[start : start + per_chunk]].unsqueeze(1).float()
        rows = ((position >= start) & (position < start + per_chunk)).nonzero().squeeze(1)
        rois = torch.cat([(position[rows] - start).to(boxes.dtype)[:, None], boxes[rows]], dim=1)
        crops[rows] = roi_align(chunk, rois, SIDE, 1.0, 0, True).squeeze(1) >= 0.5
    return crops


def draw_samples(batch: Batch) -> tuple[Tensor, Tensor]:
    """Objects and boxes of positive samples: objects' boxes moved by up to a tenth of their sides."""
    assert batch.targets is not None
    generator = torch.Generator().manual_seed(0)
    boxes = batch.targets.boxes.flatten(0, 1)
    index = torch.randint(0, len(boxes), (IMAGES * SAMPLES,), generator=generator)
    chosen = boxes[index]
    moved = torch.rand(len(chosen), 4, generator=generator) - 0.5
    return index, chosen + 0.2 * moved * (chosen[:, 2:] - chosen[:, :2]).repeat(1, 2)


def mask_bytes(batch: Batch) -> int:
    assert batch.targets is not None
    assert batch.targets.masks is not None
    return sum(tensor.nbytes for tensor in batch.targets.masks.tensors)


def compare(num_objects: int, repeats: int) -> None:
    """Print the lines of one number of objects."""
    row = draw_row(num_objects)
    ours, (theirs, bitmaps) = load_outlines(row), load_bitmaps(row)
    assert ours.targets is not None
    assert ours.targets.masks is not None
    outlines, (index, boxes) = ours.targets.masks, draw_samples(theirs)
    assert torch.equal(outlines.crop(index, boxes, SIDE), crop_bitmaps(bitmaps, index, boxes))
    ours_mb, theirs_mb = mask_bytes(ours) / 1e6, bitmaps.nbytes / 1e6
    sizes = f"{ours_mb:10.3f} {theirs_mb:10.1f} {theirs_mb / ours_mb:9.0f}x"
    print(f"{num_objects} objects, masks of a batch, MB      {sizes}")
    mine, peer = medians([lambda: load_outlines(row), lambda: load_bitmaps(row)], repeats)
    rates = f"{1e3 * IMAGES / mine:10.1f} {1e3 * IMAGES / peer:10.1f} {peer / mine:9.2f}x"
    print(f"{num_objects} objects, input path, images/s      {rates}")
    cut, cut_bitmaps = lambda: outlines.crop(index, boxes, SIDE), lambda: crop_bitmaps(bitmaps, index, boxes)
    mine, peer = medians([cut, cut_bitmaps], repeats)
    print(f"{num_objects} objects, targets of a step, ms     {mine:10.2f} {peer:10.2f} {peer / mine:9.1f}x", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of the CPU; one table for each")
    arguments = parser.parse_args()
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        print(f"\n{threads} thread(s), torch {torch.__version__}; {IMAGES} images of 800 x 1333, {SAMPLES} boxes each")
        print(f"{'case':42} {'outlines':>10} {'bitmaps':>10} {'ratio':>10}")
        for num_objects in COUNTS:
            compare(num_objects, arguments.repeats)


if __name__ == "__main__":
    main()
