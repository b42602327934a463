"""Region proposal network: scores anchors, shifts them, and keeps the best boxes of each image as proposals.

Letters: N images, L levels, A anchors per cell, Hl Wl cells of level l, T anchors of all levels, P proposals per image,
M ground-truth boxes per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskray.model.boxes.anchors import map_anchors
from maskray.model.boxes.coding import clip_boxes, decode_deltas, encode_boxes
from maskray.model.boxes.losses import box_regression_loss
from maskray.model.boxes.sampling import sample_boxes
from maskray.model.config import AnchorConfig, RPNConfig
from maskray.model.structures import Targets
from maskray.ops.match_boxes import match_boxes
from maskray.ops.nms import batched_nms_mask

BOX_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


class Proposals(NamedTuple):
    """Proposals of a batch, best first: boxes (N, P, 4) in pixels, without gradient; valid (N, P) bool."""

    boxes: Tensor
    valid: Tensor


class RPNOutput(NamedTuple):
    """Raw output for every anchor, by level: logits N x (Hl*Wl*A), deltas N x (Hl*Wl*A) x 4, anchors (Hl*Wl*A) x 4.

    In training these are without gradient: the losses compute the few anchors they need again, from `features`.
    """

    logits: list[Tensor]
    deltas: list[Tensor]
    anchors: list[Tensor]
    features: Sequence[Tensor] = ()


class RPNHead(nn.Module):
    """3x3 convolutions, then objectness and box offsets of each anchor; one set of weights for all levels."""

    def __init__(self, channels: int, num_anchors: int, num_convs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(num_convs))
        self.objectness = nn.Conv2d(channels, num_anchors, 1)
        self.deltas = nn.Conv2d(channels, num_anchors * 4, 1)
        for layer in (*self.convs, self.objectness, self.deltas):
            assert isinstance(layer, nn.Conv2d)
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps (N, C, Hl, Wl) to logits (N, Hl*Wl*A) and deltas (N, Hl*Wl*A, 4), in the order of the anchors."""
        logits, deltas = [], []
        for feature in features:
            hidden = feature
            for conv in self.convs:
                hidden = F.relu(conv(hidden), inplace=True)
            logits.append(self.objectness(hidden).permute(0, 2, 3, 1).flatten(1).float())
            delta = self.deltas(hidden).permute(0, 2, 3, 1)
            deltas.append(delta.reshape(delta.shape[0], -1, 4).float())
        return logits, deltas

    def at_anchors(self, features: Sequence[Tensor], index: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, S) and deltas (N, S, 4) of the anchors `index` (N, S), equal to those that forward gives there.

        Only their cells are computed: with 256 anchors of an image the gradient costs next to nothing, where that of
        whole maps is a ninth of a training step.
        """
        num_anchors = self.objectness.out_channels
        hidden, inside = cut_patches(features, index // num_anchors, len(self.convs))
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            inside = inside[:, :, 1:-1, 1:-1]
            # Zero beyond the map, as the padding of the next convolution is.
            hidden = F.relu(F.conv2d(hidden, conv.weight, conv.bias), inplace=True) * inside
        number = (index % num_anchors)[..., None]
        logits = self.objectness(hidden).view(*index.shape, num_anchors).gather(2, number).squeeze(2)
        deltas = self.deltas(hidden).view(*index.shape, num_anchors, 4)
        deltas = deltas.gather(2, number[..., None].expand(-1, -1, 1, 4)).squeeze(2)
        return logits.float(), deltas.float()


def cut_patches(features: Sequence[Tensor], cells: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Squares of side 2 radius + 1 around cells (N, S), counted through all maps row by row.

    Returns values (N * S, C, side, side), 0 beyond the map, and whether each is inside, (N * S, 1, side, side).
    """
    device, side = cells.device, 2 * radius + 1
    offset = torch.arange(-radius, radius + 1, device=device)
    image = torch.arange(len(cells), device=device)[:, None, None, None]
    patches, all_inside, start = None, torch.zeros((), dtype=torch.bool, device=device), 0
    for feature in features:
        height, width = feature.shape[2:]
        cell = cells - start
        rows = (cell // width)[..., None, None] + offset[:, None]
        columns = (cell % width)[..., None, None] + offset
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        inside &= ((cell >= 0) & (cell < height * width))[..., None, None]
        values = feature.permute(0, 2, 3, 1)[image, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
        values = torch.where(inside[..., None], values, 0)
        patches = values if patches is None else patches + values
        all_inside = all_inside | inside
        start += height * width
    assert patches is not None
    return patches.flatten(0, 1).permute(0, 3, 1, 2), all_inside.view(-1, 1, side, side)


class RPN(nn.Module):
    """Head, choice of proposals and losses."""

    def __init__(self, config: RPNConfig, anchors: AnchorConfig, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        self.anchor_config = anchors
        self.strides = strides
        sizes_per_map = 1 if len(strides) > 1 else len(anchors.sizes)
        self.head = RPNHead(channels, sizes_per_map * len(anchors.aspect_ratios), config.num_convs)

    def forward(self, features: list[Tensor]) -> RPNOutput:
        """Score and shift every anchor of every map."""
        sparse = self.training and torch.is_grad_enabled()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not sparse):
            logits, deltas = self.head(features)
        sizes = [(feature.shape[2], feature.shape[3]) for feature in features]
        anchors = map_anchors(self.anchor_config, sizes, self.strides, features[0].device)
        return RPNOutput(logits, deltas, anchors, features if sparse else ())

    @torch.no_grad()
    def propose(self, output: RPNOutput, image_sizes: Tensor) -> Proposals:
        """The best boxes of each image: top-k per level and image, clip, NMS per level, then the best of all levels.

        Boxes that are not finite or have a side not above min_size_pixels (0: without area) are dropped. P is at most
        post_nms_top_n of the mode, train or test.
        """
        config = self.config
        pre_nms = config.pre_nms_top_n_train if self.training else config.pre_nms_top_n_test
        post_nms = config.post_nms_top_n_train if self.training else config.post_nms_top_n_test
        best, levels = [], []
        for level, (logits, deltas, anchors) in enumerate(zip(*output[:3], strict=True)):
            index = logits.topk(min(pre_nms, logits.shape[1]), dim=1).indices
            # Back in the order of the anchors, so that equal scores are ordered by index on every device.
            index = index.sort(dim=1).values
            best.append((logits.gather(1, index), deltas.gather(1, index[..., None].expand(-1, -1, 4)), anchors[index]))
            levels.append(torch.full_like(index, level))
        scores, best_deltas, best_anchors = (torch.cat(parts, dim=1) for parts in zip(*best, strict=True))
        boxes = clip_boxes(decode_deltas(best_deltas, best_anchors, BOX_WEIGHTS), image_sizes[:, None, :])
        return self._suppress(boxes, scores, torch.cat(levels, dim=1), post_nms)

    def _suppress(self, boxes: Tensor, scores: Tensor, levels: Tensor, post_nms: int) -> Proposals:
        """NMS within each image and level of boxes (N, Q, 4), then the `post_nms` best of each image."""
        num_boxes = scores.shape[1]
        sides = boxes[..., 2:] - boxes[..., :2]
        usable = (sides > self.config.min_size_pixels).all(dim=2) & torch.isfinite(scores)  # False for NaN boxes too
        # The others stay in place, last and without area, where they suppress nothing: no one waits for a count.
        candidates = torch.where(usable[..., None], boxes, 0.0).flatten(0, 1)
        candidate_scores = torch.where(usable, scores, -torch.inf)
        image = torch.arange(len(scores), device=scores.device)[:, None].expand_as(levels)
        kept = batched_nms_mask(
            candidates, candidate_scores.flatten(), levels.flatten(), self.config.nms_iou, image.flatten()
        )
        kept_scores = torch.where(kept.view_as(usable), candidate_scores, -torch.inf)
        # A stable sort and not top-k, for the same reason.
        order = torch.sort(kept_scores, dim=1, descending=True, stable=True)
        index = order.indices[:, : min(post_nms, num_boxes)]
        valid = order.values[:, : index.shape[1]] > -torch.inf
        return Proposals(boxes.gather(1, index[..., None].expand(-1, -1, 4)) * valid[..., None].to(boxes.dtype), valid)

    def losses(self, output: RPNOutput, targets: Targets, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Objectness and box loss of the sampled anchors, both over samples_per_image x N; M must be 1 or more."""
        config = self.config
        anchors = torch.cat(output.anchors)
        match = match_boxes(
            anchors,
            targets.boxes,
            targets.valid,
            positive_iou=config.positive_iou,
            negative_iou=config.negative_iou,
            force_best=True,
        )
        samples = sample_boxes(
            match.labels,
            num_samples=config.samples_per_image,
            positive_fraction=config.positive_fraction,
            generator=generator,
        )
        if output.features:
            logits, deltas = self.head.at_anchors(output.features, samples.indices)
        else:
            logits = torch.cat(output.logits, dim=1).gather(1, samples.indices)
            deltas = torch.cat(output.deltas, dim=1).gather(1, samples.indices[..., None].expand(-1, -1, 4))
        gt_index = match.gt_index.gather(1, samples.indices)
        gt_boxes = targets.boxes.gather(1, gt_index[..., None].expand(-1, -1, 4))
        target_deltas = encode_boxes(gt_boxes, anchors[samples.indices], BOX_WEIGHTS)

        positive = samples.is_positive.float()
        objectness = F.binary_cross_entropy_with_logits(logits, positive, reduction="none")
        box = box_regression_loss(deltas, target_deltas, name=config.box_loss, beta=config.smooth_l1_beta)
        normalizer = config.samples_per_image * positive.shape[0]
        return {
            "loss_rpn_objectness": torch.where(samples.is_valid, objectness, 0.0).sum() / normalizer,
            "loss_rpn_box": torch.where(samples.is_positive[..., None], box, 0.0).sum() / normalizer,
        }
