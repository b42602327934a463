"""Trained on two images, the model finds what is drawn in them: every part of it learns together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pycocotools import mask as coco_mask

from maskray.model.boxes.coding import box_iou
from maskray.model.detections import to_original
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch

STEPS = 160


@pytest.mark.slow
def test_two_images_are_learned(tiny_model: MaskRCNN, make_batch: Callable[..., Batch]) -> None:
    batch = make_batch(
        [[(0, 10, 12, 50, 60), (1, 70, 30, 118, 84)], [(1, 20, 20, 60, 76), (0, 84, 8, 116, 48), (0, 70, 60, 120, 88)]]
    )
    assert batch.targets is not None
    assert batch.targets.masks is not None
    batch.original_sizes = batch.image_sizes
    optimizer = torch.optim.SGD(tiny_model.parameters(), lr=0.02, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    history = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * min(1.0, (step + 1) / 20) * (0.1 if step >= STEPS - 20 else 1.0)
        losses = tiny_model(batch, generator=generator)
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(tiny_model.parameters(), 10.0)
        optimizer.step()
        history.append(total.item())
    assert sum(history[-10:]) < 0.25 * sum(history[:10])

    detections = tiny_model.eval().detect(batch)
    first = 0
    for image in range(2):
        found = to_original(detections, batch, image)
        valid = batch.targets.valid[image]
        boxes, classes = batch.targets.boxes[image][valid], batch.targets.classes[image][valid]
        masks = batch.targets.masks.bitmaps()[first : first + len(boxes)].bool()
        first += len(boxes)
        certain = found.scores > 0.5
        assert int(certain.sum()) == len(boxes)
        overlap = box_iou(boxes, found.boxes[certain])
        best, index = overlap.max(dim=1)
        assert (best > 0.7).all(), best
        assert found.classes[certain][index].tolist() == classes.tolist()
        assert found.masks is not None
        pasted = torch.from_numpy(coco_mask.decode(found.masks)).permute(2, 0, 1).bool()[certain][index]
        mask_iou = (pasted & masks).sum(dim=(1, 2)) / (pasted | masks).sum(dim=(1, 2))
        assert (mask_iou > 0.7).all(), mask_iou
