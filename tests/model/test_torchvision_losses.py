"""Models of torchvision, imported, have the losses and gradients that torchvision has on the same samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection, resnet18
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor, resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FrozenBatchNorm2d

from maskray.model.imported import build_imported
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.outlines import Outlines
from maskray.model.structures import Batch, Targets
from maskray.model.torchvision_names import read_torchvision

# Computed in float64, where rounding has no part: what differs is that the means of the pixels and the soft targets of
# masks are float32 here, 1e-7, which the network makes 2e-6.
CONSTANTS = 1e-5
EDGES = {"shorter_edge": 128, "longer_edge_max": 208}

pytestmark = pytest.mark.slow


@dataclasses.dataclass
class Step:
    wanted: dict[str, Tensor]
    found: dict[str, Tensor]
    wanted_gradients: dict[str, Tensor]  # under the names of maskray
    found_gradients: dict[str, Tensor]


def frozen(name: str, make_heads: Callable[[], dict[str, nn.Module]], **settings: Any) -> Any:
    """A model as torchvision fine-tunes it: batch norm constant, stem and first stage too."""
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name=name, weights=None, trainable_layers=3)
    with torch.no_grad():
        for layer in backbone.modules():
            if isinstance(layer, FrozenBatchNorm2d):
                layer.weight.uniform_(0.3, 0.6)
    kind = detection.KeypointRCNN if "num_keypoints" in settings else detection.MaskRCNN
    model = kind(backbone, 4, min_size=EDGES["shorter_edge"], max_size=EDGES["longer_edge_max"], **settings)
    for part, head in make_heads().items():
        setattr(model.roi_heads, part, head)
    return model


def trained_v2() -> Any:
    """The parts of maskrcnn_resnet50_fpn_v2 on ResNet-18, trained whole: batch norm by the batch, everywhere.

    Biases lift what goes through a ReLU above 0 but for a few in a thousand. Of values around 0, as batch norm without
    biases gives them, one in 100,000 has another sign by rounding, and that alone changes a gradient by 0.5 %.
    """
    torch.manual_seed(0)
    backbone = _resnet_fpn_extractor(resnet18(), 5, norm_layer=nn.BatchNorm2d)
    model = detection.MaskRCNN(
        backbone,
        min_size=EDGES["shorter_edge"],
        max_size=EDGES["longer_edge_max"],
        rpn_head=RPNHead(256, 3, conv_depth=2),
        box_head=FastRCNNConvFCHead((256, 7, 7), [32] * 4, [64], nn.BatchNorm2d),
        box_predictor=FastRCNNPredictor(64, 4),
        mask_head=MaskRCNNHeads(256, (32,) * 4, 1, nn.BatchNorm2d),
        mask_predictor=MaskRCNNPredictor(32, 32, 4),
    )
    heads = model.roi_heads
    convolutions = [*(layer[0] for layer in model.rpn.head.conv), heads.box_head[5], heads.mask_predictor.conv5_mask]
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.fill_(0.9)
                layer.bias.fill_(3.0)
        for layer in convolutions:
            layer.bias.fill_(3.0)
    return model


def objects(image: Tensor, classes: list[int]) -> dict[str, Tensor]:
    """Three objects on an image: boxes, ellipses in them as masks, and two keypoints each, one of them outside."""
    height, width = image.shape[1:]
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.7], [0.4, 0.3, 0.95, 0.9], [0.6, 0.05, 0.8, 0.4]])
    boxes = boxes * torch.tensor([width, height, width, height])
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    centre, half = (boxes[:, 2:] + boxes[:, :2]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    across = (x - centre[:, 0, None, None]) / half[:, 0, None, None]
    down = (y - centre[:, 1, None, None]) / half[:, 1, None, None]
    keypoints = torch.stack([centre + half * 0.3, boxes[:, 2:] + 9, centre - half * 0.6], dim=1)
    visible = torch.tensor([[2.0, 1, 1], [1, 0, 2], [0, 2, 2]])
    return {
        "boxes": boxes,
        "labels": torch.tensor(classes),
        "masks": (across**2 + down**2 < 1).to(torch.uint8),
        "keypoints": torch.cat([keypoints, visible[..., None]], dim=2),
    }


CASES: dict[str, Callable[[], Any]] = {
    "mask": lambda: frozen(
        "resnet50",
        lambda: {"mask_head": MaskRCNNHeads(256, (32,) * 4, 1), "mask_predictor": MaskRCNNPredictor(32, 32, 4)},
    ),
    "keypoint": lambda: frozen(
        "resnet18",
        lambda: {
            "keypoint_head": KeypointRCNNHeads(256, (32,) * 8),
            "keypoint_predictor": KeypointRCNNPredictor(32, 3),
        },
        num_keypoints=3,
    ),
    "v2": trained_v2,
}


def import_all_samples(model: Any, num_anchors: int, num_proposals: int) -> MaskRCNN:
    """Ours with the weights of theirs, which takes every sample there is."""
    imported = read_torchvision(model.state_dict(), **EDGES)
    config = imported.model
    rpn = {"samples_per_image": num_anchors, "positive_fraction": 1.0, "post_nms_top_n_train": num_proposals}
    box_head = {"samples_per_image": 1000, "positive_fraction": 1.0}
    freeze_stages = 0 if config.backbone.norm == "batch_norm" else config.backbone.freeze_stages
    config = config.model_copy(
        update={
            "backbone": config.backbone.model_copy(update={"freeze_stages": freeze_stages}),
            "rpn": config.rpn.model_copy(update=rpn),
            "box_head": config.box_head.model_copy(update=box_head),
        }
    )
    return build_imported(dataclasses.replace(imported, model=config)).double().train()


@pytest.fixture(scope="module", params=CASES)
def step(
    request: pytest.FixtureRequest,
    images: list[Tensor],
    batch_as_torchvision: Callable[..., Batch],
    module_in_float64: None,
) -> Step:
    """One step on one image whose samples are all there are, so that nothing is drawn."""
    model = CASES[request.param]().double()
    image = images[0].double()
    model.train()
    pixels, targets = model.transform([image / 255], [objects(image, [1, 3, 2])])
    assert targets is not None
    features = model.backbone(pixels.tensors)
    anchors = model.rpn.anchor_generator(pixels, list(features.values()))
    labels = model.rpn.assign_targets_to_anchors(anchors, targets)[0][0]
    num_anchors, num_proposals = int((labels >= 0).sum()), 40
    model.rpn.fg_bg_sampler = BalancedPositiveNegativeSampler(num_anchors, 1.0)
    model.roi_heads.fg_bg_sampler = BalancedPositiveNegativeSampler(1000, 1.0)
    model.rpn._post_nms_top_n["training"] = num_proposals
    proposals, losses = model.rpn(pixels, features, targets)
    losses |= model.roi_heads(features, proposals, pixels.image_sizes, targets)[1]
    sum(losses.values()).backward()

    ours = import_all_samples(model, num_anchors, num_proposals)
    target = targets[0]
    batch = batch_as_torchvision([image], *EDGES.values())
    batch.targets = Targets(
        target["boxes"][None],
        target["labels"][None] - 1,
        Outlines.from_bitmaps(target["masks"]),
        target["keypoints"][None],
    )
    found = ours(batch)
    sum(found.values()).backward()
    gradients = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in model.named_parameters()
    }
    renamed = read_torchvision(model.state_dict() | gradients).tensors
    trained = {name: parameter for name, parameter in ours.named_parameters() if parameter.requires_grad}
    return Step(
        wanted={name: value.detach() for name, value in losses.items()},
        found={name: value.detach() for name, value in found.items()},
        wanted_gradients={name: renamed[name] for name in trained},
        found_gradients={name: parameter.grad for name, parameter in trained.items() if parameter.grad is not None},
    )


def test_losses_agree(step: Step) -> None:
    names = {
        "loss_objectness": "loss_rpn_objectness",
        "loss_rpn_box_reg": "loss_rpn_box",
        "loss_classifier": "loss_classifier",
        "loss_box_reg": "loss_box",
        "loss_mask": "loss_mask",
        "loss_keypoint": "loss_keypoint",
    }
    assert {names[name] for name in step.wanted} == step.found.keys()
    for name, value in step.wanted.items():
        assert float(value) > 1e-4, name
        assert float(step.found[names[name]]) == pytest.approx(float(value), rel=CONSTANTS), name


def test_gradients_agree(step: Step) -> None:
    assert step.found_gradients.keys() == step.wanted_gradients.keys()
    for name, wanted in step.wanted_gradients.items():
        # Of the bias before a softmax over positions, or before a batch norm, the gradient is 0 but for rounding.
        difference = float((step.found_gradients[name] - wanted).norm())
        assert difference <= CONSTANTS * float(wanted.norm()) + 1e-12, name
    norms = torch.tensor([float(wanted.norm()) for wanted in step.wanted_gradients.values()])
    assert float((norms > 1e-5).float().mean()) > 0.95
