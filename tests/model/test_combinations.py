"""Parts that belong together come together; parts without effect are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from maskray.model.config import BoxHeadConfig, ModelConfig


def test_c4_brings_the_head_and_the_numbers_of_the_paper() -> None:
    config = ModelConfig.model_validate({"backbone": {"features": "c4"}})
    assert (config.box_head.name, config.box_head.pool_size, config.box_head.res5_stride) == ("res5", 7, 1)
    assert (config.box_head.samples_per_image, config.rpn.post_nms_top_n_test) == (64, 300)
    assert config.mask_head.num_convs == 0


def test_keypoints_bring_their_box_loss() -> None:
    head = ModelConfig(keypoints=True).box_head
    assert (head.box_loss, head.smooth_l1_beta) == ("smooth_l1", 0.5)
    assert ModelConfig().box_head.box_loss == "l1"


def test_what_is_given_stays() -> None:
    config = ModelConfig.model_validate(
        {"backbone": {"features": "c4"}, "box_head": {"samples_per_image": 512}, "rpn": {"pre_nms_top_n_test": 7}}
    )
    assert (config.box_head.samples_per_image, config.box_head.name) == (512, "res5")
    assert (config.rpn.pre_nms_top_n_test, config.rpn.pre_nms_top_n_train) == (7, 12000)
    whole = BoxHeadConfig(name="res5")
    assert ModelConfig.model_validate({"backbone": {"features": "c4"}, "box_head": whole}).box_head == whole


@pytest.mark.parametrize("features", ["fpn", "c4", "c5", "dc5"])
@pytest.mark.parametrize("keypoints", [False, True])
def test_a_resolved_configuration_reads_back_as_itself(features: str, keypoints: bool) -> None:
    config = ModelConfig.model_validate({"backbone": {"features": features}, "keypoints": keypoints})
    assert ModelConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"box_head": {"name": "res5"}}, "box_head.name is res5, backbone.features is fpn"),
        ({"backbone": {"features": "c4"}, "box_head": {"name": "fc"}}, "box_head.name is fc, backbone.features is c4"),
        ({"backbone": {"features": "c4"}, "box_head": {"hidden_channels": 9}}, "box_head.hidden_channels 9 has no ef"),
        ({"backbone": {"features": "c4"}, "mask_head": {"pool_size": 7}}, "mask_head.pool_size 7 has no effect"),
        ({"backbone": {"features": "c5", "fpn_channels": 8}}, "backbone.fpn_channels 8 has no effect"),
        (
            {"backbone": {"features": "c4"}, "box_head": {"pool_size": 7, "res5_stride": 2}},
            "box_head.pool_size 7 is odd",
        ),
        ({"box_head": {"res5_stride": 2}}, "box_head.res5_stride 2 has no effect: box_head.name is fc"),
        ({"box_head": {"norm": "group_norm"}}, "box_head.norm group_norm has no effect: box_head.num_convs is 0"),
        ({"anchors": {"sizes": [32, 64]}}, "anchors.sizes: a pyramid takes 5 sizes, one per level, not 2"),
        ({"backbone": {"name": "resnet18", "stride_in_1x1": True}}, "resnet18 has no 1x1 convolutions"),
        ({"backbone": {"gradient_checkpointing": "all", "norm": "batch_norm"}}, "would count its statistics twice"),
        ({"backbone": {"name": "resnext50_32x4d", "res2_channels": 8}}, "to each of the 32 groups"),
        ({"mask_head": {"name": "mlp", "channels": 8}}, "mask_head.channels 8 has no effect"),
        ({"mask_head": {"mlp_channels": [8]}}, "mask_head.mlp_channels .* has no effect: mask_head.name is fcn"),
        ({"roi_op": {"name": "roi_pool"}}, "roi_pool takes the maximum"),
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig.model_validate(keys)
