"""Every model that the paper reports on is built from its name, trains a step and detects; tiny widths, same parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from maskray.model.build_model import build_model
from maskray.model.config import InputConfig, ModelConfig
from maskray.model.detections import to_original
from maskray.model.structures import Batch, Targets

TINY: dict[str, Any] = {
    "backbone": {"norm": "group_norm", "freeze_stages": 0, "stem_channels": 16, "res2_channels": 16},
    "rpn": {"samples_per_image": 32, "pre_nms_top_n_train": 50, "post_nms_top_n_train": 50, "post_nms_top_n_test": 20},
    "box_head": {"samples_per_image": 32},
    "mask_head": {},
    "keypoint_head": {"channels": 16, "num_convs": 2},
    "inference": {"score_threshold": 0.0, "detections_per_image": 10},
}
R50_C4 = {"backbone": {"name": "resnet50", "features": "c4"}}
R50_C5 = {"backbone": {"name": "resnet50", "features": "c5"}}
R50_FPN = {"backbone": {"name": "resnet50"}}
PAPER = {
    "table 1 R101-C4": {"backbone": {"name": "resnet101", "features": "c4"}},
    "table 1 R101-FPN": {"backbone": {"name": "resnet101"}},
    "table 1 X101-FPN": {"backbone": {"name": "resnext101_32x8d"}},
    "table 1 X101-64x4d": {"backbone": {"name": "resnext101_64x4d"}},
    "table 2a R50-C4": R50_C4,
    "table 2a C4 of 14x14": R50_C4 | {"box_head": {"pool_size": 14, "res5_stride": 2}},
    "table 2b softmax": R50_C4 | {"mask_head": {"output": "softmax"}},
    "table 2b class-agnostic": R50_C4 | {"mask_head": {"output": "class_agnostic"}},
    "table 2c RoIPool": R50_C4 | {"roi_op": {"name": "roi_pool", "reduction": "max"}},
    "table 2c RoIWarp max": R50_C4 | {"roi_op": {"name": "roi_warp", "reduction": "max"}},
    "table 2c RoIWarp mean": R50_C4 | {"roi_op": {"name": "roi_warp"}},
    "table 2c RoIAlign max": R50_C4 | {"roi_op": {"reduction": "max"}},
    "table 2d RoIPool": R50_C5 | {"roi_op": {"name": "roi_pool", "reduction": "max"}},
    "table 2d RoIAlign": R50_C5,
    "dilated C5": {"backbone": {"name": "resnet50", "features": "dc5"}},
    "table 2e MLP of two": R50_FPN | {"mask_head": {"name": "mlp", "mlp_channels": [32, 32]}},
    "table 2e MLP of three": R50_FPN | {"mask_head": {"name": "mlp", "mlp_channels": [32, 32, 32]}},
    "table 2e FCN": R50_FPN,
    "table 3 Faster R-CNN": R50_FPN | {"masks": False},
    "table 4 keypoints": R50_FPN | {"masks": False, "keypoints": True},
    "table 4 keypoints and masks": R50_FPN | {"keypoints": True},
    "table 6 RoIPool": R50_FPN | {"keypoints": True, "roi_op": {"name": "roi_pool", "reduction": "max"}},
    "table 8 X152 non-local": {"backbone": {"name": "resnext152_32x8d", "non_local": True}},
    "checkpointed": {"backbone": {"name": "resnet50", "gradient_checkpointing": "all"}},
}


def merged(keys: dict[str, Any]) -> dict[str, Any]:
    """TINY below the keys of a model, with widths that its parts have."""
    tree = {part: dict(TINY.get(part, {})) | keys.get(part, {}) for part in TINY} | {
        key: value for key, value in keys.items() if key not in TINY
    }
    if tree["backbone"].get("features", "fpn") == "fpn":
        tree["backbone"]["fpn_channels"] = 32
    if tree["backbone"].get("features") != "c4":
        tree["box_head"] |= {"hidden_channels": 32}
    if tree["mask_head"].get("name") != "mlp":
        tree["mask_head"] |= {"channels": 16}
    return tree


def with_keypoints(batch: Batch, num_keypoints: int) -> Batch:
    """The batch with a row of keypoints across each box, the first of them not labelled."""
    assert batch.targets is not None
    boxes = batch.targets.boxes
    share = torch.linspace(0, 1, num_keypoints)[:, None]
    points = boxes[..., None, :2] + share * (boxes[..., None, 2:] - boxes[..., None, :2])
    visibility = torch.full((*points.shape[:3], 1), 2.0)
    visibility[:, :, 0] = 0
    targets = Targets(boxes, batch.targets.classes, batch.targets.masks, torch.cat([points, visibility], dim=3))
    return Batch(batch.images, batch.image_sizes, batch.image_ids, batch.original_sizes, targets)


@pytest.mark.parametrize("name", PAPER)
def test_a_model_of_the_paper_trains_a_step_and_detects(name: str, two_images: Batch) -> None:
    config = ModelConfig.model_validate(merged(PAPER[name]))
    torch.manual_seed(0)
    model = build_model(config, InputConfig(), num_classes=2)
    losses = model(with_keypoints(two_images, 17))
    assert ("loss_mask" in losses, "loss_keypoint" in losses) == (config.masks, config.keypoints)
    torch.stack(list(losses.values())).sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    detections = model.eval().detect(two_images)
    assert len(detections.boxes) > 0
    found = to_original(detections, two_images, 0)
    assert (found.masks is not None, found.keypoints is not None) == (config.masks, config.keypoints)
    if detections.masks is not None:
        assert detections.masks.shape[1:] == ((14, 14) if config.box_head.name == "res5" else (28, 28))
    if found.keypoints is not None:
        assert found.keypoints.shape == (len(found.scores), 17, 3)


@pytest.mark.parametrize("keys", [R50_C4, R50_FPN | {"keypoints": True}], ids=["C4", "keypoints"])
def test_empty_images_are_learned_from_too(keys: dict[str, Any], make_batch: Callable[..., Batch]) -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig.model_validate(merged(keys)), InputConfig(), num_classes=2)
    losses = model(with_keypoints(make_batch([[], []]), 17))
    torch.stack(list(losses.values())).sum().backward()
    assert losses["loss_mask"].item() == 0
    assert losses.get("loss_keypoint", torch.zeros(())).item() == 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(
    ("keys", "num_classes", "count"),
    [
        ({"backbone": {"features": "c4"}, "box_head": {"pool_size": 14, "res5_stride": 2}}, 80, 35_909_612),
        ({"backbone": {"name": "resnext101_32x8d"}}, 80, 107_427_760),
        ({"masks": False, "keypoints": True}, 1, 59_133_158),
    ],
    ids=["R50-C4", "X101-32x8d-FPN", "keypoint R50-FPN"],
)
def test_numbers_of_parameters(keys: dict[str, Any], num_classes: int, count: int) -> None:
    with torch.device("meta"):
        model = build_model(ModelConfig.model_validate(keys), InputConfig(), num_classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_keypoints_must_fit_the_head(two_images: Batch) -> None:
    model = build_model(ModelConfig.model_validate(merged(R50_FPN | {"keypoints": True})), InputConfig(), 2)
    with pytest.raises(ValueError, match="the targets have no keypoints"):
        model(two_images)
    with pytest.raises(ValueError, match="do not fit a head of 17 keypoints"):
        model(with_keypoints(two_images, 5))
