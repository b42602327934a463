"""Boxes go to the level of their size and come back in their own order."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops.poolers import initLevelMapper

from maskray.model.backbone.fpn import STRIDES
from maskray.model.config import RoIOpConfig
from maskray.model.heads.pooler import Pooler, assign_levels
from maskray.ops.roi_align import roi_align


@pytest.mark.parametrize(
    ("side", "level"),
    [(0.0, 2), (1.0, 2), (111.99, 2), (112.0, 3), (223.99, 3), (224.0, 4), (447.99, 4), (448.0, 5), (4000.0, 5)],
)
def test_level_of_a_square_box(side: float, level: int) -> None:
    assert assign_levels(torch.tensor([[5.0, 7.0, 5.0 + side, 7.0 + side]])).tolist() == [level - 2]


def test_the_rule_of_torchvision_is_its_own() -> None:
    torch.manual_seed(0)
    sides = torch.cat([torch.exp(torch.rand(500) * 7), torch.tensor([112.0, 224.0, 448.0, 223.9999, 224.0001])])
    boxes = torch.cat([torch.zeros(len(sides), 2), sides[:, None].expand(-1, 2)], dim=1)
    mapper = initLevelMapper(2, 5)
    assert torch.equal(assign_levels(boxes, "torchvision"), mapper([boxes]))


def pyramid(channels: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, channels, 512 // stride, 512 // stride) for stride in STRIDES]


def test_each_box_is_pooled_from_its_own_level_and_image() -> None:
    features = pyramid()
    boxes = torch.tensor([[0.0, 0, 300, 300], [10, 10, 40, 50], [0, 0, 500, 500], [30, 60, 190, 200], [5, 5, 9, 9]])
    image = torch.tensor([1, 0, 0, 1, 1])
    pooled = Pooler(RoIOpConfig(), 7, STRIDES)(features, boxes, image)
    assert pooled.shape == (5, 3, 7, 7)
    for k, level in enumerate([2, 0, 3, 1, 0]):
        roi = torch.cat([image[k, None].float(), boxes[k]])[None]
        alone = roi_align(features[level], roi, (7, 7), 1 / STRIDES[level], 0, True)
        torch.testing.assert_close(pooled[k : k + 1], alone)


def test_no_boxes_give_no_features_with_a_gradient() -> None:
    features = [feature.requires_grad_() for feature in pyramid()]
    pooled = Pooler(RoIOpConfig(), 7, STRIDES)(features, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert all(feature.grad is not None and not feature.grad.any() for feature in features[:4])


def test_the_operation_is_chosen_by_name() -> None:
    boxes = torch.tensor([[8.0, 8, 40, 48]])
    image = torch.tensor([0])
    features = pyramid()
    results = {
        (name, reduction): Pooler(RoIOpConfig(name=name, reduction=reduction), 2, STRIDES)(features, boxes, image)
        for name, reduction in (
            *(("roi_align", reduction) for reduction in ("mean", "max")),
            *(("roi_warp", reduction) for reduction in ("mean", "max")),
            ("roi_pool", "max"),
        )
    }
    assert (results["roi_align", "max"] > results["roi_align", "mean"]).all()
    # RoIPool takes the largest cell of the box, columns 2 to 10 and rows 2 to 12.
    whole = features[0][0, :, 2:13, 2:11].amax(dim=(1, 2))
    torch.testing.assert_close(results["roi_pool", "max"].amax(dim=(2, 3))[0], whole)
    # RoIWarp samples those same cells, one wider at each end than RoIAlign, between which values are interpolated.
    assert (results["roi_warp", "max"] > results["roi_warp", "mean"]).all()
    assert (results["roi_warp", "max"].amax(dim=(2, 3))[0] <= whole).all()
    assert not torch.allclose(results["roi_warp", "mean"], results["roi_align", "mean"])


def test_one_map_serves_boxes_of_every_size() -> None:
    (feature,) = pyramid()[2:3]
    boxes, image = torch.tensor([[0.0, 0, 300, 300], [10, 10, 40, 50]]), torch.tensor([1, 0])
    pooled = Pooler(RoIOpConfig(), 7, (16,))([feature], boxes, image)
    rois = torch.cat([image[:, None].float(), boxes], dim=1)
    torch.testing.assert_close(pooled, roi_align(feature, rois, 7, 1 / 16))
