"""Layers in 8-bit whole numbers: which of a model may be, the ranges of what goes into them, and the layers themselves.

Weights have a scale for every output channel, symmetric about 0; what goes in has one for the layer, from ranges that
were measured on images. Masks and keypoints are found by float layers: mask heads lose most of their AP in 8 bits.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from maskray.model.backbone.resnet import ConvNorm
from maskray.model.config import ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.platform.inference.predictor import Predictor
from maskray.platform.machine.environment import has_vnni

Range = tuple[float, float]

PARTS = ("backbone", "rpn_backbone", "rpn.head", "roi_heads.res5", "roi_heads.box_head")
SIGNED, UNSIGNED, WEIGHT = (-128, 127), (0, 255), (-127, 127)


class _Inputs:
    """How a layer rounds what goes into it and its weights; a base of such layers."""

    weight: Tensor
    input_scale: float
    input_levels: tuple[int, int]
    weight_scales: Tensor

    def set_range(self, low: float, high: float) -> None:
        """Values between them, 0 included, are told apart; others are taken for the nearest."""
        self.input_levels = UNSIGNED if low >= 0 else SIGNED
        self.input_scale = max(-low, high) / self.input_levels[1]
        largest = self.weight.detach().flatten(1).abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
        # Where pairs of products are added in 16 bits, weights of 8 overflow there: they get half of the levels.
        self.weight_scales = largest / WEIGHT[1] * (1 if has_vnni() else 2)

    def round(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """What goes in and the weights, each at the nearest of its levels."""
        zeros = torch.zeros(len(self.weight_scales), dtype=torch.int32)
        return (
            torch.fake_quantize_per_tensor_affine(values, self.input_scale, 0, *self.input_levels),
            torch.fake_quantize_per_channel_affine(self.weight, self.weight_scales, zeros, 0, *WEIGHT),
        )


class _Conv2d(_Inputs, nn.Conv2d):
    def forward(self, values: Tensor) -> Tensor:
        return self._conv_forward(*self.round(values), self.bias)


class _Linear(_Inputs, nn.Linear):
    def forward(self, values: Tensor) -> Tensor:
        return F.linear(*self.round(values), self.bias)


# Exactly these: what is derived from them may treat its weights in its own way.
KINDS: Mapping[type[nn.Module], type[_Conv2d] | type[_Linear]] = {nn.Conv2d: _Conv2d, nn.Linear: _Linear}


def find_layers(model: MaskRCNN) -> dict[str, nn.Module]:
    """The layers of a model that may be computed in 8 bits, by their names in it."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if type(layer) in KINDS and name.startswith(tuple(f"{part}." for part in PARTS))
    }


def measure_ranges(model: MaskRCNN, spec: ModelSpec, images: Iterable[NDArray[np.uint8]]) -> dict[str, Range]:
    """Least and largest value that goes into each layer, 0 included: the mean of those of every image.

    So an image that is far from all others stretches no range much. Layers that nothing but 0 went into, or nothing at
    all as no box was found, are left out. Raises ValueError without images.
    """
    predictor = Predictor(_share(model), spec)
    sums: dict[str, list[Range]] = defaultdict(list)
    for number, image in enumerate(images):
        with _watch(find_layers(predictor.model)) as seen:
            predictor.predict([image], [number])
        for name, ends in seen.items():
            sums[name].append(ends)
    if not sums:
        raise ValueError("ranges of 8-bit numbers are measured on images, and there are none")
    means = {name: np.mean(ends, axis=0) for name, ends in sums.items()}
    return {name: (float(low), float(high)) for name, (low, high) in sorted(means.items()) if low < high}


@contextmanager
def _watch(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Range]]:
    """Fills the ranges of what goes into layers while it is open."""
    seen: dict[str, Range] = {}

    def watch(name: str, values: Tensor) -> None:
        if values.numel():
            low, high = values.aminmax()
            before = seen.get(name, (0.0, 0.0))
            seen[name] = min(before[0], float(low)), max(before[1], float(high))

    def hook(name: str) -> Any:
        return lambda layer, given: watch(name, given[0])

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def round_layers(model: MaskRCNN, ranges: Mapping[str, Range]) -> MaskRCNN:
    """A copy of a model, of the same weights, whose layers with a range compute as they would in 8 bits."""
    copied = _share(model)
    for name, layer in find_layers(copied).items():
        if name in ranges:
            layer.__class__ = KINDS[type(layer)]
            assert isinstance(layer, _Inputs)
            layer.set_range(*ranges[name])
    return copied


def _share(model: MaskRCNN) -> MaskRCNN:
    """A copy of a model, of the same weights, whose layers are all called: constant norms are no part of weights."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    copied = copy.deepcopy(model, shared)
    for module in copied.modules():
        if isinstance(module, ConvNorm):
            module.fold_norm = False
    return copied
