"""A stage of training touches the parts it names, and the detector learns from the proposals it is given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from maskray.model.build_model import build_model
from maskray.model.config import Category, InputConfig, LabelMap, ModelConfig
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch
from maskray.model.transfer import Source, transfer

RPN_LOSSES = {"loss_rpn_objectness", "loss_rpn_box"}
HEAD_LOSSES = {"loss_classifier", "loss_box", "loss_mask"}


@pytest.fixture
def two_backbones(tiny_config: ModelConfig) -> MaskRCNN:
    torch.manual_seed(0)
    rpn = tiny_config.rpn.model_copy(update={"own_backbone": True})
    backbone = tiny_config.backbone.model_copy(update={"freeze_stages": 1})
    return build_model(tiny_config.model_copy(update={"rpn": rpn, "backbone": backbone}), InputConfig(), 2)


def trained(model: MaskRCNN, batch: Batch) -> set[str]:
    """Parts that get a gradient; every trainable parameter of them has one."""
    model.zero_grad()
    torch.stack(list(model(batch, torch.Generator().manual_seed(0)).values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    return {name.partition(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("parts", "losses"),
    [
        (("rpn_backbone", "rpn"), RPN_LOSSES),
        (("backbone", "roi_heads"), HEAD_LOSSES),
        (("rpn",), RPN_LOSSES),
        (("roi_heads",), HEAD_LOSSES),
        (("rpn_backbone", "backbone", "rpn", "roi_heads"), RPN_LOSSES | HEAD_LOSSES),
    ],
)
def test_losses_and_gradients_are_those_of_the_parts(
    two_backbones: MaskRCNN, two_images: Batch, parts: tuple[str, ...], losses: set[str]
) -> None:
    two_backbones.train_parts(parts)
    assert set(two_backbones(two_images)) == losses
    assert trained(two_backbones, two_images) == set(parts)
    # What the configuration freezes stays frozen in every stage.
    assert not any(p.requires_grad for p in two_backbones.get_submodule("backbone.resnet.stem").parameters())


def test_constants_stay_in_eval_mode(two_backbones: MaskRCNN) -> None:
    two_backbones.train_parts(("roi_heads",))
    two_backbones.eval().train()
    assert two_backbones.training
    assert [part.training for _, part in two_backbones.named_children()] == [
        name == "roi_heads" for name, _ in two_backbones.named_children()
    ]


def test_a_part_must_exist_and_bring_a_loss(tiny_model: MaskRCNN) -> None:
    with pytest.raises(ValueError, match="the model has no part rpn_backbone"):
        tiny_model.train_parts(("rpn_backbone", "rpn"))
    with pytest.raises(ValueError, match="neither rpn nor roi_heads is among the parts to train: backbone"):
        tiny_model.train_parts(("backbone",))


def test_stored_proposals_give_the_losses_of_the_same_proposals_made_on_the_way(
    tiny_model: MaskRCNN, two_images: Batch
) -> None:
    made = tiny_model(two_images, torch.Generator().manual_seed(1))
    stored = tiny_model.propose(two_images)
    assert tiny_model.training
    two_images.proposals = stored.boxes
    tiny_model.train_parts(("backbone", "roi_heads"))
    # The generator has drawn the samples of the RPN before those of the heads.
    generator = torch.Generator().manual_seed(1)
    tiny_model.rpn.losses(tiny_model.rpn(tiny_model.features(two_images)), two_images.targets, generator)  # type: ignore[arg-type]
    losses = tiny_model(two_images, generator)
    for name in HEAD_LOSSES:
        torch.testing.assert_close(losses[name], made[name])


def test_padding_of_stored_proposals_is_never_sampled(tiny_model: MaskRCNN, two_images: Batch) -> None:
    tiny_model.train_parts(("roi_heads",))
    boxes = two_images.targets.boxes if two_images.targets is not None else torch.zeros(0)
    losses = []
    for num_padding in (1, 40):
        two_images.proposals = torch.cat([boxes, torch.zeros(2, num_padding, 4)], dim=1)
        losses.append(tiny_model(two_images, torch.Generator().manual_seed(0)))
    # Three boxes, each there twice: all are drawn, and nothing else is there to draw.
    for name in HEAD_LOSSES:
        torch.testing.assert_close(losses[0][name], losses[1][name])


def test_a_backbone_of_its_own_makes_the_proposals(two_backbones: MaskRCNN, two_images: Batch) -> None:
    assert two_backbones.rpn_backbone is not None
    two_backbones.eval()
    state = {name: tensor.clone() for name, tensor in two_backbones.rpn_backbone.state_dict().items()}
    before = two_backbones.propose(two_images).boxes
    scale_parameters(two_backbones.rpn_backbone)
    assert not torch.equal(two_backbones.propose(two_images).boxes, before)
    # The very same numbers again: numbers that differ by a rounding may have other proposals.
    two_backbones.rpn_backbone.load_state_dict(state)
    features = two_backbones.features(two_images)[0]
    scale_parameters(two_backbones.backbone)
    assert not torch.equal(two_backbones.features(two_images)[0], features)
    assert torch.equal(two_backbones.propose(two_images).boxes, before)


@torch.no_grad()
def scale_parameters(part: nn.Module) -> None:
    for parameter in part.parameters():
        parameter.mul_(1.5)


def test_weights_of_one_backbone_go_into_both(two_backbones: MaskRCNN, tiny_model: MaskRCNN) -> None:
    labels = LabelMap(categories=(Category(id=1, name="a"), Category(id=2, name="b")))
    taken = transfer(two_backbones, InputConfig(), labels, Source("weights", tiny_model.state_dict()), {})
    assert {row.part: row.anew for row in taken.parts if row.anew} == {"box_head": 4, "mask_head": 2}
    state = two_backbones.state_dict()
    for name, tensor in tiny_model.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(state[f"rpn_{name}"], tensor)
