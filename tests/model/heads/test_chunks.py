"""Heads on few boxes at a time give what they give on all at once, and meet no number of boxes above the chunk."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from maskray.model.config import BackboneConfig, BoxHeadConfig, KeypointHeadConfig, MaskHeadConfig, ModelConfig
from maskray.model.heads.box import BoxHead
from maskray.model.heads.chunks import CHUNK, run_in_chunks
from maskray.model.heads.keypoint import KeypointHead
from maskray.model.heads.mask import FCNMaskHead
from maskray.model.roi_heads import RoIHeads

# A convolution of fewer boxes may add up in another order: of sums of some 70 to 400 float32 around 1.
ROUNDING = {"rtol": 1e-5, "atol": 1e-5}
MASK = MaskHeadConfig(channels=8, num_convs=2, norm="group_norm")
FC = BoxHeadConfig(num_convs=2, conv_channels=8, norm="group_norm", hidden_channels=16)


class SizesMet(nn.Module):
    """Passes features on and remembers how many boxes came together."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, pooled: Tensor) -> Tensor:
        self.sizes.append(len(pooled))
        return pooled * 2


def test_every_number_of_boxes_comes_in_order_as_chunks_and_a_rest() -> None:
    layers = SizesMet()
    with torch.inference_mode():
        for number in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5):
            pooled = torch.randn(number, 3, 2, 2)
            assert torch.equal(run_in_chunks(layers, pooled), pooled * 2)
    assert layers.sizes == [0, 1, CHUNK - 1, CHUNK, CHUNK, 1, *[CHUNK] * 3, *[CHUNK] * 3, 5]


def test_with_gradients_all_come_at_once() -> None:
    layers = SizesMet()
    run_in_chunks(layers, torch.randn(3 * CHUNK, 3, 2, 2))
    assert layers.sizes == [3 * CHUNK]


@pytest.mark.parametrize("name", ["mask", "keypoint", "box"])
def test_heads_give_the_same_as_all_at_once(name: str) -> None:
    torch.manual_seed(0)
    head: nn.Module = {
        "mask": lambda: FCNMaskHead(MASK, 4, 3),
        "keypoint": lambda: KeypointHead(KeypointHeadConfig(channels=8, num_convs=2, num_keypoints=5), 4),
        "box": lambda: BoxHead(FC, 4, 3),
    }[name]()
    pooled = torch.randn(2 * CHUNK + 3, 4, 14 if name != "box" else 7, 14 if name != "box" else 7)
    whole = head(pooled)  # with gradients
    met: list[int] = []
    convs = head.get_submodule("convs")
    convs.register_forward_hook(lambda module, inputs, output: met.append(len(output)))
    with torch.inference_mode():
        chunked = head(pooled)
    assert met == [CHUNK, CHUNK, 3]
    torch.testing.assert_close(chunked, whole, **ROUNDING)


def test_res5_gives_the_same_as_all_at_once() -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        backbone=BackboneConfig(name="resnet18", features="c4", norm="group_norm", stem_channels=8, res2_channels=8),
        box_head=BoxHeadConfig(name="res5", pool_size=14),
        anchors={"sizes": [32, 64]},
    )
    heads = RoIHeads(config, channels=32, strides=[16], num_classes=3)
    met: list[int] = []
    assert heads.res5 is not None
    heads.res5.register_forward_hook(lambda module, inputs, output: met.append(len(output)))
    features, number = [torch.randn(1, 32, 12, 12)], 2 * CHUNK + 3
    corner = torch.rand(number, 2) * 90
    boxes, image_index = torch.cat([corner, corner + 60], dim=1), torch.zeros(number, dtype=torch.int64)
    whole = heads.pool_for_boxes(features, boxes, image_index)
    with torch.inference_mode():
        chunked = heads.pool_for_masks(features, boxes, image_index)
    assert met == [number, CHUNK, CHUNK, 3]
    torch.testing.assert_close(chunked, whole, **ROUNDING)
