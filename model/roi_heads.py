"""The second stage: boxes from proposals, masks and keypoints inside them.

Letters: N images, P proposals per image, M ground-truth boxes per image, S samples per image, K boxes of the batch,
C classes, D detections of the batch, m side of the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskray.model.backbone.families import build_stage_head
from maskray.model.boxes.coding import clip_boxes, decode_deltas, encode_boxes
from maskray.model.boxes.sampling import sample_boxes
from maskray.model.config import ModelConfig
from maskray.model.detections import select_detections
from maskray.model.heads.box import BoxHead
from maskray.model.heads.chunks import run_in_chunks
from maskray.model.heads.keypoint import KeypointHead, decode_keypoints, keypoint_loss
from maskray.model.heads.mask import build_mask_head, mask_loss, mask_probabilities
from maskray.model.heads.pooler import Pooler
from maskray.model.rpn import Proposals
from maskray.model.structures import Detections, Targets
from maskray.ops.match_boxes import match_boxes


class RoISamples(NamedTuple):
    """Boxes that enter the losses, flat over the batch, K = N S."""

    boxes: Tensor  # (K, 4) pixels
    image_index: Tensor  # (K,) int64
    classes: Tensor  # (K,) int64 in 0..C, C is background
    gt_boxes: Tensor  # (K, 4) pixels, of the ground truth answered for
    gt_slot: Tensor  # (K,) int64 in 0..M-1, of that ground truth in its image
    gt_index: Tensor  # (K,) int64, position of that ground truth in the flat masks
    is_positive: Tensor  # (K,) bool
    is_valid: Tensor  # (K,) bool, False for padding


class Positive(NamedTuple):
    """Boxes that answer for an object, K of them."""

    rows: Tensor  # (K,) int64, of the samples; on their device
    gt_index: Tensor  # (K,) int64, position of the object in the flat masks; on the CPU
    boxes: Tensor  # (K, 4) pixels; on the CPU

    def select(self, chosen: Tensor) -> Positive:
        """Those that (K,) bool on the CPU names."""
        kept = chosen.nonzero().squeeze(1)
        rows = self.rows[kept.to(self.rows.device, non_blocking=True)]
        return Positive(rows, self.gt_index[kept], self.boxes[kept])


class ScoredBoxes(NamedTuple):
    """What the box head says of K proposals of the batch."""

    boxes: Tensor  # (K, C, 4), or (K, 1, 4) when class agnostic, pixels of the network input
    scores: Tensor  # (K, C) probabilities without background
    image_index: Tensor  # (K,) int64


class RoIHeads(nn.Module):
    """Box head, and mask and keypoint heads where the model has them."""

    def __init__(self, config: ModelConfig, channels: int, strides: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.config = config.box_head
        self.mask_config = config.mask_head
        self.keypoint_config = config.keypoint_head
        self.inference = config.inference
        self.num_classes = num_classes
        self.box_pooler = Pooler(config.roi_op, config.box_head.pool_size, strides)
        # Of a C4 model res5 is the head, for boxes and masks alike (paper, Figure 4 left).
        self.res5: nn.Module | None = None
        head_channels, mask_side = channels, config.mask_head.pool_size
        if config.box_head.name == "res5":
            self.res5, head_channels = build_stage_head(config.backbone, config.box_head.res5_stride)
            mask_side = config.box_head.pool_size // config.box_head.res5_stride
        self.box_head = BoxHead(config.box_head, head_channels, num_classes)
        self.mask_pooler: Pooler | None = None
        self.mask_head: nn.Module | None = None
        if config.masks:
            if self.res5 is None:
                self.mask_pooler = Pooler(config.roi_op, config.mask_head.pool_size, strides)
            self.mask_head = build_mask_head(config.mask_head, head_channels, mask_side, num_classes)
        self.keypoint_pooler: Pooler | None = None
        self.keypoint_head: KeypointHead | None = None
        if config.keypoints:
            self.keypoint_pooler = Pooler(config.roi_op, config.keypoint_head.pool_size, strides)
            self.keypoint_head = KeypointHead(config.keypoint_head, channels)

    def pool_for_boxes(self, features: list[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """What the box head looks at: boxes (K, 4) in pixels, image_index (K,) to (K, channels, S, S)."""
        pooled: Tensor = self.box_pooler(features, boxes, image_index)
        return pooled if self.res5 is None else run_in_chunks(self.res5, pooled)

    def pool_for_masks(self, features: list[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """What the mask head looks at: the same of its own size, or the very same after res5."""
        if self.mask_pooler is None:
            return self.pool_for_boxes(features, boxes, image_index)
        pooled: Tensor = self.mask_pooler(features, boxes, image_index)
        return pooled

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
            gt_slot=gt_index.flatten(),
            gt_index=(gt_index + first_of_image[:, None]).flatten(),
            is_positive=samples.is_positive.flatten(),
            is_valid=samples.is_valid.flatten(),
        )

    def losses(
        self, features: list[Tensor], proposals: Proposals, targets: Targets, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Losses of the box head, and of the mask and keypoint heads where the model has them."""
        samples = self.sample(proposals, targets, generator)
        pooled = self.pool_for_boxes(features, samples.boxes, samples.image_index)
        logits, deltas = self.box_head(pooled)
        target_deltas = encode_boxes(samples.gt_boxes, samples.boxes, self.config.box_weights)
        losses: dict[str, Tensor] = self.box_head.losses(
            logits, deltas, samples.classes, target_deltas, samples.is_valid
        )
        positive = _positive(samples)
        if self.mask_head is not None:
            losses["loss_mask"] = self._mask_loss(features, pooled, samples, positive, targets)
        if self.keypoint_head is not None:
            losses["loss_keypoint"] = self._keypoint_loss(features, samples, positive.rows, targets)
        return losses

    def _mask_loss(
        self, features: list[Tensor], pooled: Tensor, samples: RoISamples, positive: Positive, targets: Targets
    ) -> Tensor:
        assert self.mask_head is not None
        if targets.masks is None:
            raise ValueError("the model has a mask head but the targets have no masks: set model.masks to false")
        config = self.mask_config
        if targets.has_mask is not None:
            positive = positive.select(targets.has_mask[positive.gt_index])
        if self.res5 is None:
            boxes, image_index = samples.boxes[positive.rows], samples.image_index[positive.rows]
            inside = self.pool_for_masks(features, boxes, image_index)
        else:
            inside = pooled[positive.rows]  # the grid is the same: no need to compute res5 again
        logits = self.mask_head(inside)
        # On the CPU, while an accelerator computes the logits.
        cropped = targets.masks.crop(positive.gt_index, positive.boxes, logits.shape[-1], config.targets)
        target_masks = cropped.to(logits.device, non_blocking=True)
        return mask_loss(logits, samples.classes[positive.rows], target_masks, config.output)

    def _keypoint_loss(self, features: list[Tensor], samples: RoISamples, positive: Tensor, targets: Targets) -> Tensor:
        assert self.keypoint_head is not None
        assert self.keypoint_pooler is not None
        if targets.keypoints is None:
            raise ValueError(
                "the model has a keypoint head but the targets have no keypoints: set model.keypoints false"
            )
        wanted = self.keypoint_config.num_keypoints
        if targets.keypoints.shape[2:] != (wanted, 3):
            raise ValueError(
                f"targets: keypoints {tuple(targets.keypoints.shape)} do not fit a head of {wanted} keypoints"
            )
        boxes, image_index = samples.boxes[positive], samples.image_index[positive]
        keypoints = targets.keypoints[image_index, samples.gt_slot[positive]]
        return keypoint_loss(self.keypoint_head(self.keypoint_pooler(features, boxes, image_index)), keypoints, boxes)

    @torch.no_grad()
    def detect(self, features: list[Tensor], proposals: Proposals, image_sizes: Tensor) -> Detections:
        """Detections in pixels of the network input, clipped to image_sizes (N, 2)."""
        scored = self.score(features, proposals, image_sizes)
        detections = select_detections(scored.scores, scored.boxes, scored.image_index, self.inference)
        boxes, image_index = detections.boxes, detections.image_index
        if self.mask_head is not None:
            detections.masks = self.find_masks(features, boxes, image_index, detections.classes)
        if self.keypoint_head is not None:
            maps = self.heat_maps(features, boxes, image_index)
            detections.keypoints = decode_keypoints(maps, boxes, self.keypoint_config.score)
        return detections

    def score(self, features: list[Tensor], proposals: Proposals, image_sizes: Tensor) -> ScoredBoxes:
        """What the box head says of each proposal, before NMS, clipped to image_sizes (N, 2)."""
        image_index, slot = proposals.valid.nonzero(as_tuple=True)
        boxes = proposals.boxes[image_index, slot]
        logits, deltas = self.box_head(self.pool_for_boxes(features, boxes, image_index))
        decoded = decode_deltas(deltas, boxes[:, None, :], self.config.box_weights)
        decoded = clip_boxes(decoded, image_sizes[image_index][:, None, :])
        return ScoredBoxes(decoded, F.softmax(logits, dim=1)[:, :-1], image_index)

    def find_masks(self, features: list[Tensor], boxes: Tensor, image_index: Tensor, classes: Tensor) -> Tensor:
        """Probabilities (D, m, m) inside boxes (D, 4), in pixels of the network input, of objects of classes (D,)."""
        assert self.mask_head is not None
        logits = self.mask_head(self.pool_for_masks(features, boxes, image_index))
        return mask_probabilities(logits, classes, self.mask_config.output)

    def heat_maps(self, features: list[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """Logits (D, K, m, m) of the keypoints inside boxes (D, 4), in pixels of the network input."""
        assert self.keypoint_head is not None
        assert self.keypoint_pooler is not None
        maps: Tensor = self.keypoint_head(self.keypoint_pooler(features, boxes, image_index))
        return maps


def _positive(samples: RoISamples) -> Positive:
    """The only wait for the device in a step: which boxes are positive, where they lie, and of which objects."""
    objects = torch.where(samples.is_positive, samples.gt_index, -1)
    # Whole numbers below 2**24 are exact in float32; more objects do not come in a batch.
    seen = torch.cat([objects[:, None].to(samples.boxes.dtype), samples.boxes], dim=1).cpu()
    rows = (seen[:, 0] >= 0).nonzero().squeeze(1)
    seen = seen[rows]
    return Positive(rows.to(samples.boxes.device, non_blocking=True), seen[:, 0].long(), seen[:, 1:])


def _take(boxes: Tensor, index: Tensor) -> Tensor:
    """Rows `index` (N, S) of boxes (N, R, 4), (N, S, 4)."""
    return boxes.gather(1, index[..., None].expand(-1, -1, 4))
