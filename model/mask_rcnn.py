"""Mask R-CNN: pixels to features, proposals, boxes, masks and keypoints (He et al. 2017, section 3).

Letters: N images, H W padded height and width of the batch, M ground-truth boxes per image.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from maskray.model.backbone.families import build_backbone
from maskray.model.config import InputConfig, ModelConfig
from maskray.model.parts import Part, model_parts
from maskray.model.roi_heads import RoIHeads
from maskray.model.rpn import RPN, Proposals
from maskray.model.structures import Batch, Detections, Targets


class MaskRCNN(nn.Module):
    """Losses in forward, detections in detect."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ModelConfig, input_config: InputConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.channel_order = input_config.channel_order
        self.backbone = build_backbone(config.backbone)
        self.rpn_backbone = build_backbone(config.backbone) if config.rpn.own_backbone else None
        channels, strides = self.backbone.channels, self.backbone.strides
        self.rpn = RPN(config.rpn, config.anchors, channels, strides)
        self.roi_heads = RoIHeads(config, channels, strides, num_classes)
        # Constants of the input, which stand in model.json: not part of the weights.
        self.register_buffer("pixel_mean", torch.tensor(input_config.pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(input_config.pixel_std).view(3, 1, 1), persistent=False)
        self._trainable = frozenset(name for name, parameter in self.named_parameters() if parameter.requires_grad)
        self._trained = frozenset(name for name, _ in self.named_children())
        self._still: list[nn.Module] = []  # batch norms of frozen parts

    def train_parts(self, names: Collection[str]) -> None:
        """Train the named ones of backbone, rpn_backbone, rpn and roi_heads alone; the others are constants.

        Losses are those of what is trained: of the rpn, of the roi_heads, or of both. Constants stay in eval mode.
        Raises ValueError for a name that is not a part, and where neither rpn nor roi_heads is among them.
        """
        unknown = set(names) - {name for name, _ in self.named_children()}
        if unknown:
            raise ValueError(f"the model has no part {', '.join(sorted(unknown))}")
        if not {"rpn", "roi_heads"} & set(names):
            raise ValueError(f"neither rpn nor roi_heads is among the parts to train: {', '.join(sorted(names))}")
        self._trained = frozenset(names)
        self._set_gradients()

    def freeze_parts(self, names: Collection[Part]) -> None:
        """Make constants of the named parts for good, beside what train_parts leaves out.

        Their parameters get no gradient, which still flows through them, and their batch norm keeps its statistics.
        Losses stay as they are. Raises ValueError for a part that the model does not have, and where all is frozen.
        """
        absent = set(names) - set(model_parts(self.config))
        if absent:
            raise ValueError(f"the model has no part {', '.join(sorted(absent))} to freeze")
        frozen = [module for name in names for module in self._modules_of(name)]
        constants = {id(parameter) for module in frozen for parameter in module.parameters()}
        self._trainable -= {name for name, parameter in self.named_parameters() if id(parameter) in constants}
        self._still += [norm for module in frozen for norm in module.modules() if isinstance(norm, _BatchNorm)]
        self._set_gradients()
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise ValueError(f"nothing is left to train beside the frozen {', '.join(names)}")

    def _set_gradients(self) -> None:
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in self._trainable and name.partition(".")[0] in self._trained)
        self.train(self.training)

    def train(self, mode: bool = True) -> MaskRCNN:
        """As of every module, except that parts which are not trained stay in eval mode."""
        super().train(mode)
        for name, part in self.named_children():
            part.train(mode and name in self._trained)
        for norm in self._still:
            norm.eval()
        return self

    def _modules_of(self, part: Part) -> list[nn.Module]:
        """What a part consists of; that of the RPN's own backbone goes with that of the detector's."""
        heads = self.roi_heads
        if part in ("backbone", "pyramid"):
            backbones = [backbone for backbone in (self.backbone, self.rpn_backbone) if backbone is not None]
            return [
                child
                for backbone in backbones
                for name, child in backbone.named_children()
                if (name == backbone.bottom_up_name) == (part == "backbone")
            ]
        modules: dict[str, list[nn.Module | None]] = {
            "rpn": [self.rpn],
            "box_head": [heads.box_head, heads.res5],
            "mask_head": [heads.mask_head],
            "keypoint_head": [heads.keypoint_head],
        }
        return [module for module in modules[part] if module is not None]

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Losses of a batch with targets, float32 scalars whose sum is to be minimised.

        Keys: loss_rpn_objectness, loss_rpn_box, loss_classifier, loss_box, and loss_mask and loss_keypoint
        where the model has such a head; of the trained parts alone, see train_parts. Where the batch has proposals the
        detector learns from them and from no others.
        `generator` draws the samples that enter them; None is torch's global one. Every trained parameter gets a
        gradient, with no objects in the batch too. Raises ValueError without targets or where they do not fit.
        """
        if batch.targets is None:
            raise ValueError("the batch has no targets: losses need them, detect() does not")
        targets = self._check_targets(batch.targets, batch)
        images = self.normalize(batch.images, batch.image_sizes)
        train_rpn, train_heads = ("rpn" in self._trained), ("roi_heads" in self._trained)
        losses: dict[str, Tensor] = {}
        features = self.backbone(images) if train_heads or self.rpn_backbone is None else []
        proposals = None if batch.proposals is None else _stored(batch.proposals)
        if train_rpn or proposals is None:
            output = self.rpn(features if self.rpn_backbone is None else self.rpn_backbone(images))
            if train_rpn:
                losses.update(self.rpn.losses(output, targets, generator))
            if train_heads and proposals is None:
                proposals = self.rpn.propose(output, batch.image_sizes)
        if train_heads:
            assert proposals is not None
            losses.update(self.roi_heads.losses(features, proposals, targets, generator))
        return losses

    @torch.no_grad()
    def propose(self, batch: Batch) -> Proposals:
        """Proposals of a batch, as many as in training, in pixels of the network input; the mode does not matter."""
        images = self.normalize(batch.images, batch.image_sizes)
        mode = self.training
        self.eval()
        output = self.rpn((self.backbone if self.rpn_backbone is None else self.rpn_backbone)(images))
        self.rpn.train()  # which says how many are kept
        proposals = self.rpn.propose(output, batch.image_sizes)
        self.train(mode)
        return proposals

    @torch.no_grad()
    def detect(self, batch: Batch, precision: str | None = None) -> Detections:
        """Detections of a batch, boxes in pixels of the network input, clipped to image_sizes.

        The model must be in eval mode. precision is float32 or bfloat16; None takes that of inference.precision, which
        may be auto only where one is given: a model measures nothing. Raises ValueError naming the images whose
        features are not finite, as they are after a diverged training or with NaN pixels: an empty answer would look
        like an empty image.
        """
        with self.inferring(batch.images.device.type, precision):
            features, proposals = self.find_proposals(batch)
            return self.roi_heads.detect(features, proposals, batch.image_sizes)

    def inferring(self, device: str, precision: str | None = None) -> torch.autocast:
        """What a forward pass of inference runs in, of a precision as detect() takes; ValueError as there."""
        if self.training:
            raise ValueError("detect() needs the model in eval mode: call model.eval() first")
        precision = precision or self.config.inference.precision
        if precision == "auto":
            raise ValueError("inference.precision is auto: detect() needs to be told which pays on this machine")
        return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16")

    def find_proposals(self, batch: Batch) -> tuple[list[Tensor], Proposals]:
        """The maps of a batch and what the RPN proposes on them; ValueError as of detect()."""
        images = self.normalize(batch.images, batch.image_sizes)
        features = self.backbone(images)
        output = self.rpn(features if self.rpn_backbone is None else self.rpn_backbone(images))
        finite = torch.stack([torch.isfinite(logits).all(dim=1) for logits in output.logits]).all(dim=0)
        if not bool(finite.all()):
            ids = batch.image_ids[~finite.to(batch.image_ids.device)].tolist()
            raise ValueError(f"image ids {ids}: the network's features are not finite (diverged weights or NaN pixels)")
        return features, self.rpn.propose(output, batch.image_sizes)

    def features(self, batch: Batch) -> list[Tensor]:
        """Maps of the batch: P2..P6, or the only one."""
        return self.backbone(self.normalize(batch.images, batch.image_sizes))

    def normalize(self, images: Tensor, image_sizes: Tensor) -> Tensor:
        """RGB images (N, 3, H, W) of 0..255 to mean 0 and variance 1, padding 0, sides multiples of size_divisor."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images: shape (N, 3, H, W) is needed, not {tuple(images.shape)}")
        height, width = images.shape[2:]
        rows = torch.arange(height, device=images.device) < image_sizes[:, 0, None]
        columns = torch.arange(width, device=images.device) < image_sizes[:, 1, None]
        inside = (rows[:, None, :, None] & columns[:, None, None, :]).float()
        if self.channel_order == "bgr":
            images = images.flip(1)
        normalized = (images.float() - self.pixel_mean) / self.pixel_std * inside
        divisor = self.config.backbone.size_divisor
        padding = (0, -width % divisor, 0, -height % divisor)
        # Channels last: convolutions and RoIAlign keep and prefer it, on CPU and GPU.
        return F.pad(normalized, padding).contiguous(memory_format=torch.channels_last)

    def _check_targets(self, targets: Targets, batch: Batch) -> Targets:
        """The targets with M at least 1, so that nothing below needs a case for none."""
        num_images = len(batch.image_sizes)
        if targets.boxes.shape[0] != num_images or targets.classes.shape != targets.boxes.shape[:2]:
            raise ValueError(
                f"targets: boxes {tuple(targets.boxes.shape)} and classes {tuple(targets.classes.shape)} do not fit "
                f"{num_images} images"
            )
        if targets.classes.shape[1] > 0:
            return targets
        keypoints = targets.keypoints
        return Targets(
            targets.boxes.new_zeros(num_images, 1, 4),
            targets.classes.new_full((num_images, 1), -1),
            targets.masks,
            None if keypoints is None else keypoints.new_zeros(num_images, 1, *keypoints.shape[2:]),
            targets.has_mask,
        )


def _stored(boxes: Tensor) -> Proposals:
    """Padded boxes (N, P, 4) as proposals; one without area is padding."""
    return Proposals(boxes, (boxes[..., 2:] > boxes[..., :2]).all(dim=2))
