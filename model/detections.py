"""From class scores and offsets to detections, and from the network input to the photograph.

Letters: N images, K boxes of the batch, C classes, D detections of the batch, d detections of one image, h w height and
width of the photograph, m side of the mask inside a box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maskray.model.boxes.coding import clip_boxes
from maskray.model.config import InferenceConfig
from maskray.model.structures import Batch, Detections
from maskray.ops.nms import batched_nms
from maskray.ops.paste_masks_to_rle import paste_masks_to_rle


@dataclass
class ImageDetections:
    """Detections of one photograph, best first, boxes in its pixels.

    boxes (d, 4) float32; scores (d,) float32; classes (d,) int64; masks: d of COCO's compressed run lengths
    {"size": [h, w], "counts": bytes}, or None without a mask branch.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    masks: list[dict[str, Any]] | None = None


def select_detections(scores: Tensor, boxes: Tensor, image_index: Tensor, config: InferenceConfig) -> Detections:
    """The best detections_per_image boxes of each image above the score threshold, after NMS within image and class.

    scores (K, C) probabilities without background; boxes (K, C, 4), or (K, 1, 4) when class agnostic, clipped;
    image_index (K,). A box that is not finite or has no area is no detection. Returns Detections without masks.
    """
    num_classes = scores.shape[1]
    boxes = boxes.expand(-1, num_classes, 4)
    usable = (scores > config.score_threshold) & (boxes[..., 2:] > boxes[..., :2]).all(dim=2)
    row, column = usable.nonzero(as_tuple=True)
    scores, boxes, image = scores[row, column], boxes[row, column], image_index[row]
    kept = batched_nms(boxes, scores, column, config.nms_iou, image)
    # Ordered by score; a stable sort by image leaves that order inside each image.
    kept = kept[torch.argsort(image[kept], stable=True)]
    image = image[kept]
    rank = torch.arange(len(kept), device=kept.device) - torch.searchsorted(image, image)
    best = rank < config.detections_per_image
    kept = kept[best]
    return Detections(boxes[kept], scores[kept], column[kept], image[best])


def to_original(detections: Detections, batch: Batch, index: int, mask_threshold: float = 0.5) -> ImageDetections:
    """Detections of image `index` of the batch, in pixels of its photograph, with masks of its size.

    Boxes are scaled by the ratio of the sizes and clipped; masks are pasted and cut at `mask_threshold`, as run
    lengths: the memory they take does not depend on the size of the photograph.
    Raises ValueError where the batch has no such image.
    """
    if not 0 <= index < len(batch.image_sizes):
        raise ValueError(f"index {index} is not in the batch of {len(batch.image_sizes)} images")
    device = detections.boxes.device
    chosen = detections.image_index == index
    size = batch.image_sizes[index].to(device)
    original = batch.original_sizes[index].to(device)
    scale = (original.float() / size.float()).flip(0).repeat(2)
    boxes = clip_boxes(detections.boxes[chosen] * scale, original)
    masks = None
    if detections.masks is not None:
        height, width = batch.original_sizes[index].tolist()
        masks = paste_masks_to_rle(detections.masks[chosen], boxes, (height, width), mask_threshold)
    return ImageDetections(boxes, detections.scores[chosen], detections.classes[chosen], masks)
