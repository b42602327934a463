"""The model as one function of a single image of fixed size, in operations that other runtimes have too.

Shapes are known before it runs, but for the number of detections: what NMS drops keeps its place with a score of minus
infinity until the end.

Letters: H W height and width of the image, L levels, Q candidates per level, P proposals, C classes, G groups, D
detections, K keypoints, m side of a mask or heat map.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskray.model.backbone.norm import FrozenBatchNorm2d
from maskray.model.backbone.resnet import ConvNorm
from maskray.model.boxes.anchors import map_anchors
from maskray.model.boxes.coding import clip_boxes, decode_deltas
from maskray.model.heads.keypoint import find_peaks, place_peaks, whole_sizes
from maskray.model.heads.mask import mask_probabilities
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.rpn import BOX_WEIGHTS
from maskray.ops.nms import batched_nms


class DetectionGraph(nn.Module):
    """A copy of a model, for images (3, height, width) padded at right and bottom, with frozen batch norm folded in."""

    def __init__(self, model: MaskRCNN, height: int, width: int) -> None:
        super().__init__()
        _check(model, height, width)
        self.model = fold_norms(copy.deepcopy(model).eval())
        device = model.pixel_mean.device
        with torch.no_grad():
            image, size = torch.zeros(3, height, width, device=device), torch.tensor([height, width], device=device)
            maps = self.model.backbone(self.model.normalize(image[None], size[None]))
        sizes = [(feature.shape[2], feature.shape[3]) for feature in maps]
        anchors = map_anchors(model.rpn.anchor_config, sizes, model.backbone.strides, device)
        for level, boxes in enumerate(anchors):
            self.register_buffer(f"anchors_{level}", boxes)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of what forward returns, in order."""
        config = self.model.config
        return "boxes", "scores", "classes", *["masks"] * config.masks, *["keypoints"] * config.keypoints

    def forward(self, image: Tensor, image_size: Tensor) -> tuple[Tensor, ...]:
        """What MaskRCNN.detect gives: boxes (D, 4), scores (D,), classes (D,), masks (D, m, m), keypoints (D, K, 3).

        image (3, H, W) float32 RGB in 0..255; image_size (2,) int64, height and width of the part without padding.
        Masks and keypoints are there where the model has such heads. Unlike detect, features that are not finite
        give no detections and no error.
        """
        heads, config = self.model.roi_heads, self.model.config
        images = self.model.normalize(image[None], image_size[None])
        maps = self.model.backbone(images)
        rpn_maps = maps if self.model.rpn_backbone is None else self.model.rpn_backbone(images)
        boxes, scores, classes = self._select(maps, *self._propose(rpn_maps, image_size), image_size)
        first = torch.zeros_like(classes)
        outputs = [boxes, scores, classes]
        if heads.mask_head is not None:
            logits = heads.mask_head(heads.pool_for_masks(maps, boxes, first))
            outputs.append(mask_probabilities(logits, classes, config.mask_head.output))
        if heads.keypoint_head is not None:
            assert heads.keypoint_pooler is not None
            logits = heads.keypoint_head(heads.keypoint_pooler(maps, boxes, first))
            peaks = peaks_of_maps(logits, whole_sizes(boxes))
            outputs.append(place_peaks(peaks, logits, boxes, config.keypoint_head.score))
        return tuple(outputs)

    def _propose(self, maps: list[Tensor], image_size: Tensor) -> tuple[Tensor, Tensor]:
        """Proposals (P, 4), best first, and which of them are any, (P,) bool: RPN.propose of one image."""
        rpn = self.model.rpn
        config = rpn.config
        logits, deltas = rpn.head(maps)
        most = min(config.pre_nms_top_n_test, max(level.shape[1] for level in logits))
        boxes, scores = [], []
        for level, (level_logits, level_deltas) in enumerate(zip(logits, deltas, strict=True)):
            best = level_logits[0].topk(min(most, level_logits.shape[1]))
            anchors = self.get_buffer(f"anchors_{level}")[best.indices]
            decoded = decode_deltas(level_deltas[0][best.indices], anchors, BOX_WEIGHTS)
            missing = most - decoded.shape[0]
            boxes.append(F.pad(decoded, (0, 0, 0, missing)))
            scores.append(F.pad(best.values, (0, missing), value=-torch.inf))
        candidates = clip_boxes(torch.stack(boxes), image_size)
        sides = candidates[..., 2:] - candidates[..., :2]
        values = torch.stack(scores)
        usable = (sides > config.min_size_pixels).all(dim=2) & torch.isfinite(values)
        values = torch.where(usable, values, -torch.inf)
        values = torch.where(nms_of_groups(candidates, values, config.nms_iou), values, -torch.inf).flatten()
        best = values.topk(min(config.post_nms_top_n_test, values.shape[0]))
        return candidates.flatten(0, 1)[best.indices], best.values > -torch.inf

    def _select(
        self, maps: list[Tensor], proposals: Tensor, valid: Tensor, image_size: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (D, 4), scores and classes (D,) of the proposals: the first half of RoIHeads.detect for one image."""
        heads, config = self.model.roi_heads, self.model.config.inference
        first = torch.zeros(proposals.shape[0], dtype=torch.int64, device=proposals.device)
        logits, deltas = heads.box_head(heads.pool_for_boxes(maps, proposals, first))
        boxes = clip_boxes(decode_deltas(deltas, proposals[:, None, :], heads.config.box_weights), image_size)
        scores = F.softmax(logits, dim=1)[:, :-1]
        num_classes = scores.shape[1]
        sides = boxes[..., 2:] - boxes[..., :2]
        large = ((sides > 0) & (sides >= config.min_size_pixels)).all(dim=2)
        usable = (scores > config.score_threshold) & large & valid[:, None]
        scores = torch.where(usable, scores, -torch.inf)
        boxes = boxes.expand(-1, num_classes, 4)
        kept = nms_of_groups(boxes.transpose(0, 1), scores.transpose(0, 1), config.nms_iou)
        scores = torch.where(kept.transpose(0, 1), scores, -torch.inf).flatten()
        best = scores.topk(min(config.detections_per_image, scores.shape[0]))
        index = best.indices[(best.values > -torch.inf).nonzero().squeeze(1)]
        return boxes.flatten(0, 1)[index], scores[index], index % num_classes


def fold_norms(model: MaskRCNN) -> MaskRCNN:
    """The model itself, with every frozen batch norm of the backbone turned into weights and bias before it."""
    for module in model.modules():
        if isinstance(module, ConvNorm) and isinstance(module.norm, FrozenBatchNorm2d):
            scale, shift = module.norm.scale_and_shift()
            module.conv.weight = nn.Parameter(module.conv.weight.detach() * scale[:, None, None, None], False)
            module.conv.bias = nn.Parameter(shift.clone(), False)
            module.norm = nn.Identity()
    return model


def _check(model: MaskRCNN, height: int, width: int) -> None:
    config, divisor = model.config, model.config.backbone.size_divisor
    if config.roi_op.name != "roi_align":
        raise ValueError(f"model.roi_op.name is {config.roi_op.name}: other runtimes have RoIAlign alone")
    if config.roi_op.reduction != "mean":
        raise ValueError(f"model.roi_op.reduction is {config.roi_op.reduction}: other runtimes' RoIAlign is the mean")
    if config.inference.nms.name != "hard":
        raise ValueError(f"model.inference.nms.name is {config.inference.nms.name}: other runtimes have hard NMS alone")
    for name, side in (("height", height), ("width", width)):
        if side < 1 or side % divisor:
            raise ValueError(f"image size: {name} {side} is not a positive multiple of {divisor}")


@torch.library.custom_op("maskray_graph::nms_of_groups", mutates_args=())
def nms_of_groups(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Which boxes (G, Q, 4) stay, (G, Q) bool, by NMS within each group; a score of -inf is no candidate."""
    group, row = torch.isfinite(scores).nonzero(as_tuple=True)
    kept = batched_nms(boxes[group, row], scores[group, row], group, iou_threshold)
    stays = torch.zeros_like(scores, dtype=torch.bool)
    stays[group[kept], row[kept]] = True
    return stays


@nms_of_groups.register_fake
def _fake_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


@torch.library.custom_op("maskray_graph::peaks_of_maps", mutates_args=())
def peaks_of_maps(logits: Tensor, whole: Tensor) -> Tensor:
    """As find_peaks, as one operation of a graph: the sizes of the resized maps are known only when it runs."""
    return find_peaks(logits, whole)


@peaks_of_maps.register_fake
def _fake_peaks(logits: Tensor, whole: Tensor) -> Tensor:
    return logits.new_empty((*logits.shape[:2], 3))
