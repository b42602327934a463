"""Frozen parts get no gradient and change nothing, let gradients pass, and go together with the stages of training."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from maskray.model.build_model import build_model
from maskray.model.config import InputConfig, ModelConfig
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.parts import Part, model_parts
from maskray.model.structures import Batch

# Beginnings of the names of their parameters, without a keypoint head.
PREFIXES: dict[Part, tuple[str, ...]] = {
    "backbone": ("backbone.resnet.",),
    "pyramid": ("backbone.lateral.", "backbone.output."),
    "rpn": ("rpn.",),
    "box_head": ("roi_heads.box_head.",),
    "mask_head": ("roi_heads.mask_head.",),
}


def with_batch_norm(config: ModelConfig) -> MaskRCNN:
    torch.manual_seed(0)
    changes = {"norm": "batch_norm", "fpn_norm": "batch_norm"}
    return build_model(
        config.model_copy(update={"backbone": config.backbone.model_copy(update=changes)}), InputConfig(), 2
    )


def losses(model: MaskRCNN, batch: Batch) -> dict[str, Tensor]:
    return model(batch, torch.Generator().manual_seed(0))


def backward(model: MaskRCNN, batch: Batch) -> None:
    model.zero_grad()
    torch.stack(list(losses(model, batch).values())).sum().backward()


def test_parts_are_those_that_the_configuration_builds(tiny_config: ModelConfig) -> None:
    assert model_parts(tiny_config) == tuple(PREFIXES)
    assert model_parts(tiny_config.model_copy(update={"masks": False})) == ("backbone", "pyramid", "rpn", "box_head")
    assert model_parts(tiny_config.model_copy(update={"keypoints": True}))[-1] == "keypoint_head"
    backbone = tiny_config.backbone.model_copy(update={"features": "dc5"})
    assert "pyramid" not in model_parts(tiny_config.model_copy(update={"backbone": backbone}))


def test_every_parameter_belongs_to_one_part(tiny_model: MaskRCNN) -> None:
    prefixes = [prefix for of_part in PREFIXES.values() for prefix in of_part]
    for name, _ in tiny_model.named_parameters():
        assert sum(name.startswith(prefix) for prefix in prefixes) == 1, name


@pytest.mark.parametrize("part", PREFIXES)
def test_a_frozen_part_gets_no_gradient_and_lets_it_pass(tiny_model: MaskRCNN, two_images: Batch, part: Part) -> None:
    before = losses(tiny_model, two_images)
    tiny_model.freeze_parts([part])
    after = losses(tiny_model, two_images)
    assert {name: loss.item() for name, loss in after.items()} == {name: loss.item() for name, loss in before.items()}
    backward(tiny_model, two_images)
    for name, parameter in tiny_model.named_parameters():
        assert (parameter.grad is None) == name.startswith(PREFIXES[part]), name


def test_what_stands_before_frozen_heads_still_learns(tiny_model: MaskRCNN, two_images: Batch) -> None:
    tiny_model.freeze_parts(["pyramid", "rpn", "box_head", "mask_head"])
    backward(tiny_model, two_images)
    stem = tiny_model.get_parameter("backbone.resnet.stem.conv1.conv.weight")
    assert stem.grad is not None
    assert stem.grad.abs().sum() > 0


@pytest.mark.parametrize("part", ["backbone", "pyramid"])
def test_statistics_of_a_frozen_part_stand_still(tiny_config: ModelConfig, two_images: Batch, part: Part) -> None:
    model = with_batch_norm(tiny_config)
    model.freeze_parts([part])
    model.eval().train()  # as after an evaluation
    before = {name: buffer.clone() for name, buffer in model.named_buffers() if "running" in name}
    losses(model, two_images)
    for name, buffer in model.named_buffers():
        if "running" in name:
            assert torch.equal(buffer, before[name]) == name.startswith(PREFIXES[part]), name


def test_a_frozen_rpn_proposes_as_many_as_in_training(tiny_config: ModelConfig, two_images: Batch) -> None:
    rpn = tiny_config.rpn.model_copy(update={"post_nms_top_n_train": 70, "post_nms_top_n_test": 5})
    model = build_model(tiny_config.model_copy(update={"rpn": rpn}), InputConfig(), 2)
    model.freeze_parts(["rpn"])
    with torch.no_grad():
        proposals = model.rpn.propose(model.rpn(model.features(two_images)), two_images.image_sizes)
    assert proposals.boxes.shape[1] > 5


def test_stages_of_training_and_frozen_parts_go_together(tiny_config: ModelConfig, two_images: Batch) -> None:
    rpn = tiny_config.rpn.model_copy(update={"own_backbone": True})
    for frozen_first in (True, False):
        model = build_model(tiny_config.model_copy(update={"rpn": rpn}), InputConfig(), 2)
        if frozen_first:
            model.freeze_parts(["backbone"])
        model.train_parts(("rpn_backbone", "rpn"))
        if not frozen_first:
            model.freeze_parts(["backbone"])
        backward(model, two_images)
        trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert {name.split(".")[0] for name in trained} == {"rpn_backbone", "rpn"}
        assert not any(name.startswith("rpn_backbone.resnet.") for name in trained)
        assert any(name.startswith("rpn_backbone.lateral.") for name in trained)


def test_res5_of_a_c4_model_goes_with_its_box_head() -> None:
    config = ModelConfig.model_validate(
        {
            "backbone": {"name": "resnet18", "features": "c4", "norm": "group_norm", "freeze_stages": 0,
                         "stem_channels": 16, "res2_channels": 16},
            "box_head": {"name": "res5"},
        }
    )  # fmt: skip
    model = build_model(config, InputConfig(), 2)
    model.freeze_parts(["backbone"])
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any(name.startswith("roi_heads.res5.") for name in trained)
    model.freeze_parts(["box_head"])
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {".".join(name.split(".")[:2]) for name in trained if name.startswith("roi_heads")} == {
        "roi_heads.mask_head"
    }


def test_parts_that_are_not_there_and_nothing_left_to_train(tiny_model: MaskRCNN) -> None:
    with pytest.raises(ValueError, match="the model has no part keypoint_head to freeze"):
        tiny_model.freeze_parts(["keypoint_head"])
    with pytest.raises(ValueError, match="nothing is left to train beside the frozen backbone, pyramid, rpn, "):
        tiny_model.freeze_parts(model_parts(tiny_model.config))
