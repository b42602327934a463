"""From class scores and offsets to detections, and from the network input to the image.

Letters: N images, K boxes of the batch, C classes, D detections of the batch, d detections of one image, h w height and
width of the original image, m side of the mask inside a box.
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
from maskray.ops.soft_nms import soft_nms


@dataclass
class ImageDetections:
    """Detections of one image, best first, boxes in its pixels.

    boxes (d, 4) float32; scores (d,) float32; classes (d,) int64; masks: d of COCO's compressed run lengths
    {"size": [h, w], "counts": bytes}, or None without a mask branch; keypoints (d, K, 3) float32, x y in pixels and
    score, or None without a keypoint branch.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    masks: list[dict[str, Any]] | None = None
    keypoints: Tensor | None = None


def select_detections(scores: Tensor, boxes: Tensor, image_index: Tensor, config: InferenceConfig) -> Detections:
    """The best detections_per_image boxes of each image above the score threshold, after NMS within image and class.

    The threshold is of the scores before NMS; soft NMS lowers some and drops what ends at its least_score or below.

    scores (K, C) probabilities without background; boxes (K, C, 4), or (K, 1, 4) when class agnostic, clipped;
    image_index (K,). A box that is not finite or has no area is no detection. Returns Detections without masks.
    """
    num_classes = scores.shape[1]
    boxes = boxes.expand(-1, num_classes, 4)
    sides = boxes[..., 2:] - boxes[..., :2]
    large = (sides > 0) & (sides >= config.min_size_pixels)  # False for NaN too
    usable = (scores > config.score_threshold) & large.all(dim=2)
    row, column = usable.nonzero(as_tuple=True)
    scores, boxes, image = scores[row, column], boxes[row, column], image_index[row]
    kept, scores = _suppress(boxes, scores, column, image, config)
    # Ordered by score; a stable sort by image leaves that order inside each image.
    by_image = torch.argsort(image[kept], stable=True)
    kept, scores = kept[by_image], scores[by_image]
    image = image[kept]
    rank = torch.arange(len(kept), device=kept.device) - torch.searchsorted(image, image)
    best = rank < config.detections_per_image
    kept = kept[best]
    return Detections(boxes[kept], scores[best], column[kept], image[best])


def _suppress(
    boxes: Tensor, scores: Tensor, classes: Tensor, image: Tensor, config: InferenceConfig
) -> tuple[Tensor, Tensor]:
    """Indices of the boxes that stay, within image and class, and their scores after NMS, the best first."""
    if config.nms.name == "hard":
        kept = batched_nms(boxes, scores, classes, config.nms_iou, image)
        return kept, scores[kept]
    soft = config.nms
    return soft_nms(boxes, scores, config.nms_iou, soft.sigma, soft.method, soft.least_score, classes, image)


def to_original(
    detections: Detections, batch: Batch, index: int, mask_threshold: float = 0.5, mask_paste: str = "exact"
) -> ImageDetections:
    """Detections of image `index` of the batch, in pixels of its image, with masks of its size.

    Boxes are scaled by the ratio of the sizes and clipped, keypoints scaled; masks are pasted, by the rule
    `mask_paste` of InferenceConfig, and cut at `mask_threshold`, as run lengths: the memory they take does not depend
    on the size of the original image. Raises ValueError where the batch has no such image.
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
        pasted = (detections.masks[chosen], boxes)
        if mask_paste == "torchvision":
            pasted = with_rim(*pasted)
        masks = paste_masks_to_rle(*pasted, (height, width), mask_threshold)
    keypoints = None
    if detections.keypoints is not None:
        keypoints = detections.keypoints[chosen]
        keypoints = torch.cat([keypoints[..., :2] * scale[:2], keypoints[..., 2:]], dim=2)
    return ImageDetections(boxes, detections.scores[chosen], detections.classes[chosen], masks, keypoints)


def with_rim(masks: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """What torchvision pastes: masks (d, m, m) with one cell of zeros around, boxes (d, 4) larger by as much and whole.

    Corners are cut to whole pixels towards zero, the far ones then one pixel further: it counts them as inside.
    """
    padded = torch.nn.functional.pad(masks, (1, 1, 1, 1))
    centres, halves = (boxes[:, 2:] + boxes[:, :2]) * 0.5, (boxes[:, 2:] - boxes[:, :2]) * 0.5
    halves = halves * (padded.shape[-1] / masks.shape[-1])
    whole = torch.cat([centres - halves, centres + halves], dim=1).trunc()
    first, last = whole[:, :2], whole[:, 2:]
    return padded, torch.cat([first, torch.maximum(last + 1, first + 1)], dim=1)
