"""The second stage: boxes from proposals, and masks inside them.

Letters: N images, P proposals per image, M ground-truth boxes per image, S samples per image, K boxes of the batch,
C classes, D detections of the batch, m side of the mask.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskray.model.boxes.coding import clip_boxes, decode_deltas, encode_boxes
from maskray.model.boxes.sampling import sample_boxes
from maskray.model.config import ModelConfig
from maskray.model.detections import select_detections
from maskray.model.heads.box import BoxHead
from maskray.model.heads.mask import MaskHead, crop_masks, mask_loss, select_class
from maskray.model.heads.pooler import MultiLevelPooler
from maskray.model.rpn import Proposals
from maskray.model.structures import Detections, Targets
from maskray.ops.match_boxes import match_boxes


class RoISamples(NamedTuple):
    """Boxes that enter the losses, flat over the batch, K = N S."""

    boxes: Tensor  # (K, 4) pixels
    image_index: Tensor  # (K,) int64
    classes: Tensor  # (K,) int64 in 0..C, C is background
    gt_boxes: Tensor  # (K, 4) pixels, of the ground truth answered for
    gt_index: Tensor  # (K,) int64, position of that ground truth in the flat masks
    is_positive: Tensor  # (K,) bool
    is_valid: Tensor  # (K,) bool, False for padding


class RoIHeads(nn.Module):
    """Box head, and mask head where the model has masks."""

    def __init__(self, config: ModelConfig, channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = config.box_head
        self.inference = config.inference
        self.num_classes = num_classes
        self.box_pooler = MultiLevelPooler(config.roi_op, config.box_head.pool_size)
        self.box_head = BoxHead(config.box_head, channels, num_classes)
        self.mask_pooler: MultiLevelPooler | None = None
        self.mask_head: MaskHead | None = None
        if config.masks:
            self.mask_pooler = MultiLevelPooler(config.roi_op, config.mask_head.pool_size)
            self.mask_head = MaskHead(config.mask_head, channels, num_classes)

    @torch.no_grad()
    def sample(self, proposals: Proposals, targets: Targets, generator: torch.Generator | None) -> RoISamples:
        """Choose boxes among proposals and ground truth, and what each is to become; M must be 1 or more."""
        boxes = torch.cat([proposals.boxes, targets.boxes], dim=1)
        usable = torch.cat([proposals.valid, targets.valid], dim=1)
        iou = self.config.positive_iou
        match = match_boxes(boxes, targets.boxes, targets.valid, positive_iou=iou, negative_iou=iou, force_best=False)
        samples = sample_boxes(
            torch.where(usable, match.labels, -1),
            num_samples=self.config.samples_per_image,
            positive_fraction=self.config.positive_fraction,
            generator=generator,
        )
        gt_index = match.gt_index.gather(1, samples.indices)
        classes = torch.where(samples.is_positive, targets.classes.gather(1, gt_index), self.num_classes)
        num_objects = targets.valid.sum(dim=1)
        first_of_image = num_objects.cumsum(0) - num_objects
        image_index = torch.arange(len(boxes), device=boxes.device)[:, None].expand_as(samples.indices)
        return RoISamples(
            boxes=_take(boxes, samples.indices).flatten(0, 1),
            image_index=image_index.flatten(),
            classes=classes.flatten(),
            gt_boxes=_take(targets.boxes, gt_index).flatten(0, 1),
            gt_index=(gt_index + first_of_image[:, None]).flatten(),
            is_positive=samples.is_positive.flatten(),
            is_valid=samples.is_valid.flatten(),
        )

    def losses(
        self, features: list[Tensor], proposals: Proposals, targets: Targets, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Losses of the box head, and of the mask head where the model and the targets have masks."""
        samples = self.sample(proposals, targets, generator)
        logits, deltas = self.box_head(self.box_pooler(features, samples.boxes, samples.image_index))
        target_deltas = encode_boxes(samples.gt_boxes, samples.boxes, self.config.box_weights)
        losses: dict[str, Tensor] = self.box_head.losses(
            logits, deltas, samples.classes, target_deltas, samples.is_valid
        )
        if self.mask_head is not None:
            losses["loss_mask"] = self._mask_loss(features, samples, targets)
        return losses

    def _mask_loss(self, features: list[Tensor], samples: RoISamples, targets: Targets) -> Tensor:
        assert self.mask_head is not None
        assert self.mask_pooler is not None
        if targets.masks is None:
            raise ValueError("the model has a mask head but the targets have no masks: set model.masks to false")
        positive = samples.is_positive.nonzero().squeeze(1)
        boxes = samples.boxes[positive]
        logits = self.mask_head(self.mask_pooler(features, boxes, samples.image_index[positive]))
        target_masks = crop_masks(targets.masks, samples.gt_index[positive], boxes, logits.shape[-1])
        return mask_loss(logits, samples.classes[positive], target_masks)

    @torch.no_grad()
    def detect(self, features: list[Tensor], proposals: Proposals, image_sizes: Tensor) -> Detections:
        """Detections in pixels of the network input, clipped to image_sizes (N, 2)."""
        image_index, slot = proposals.valid.nonzero(as_tuple=True)
        boxes = proposals.boxes[image_index, slot]
        logits, deltas = self.box_head(self.box_pooler(features, boxes, image_index))
        decoded = decode_deltas(deltas, boxes[:, None, :], self.config.box_weights)
        decoded = clip_boxes(decoded, image_sizes[image_index][:, None, :])
        scores = F.softmax(logits, dim=1)[:, :-1]
        detections = select_detections(scores, decoded, image_index, self.inference)
        if self.mask_head is not None:
            assert self.mask_pooler is not None
            mask_logits = self.mask_head(self.mask_pooler(features, detections.boxes, detections.image_index))
            detections.masks = select_class(mask_logits, detections.classes).sigmoid()
        return detections


def _take(boxes: Tensor, index: Tensor) -> Tensor:
    """Rows `index` (N, S) of boxes (N, R, 4), (N, S, 4)."""
    return boxes.gather(1, index[..., None].expand(-1, -1, 4))
