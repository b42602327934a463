"""What is read off a state dict of torchvision: architecture, order of classes, and what does not fit is named."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection, resnet, resnet18
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone

from maskray.model.imported import build_imported
from maskray.model.torchvision_names import norm_eps_of, read_torchvision


def state_of(name: str, num_classes: int = 91, **settings: Any) -> dict[str, Tensor]:
    """A state dict of the right names and shapes that takes no memory."""
    with torch.device("meta"):
        return detection_model(name, num_classes, **settings).state_dict()


def detection_model(name: str, num_classes: int, **settings: Any) -> nn.Module:
    if hasattr(detection, name):
        return getattr(detection, name)(weights=None, weights_backbone=None, num_classes=num_classes, **settings)  # type: ignore[no-any-return]
    return detection.MaskRCNN(resnet_fpn_backbone(backbone_name=name, weights=None), num_classes)


@pytest.fixture(scope="module")
def small() -> dict[str, Tensor]:
    """Mask R-CNN of three classes on a narrow ResNet-18 with frozen batch norm."""
    torch.manual_seed(0)
    body = resnet18(norm_layer=torch.nn.BatchNorm2d)
    stages = {f"layer{number}": str(number - 1) for number in (1, 2, 3, 4)}
    backbone = BackboneWithFPN(body, stages, [64, 128, 256, 512], 8)
    model = detection.MaskRCNN(
        backbone,
        mask_head=detection.mask_rcnn.MaskRCNNHeads(8, (8,) * 4, 1),
        mask_predictor=detection.mask_rcnn.MaskRCNNPredictor(8, 8, 4),
        box_head=detection.faster_rcnn.TwoMLPHead(8 * 49, 16),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(16, 4),
    )
    return {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    ("name", "backbone", "norm"),
    [
        ("resnet18", "resnet18", "frozen_batch_norm"),
        ("resnet34", "resnet34", "frozen_batch_norm"),
        ("resnet101", "resnet101", "frozen_batch_norm"),
        ("resnet152", "resnet152", "frozen_batch_norm"),
        ("resnext50_32x4d", "resnext50_32x4d", "frozen_batch_norm"),
        ("resnext101_32x8d", "resnext101_32x8d", "frozen_batch_norm"),
        ("resnext101_64x4d", "resnext101_64x4d", "frozen_batch_norm"),
        ("maskrcnn_resnet50_fpn", "resnet50", "batch_norm"),
        ("maskrcnn_resnet50_fpn_v2", "resnet50", "batch_norm"),
        ("fasterrcnn_resnet50_fpn", "resnet50", "batch_norm"),
        ("fasterrcnn_resnet50_fpn_v2", "resnet50", "batch_norm"),
        ("keypointrcnn_resnet50_fpn", "resnet50", "batch_norm"),
    ],
)
def test_every_builder_is_recognised(name: str, backbone: str, norm: str) -> None:
    imported = read_torchvision(state_of(name, 6))
    config = imported.model
    assert (config.backbone.name, config.backbone.norm, imported.num_classes) == (backbone, norm, 5)
    assert config.masks == ("fasterrcnn" not in name and "keypoint" not in name)
    assert config.keypoints == ("keypoint" in name)
    if config.keypoints:
        assert (config.keypoint_head.num_keypoints, config.keypoint_head.num_convs) == (17, 8)
    is_v2 = name.endswith("v2")
    assert (config.rpn.num_convs, config.box_head.num_convs, config.box_head.num_fcs) == (
        (2, 4, 1) if is_v2 else (1, 0, 2)
    )
    assert (config.backbone.fpn_norm, config.box_head.norm) == (("batch_norm",) * 2 if is_v2 else ("none",) * 2)
    with torch.device("meta"):
        build_imported(imported)  # every tensor has its place


def test_the_preset_is_torchvisions() -> None:
    imported = read_torchvision(state_of("keypointrcnn_resnet50_fpn", 2))
    config = imported.model
    assert (config.roi_op.aligned, config.roi_op.sampling_ratio, config.roi_op.level_rule) == (False, 2, "torchvision")
    assert (config.anchors.rounded, config.anchors.strides, config.anchors.offset) == (True, "from_map_size", 0.0)
    assert (config.rpn.post_nms_top_n_train, config.rpn.post_nms_top_n_test) == (2000, 1000)
    assert (config.rpn.box_loss, config.box_head.box_loss) == ("smooth_l1", "smooth_l1")
    assert (config.rpn.smooth_l1_beta, config.box_head.smooth_l1_beta) == (1 / 9, 1 / 9)
    assert (config.keypoint_head.score, config.keypoint_head.half_pixel) == ("logit", False)
    assert (config.inference.mask_paste, config.inference.min_size_pixels) == ("torchvision", 0.01)
    assert (imported.input.resize, imported.input.shorter_edge) == ("bilinear", 800)
    assert imported.input.pixel_mean == pytest.approx((123.675, 116.28, 103.53))
    assert imported.input.pixel_std == pytest.approx((58.395, 57.12, 57.375))


def test_the_background_moves_to_the_end(small: dict[str, Tensor]) -> None:
    tensors = read_torchvision(small).tensors
    scores, offsets = small["roi_heads.box_predictor.cls_score.weight"], small["roi_heads.box_predictor.bbox_pred.bias"]
    masks = small["roi_heads.mask_predictor.mask_fcn_logits.weight"]
    assert torch.equal(tensors["roi_heads.box_head.classifier.weight"], scores[[1, 2, 3, 0]])
    assert torch.equal(tensors["roi_heads.box_head.deltas.bias"], offsets[4:])
    assert torch.equal(tensors["roi_heads.mask_head.predictor.weight"], masks[1:])


def test_files_of_old_torchvision_have_other_names(small: dict[str, Tensor]) -> None:
    old = {}
    for name, tensor in small.items():
        name = re.sub(r"(inner_blocks\.\d|layer_blocks\.\d|rpn\.head\.conv)\.0(\.0)?\.", r"\1.", name)
        name = re.sub(r"mask_head\.(\d)\.0\.", lambda match: f"mask_head.mask_fcn{int(match[1]) + 1}.", name)
        old[name] = tensor
    assert len(old.keys() - small.keys()) == 2 * (8 + 1 + 4)
    new, same = read_torchvision(small), read_torchvision(old)
    assert new.model == same.model
    assert new.tensors.keys() == same.tensors.keys()
    assert all(torch.equal(tensor, same.tensors[name]) for name, tensor in new.tensors.items())


def test_epsilon_is_that_of_the_release() -> None:
    assert norm_eps_of("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth") == 0.0
    assert norm_eps_of("keypointrcnn_resnet50_fpn_coco-fc266e95.pth") == 0.0
    assert norm_eps_of("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth") == 0.0
    assert norm_eps_of("keypointrcnn_resnet50_fpn_coco-9f466800.pth") == 1e-5
    assert norm_eps_of("maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth") == 1e-5
    assert norm_eps_of("mine.pth") == 1e-5


def test_epsilon_reaches_the_model(small: dict[str, Tensor]) -> None:
    for eps in (0.0, 1e-5):
        model = build_imported(read_torchvision(small, norm_eps=eps))
        assert model.get_submodule("backbone.resnet.res2.0.conv1.norm").eps == eps


def test_what_does_not_fit_is_named(small: dict[str, Tensor]) -> None:
    logits = "rpn.head.cls_logits.weight"
    for change, message in (
        ({"head.weight": torch.zeros(1)}, "1 of .* tensors are of no model .*: head.weight"),
        ({logits: torch.zeros(5, 8, 1, 1)}, "5 anchors per cell; 3 are known"),
        ({"backbone.fpn.inner_blocks.2.0.bias": None}, "1 tensors are missing: backbone.lateral.2.conv.bias"),
        ({"backbone.body.layer1.0.gain": torch.zeros(1)}, "of no model"),
    ):
        changed = {name: tensor for name, tensor in {**small, **change}.items() if tensor is not None}
        with pytest.raises(ValueError, match=message) as caught:
            build_imported(read_torchvision(changed))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wide_resnet50_2", "res2.0.conv2 has 128 channels, a ResNet's has 64"),
        ("fasterrcnn_mobilenet_v3_large_fpn", "of no model that maskray has: backbone.body.0"),
        ("retinanet_resnet50_fpn", "of no model that maskray has: backbone.fpn.extra_blocks"),
    ],
)
def test_other_models_are_refused(name: str, message: str) -> None:
    assert hasattr(detection, name) or hasattr(resnet, name)
    with pytest.raises(ValueError, match=message):
        read_torchvision(state_of(name))
