"""Layers in 8 bits: which of a model there are, what the ranges are, and what is rounded how, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from separable_model import SMALL_MASKS, separable_model
from torch import nn

from maskray.platform.inference import int8_layers
from maskray.platform.inference.int8_layers import KINDS, find_layers, measure_ranges, round_layers
from maskray.platform.inference.predictor import Predictor

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"backbone": {"fpn_channels": 16}, "box_head": {"hidden_channels": 16}} | SMALL_MASKS


def images(number):
    return [np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8) for seed in range(number)]


def rounding(layer, low, high):
    layer.__class__ = KINDS[type(layer)]
    layer.set_range(low, high)
    return layer


@pytest.mark.parametrize(("vnni", "weight"), [(True, 3.0), (False, 4.0)])
def test_weights_and_what_goes_in_are_rounded_to_their_levels(monkeypatch, vnni, weight):
    """Weights up to 127 have levels 1 apart, or 2 where products of 8 bits would overflow; so has 0 to 510."""
    monkeypatch.setattr(int8_layers, "has_vnni", lambda: vnni)
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data[:] = torch.tensor([[127.0, 3.3]])
    rounding(layer, 0.0, 510.0)
    values, weights = layer.round(torch.tensor([[7.3, 600.0], [-5.0, 0.9]]))
    assert values.tolist() == [[8.0, 510.0], [0.0, 0.0]]
    assert weights.tolist() == [[126.0 + vnni if vnni else 128.0, weight]]
    assert layer(torch.tensor([[7.3, 600.0]])).item() == 8 * weights[0, 0] + 510 * weight


def test_every_output_channel_has_a_scale_of_its_own(monkeypatch):
    monkeypatch.setattr(int8_layers, "has_vnni", lambda: True)
    layer = nn.Conv2d(1, 3, 1, bias=False)
    layer.weight.data[:] = torch.tensor([127.0, 1.27, 0.0])[:, None, None, None]
    rounding(layer, -127.0, 5.0)
    torch.testing.assert_close(layer.weight_scales[:2], torch.tensor([1.0, 0.01]))
    found = layer(torch.tensor([[[[-200.0, 3.4]]]]))
    torch.testing.assert_close(found[0, :, 0], torch.tensor([[-128 * 127, 3 * 127], [-128 * 1.27, 3 * 1.27], [0, 0]]))


def test_masks_and_keypoints_are_never_found_in_8_bits():
    model, _ = separable_model(SMALL, {"keypoints": True, "keypoint_head": {"channels": 16, "num_convs": 1}})
    names = find_layers(model)
    assert {name.split(".")[0] for name in names} == {"backbone", "rpn", "roi_heads"}
    assert not any("mask" in name or "keypoint" in name for name in names)
    assert {"rpn.head.objectness", "roi_heads.box_head.classifier"} < set(names)


def test_layers_with_a_constant_norm_are_measured_as_they_are_computed():
    """Such a norm goes into the weights elsewhere, and its layer is not called at all."""
    model, spec = separable_model(SMALL)
    ranges = measure_ranges(model, spec, images(2))
    assert set(ranges) == set(find_layers(model))
    low, high = next(ends for name, ends in ranges.items() if name.endswith("stem.conv1.conv"))  # normalised pixels
    assert low < -1
    assert high > 1
    assert ranges["roi_heads.box_head.classifier"][0] == 0  # after a ReLU


def test_a_range_is_the_mean_of_those_of_the_images():
    model, spec = separable_model(SMALL)
    alone = [measure_ranges(model, spec, [image])["rpn.head.objectness"] for image in images(3)]
    low, high = measure_ranges(model, spec, images(3))["rpn.head.objectness"]
    assert (low, high) == (0, pytest.approx(np.mean([one[1] for one in alone])))


def test_without_images_there_are_no_ranges():
    with pytest.raises(ValueError, match="there are none"):
        measure_ranges(*separable_model(SMALL), [])


def test_the_model_that_was_measured_and_rounded_stays_as_it_is():
    model, spec = separable_model(SMALL)
    (image,) = images(1)
    before = Predictor(model, spec).predict([image], [0])
    rounded = round_layers(model, measure_ranges(model, spec, [image]))
    after = Predictor(rounded, spec).predict([image], [0])
    assert before == Predictor(model, spec).predict([image], [0])
    assert before != after
    pairs = zip(model.parameters(), rounded.parameters(), strict=True)
    assert all(one is other for one, other in pairs), "the weights are in memory once"
