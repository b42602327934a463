"""The layers of a model computed by OpenVINO in place of torch: what has weights there, everything else as ever.

Pooling, NMS, the choice of boxes and pasting stay those of torch, so a converted model takes images of every size and
knows every kind of head; what differs is the order in which convolutions and products are rounded.

Letters: N images, H W padded height and width, K boxes, C channels, S side of the pooled grid.
"""

from __future__ import annotations

import copy
import importlib.util
import math
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from maskray.model.mask_rcnn import MaskRCNN
from maskray.platform.inference.int8_layers import Range, round_layers
from maskray.platform.machine.precision import Precision

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
# Root mean square of the difference to torch, relative to that of the values; more says that something was converted
# wrongly. Two computations of fifty layers in bfloat16 differ by some 0.05.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.25}
INT8_TOLERANCE = 0.25  # what lies between two levels may be rounded to either of them
TRACED, TRIED = (2, 160, 128), (1, 96, 224)  # images, height, width: the second is of a size that was not traced
TRACED_BOXES, TRIED_BOXES = 2, 5


def check_package() -> None:
    """Raise ValueError where the optional package is not installed."""
    if importlib.util.find_spec("openvino") is None:
        raise ValueError("runtime openvino needs openvino: pip install maskray[openvino]")


def import_openvino() -> Any:
    """The package, without its companion that reports each import and conversion to its makers over the network."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as where it is not installed
    import openvino

    return openvino


def convert(model: MaskRCNN, threads: int, precision: Precision, ranges: Mapping[str, Range] | None = None) -> MaskRCNN:
    """The model with its layers computed by OpenVINO on so many threads of the CPU, in a precision.

    Layers that ranges are given of are computed in 8-bit whole numbers, the others in the precision. The model that is
    given stays as it is. Each part is tried on random numbers beside torch, which rounds as it does, before anybody
    relies on it. Raises ValueError of one line that names the part which cannot be converted, or the missing package.
    """
    check_package()
    compiler = _Compiler(threads, precision, is_rounded=ranges is not None)
    if ranges is not None:
        model = round_layers(model, ranges)
    converted = copy.copy(model)
    converted._modules = dict(model._modules)
    heads = copy.copy(model.roi_heads)
    heads._modules = dict(model.roi_heads._modules)
    rpn = copy.copy(model.rpn)
    rpn._modules = dict(model.rpn._modules)
    divisor = model.config.backbone.size_divisor
    network = _Network(model).eval()
    traced, tried = ((n, 3, -(-h // divisor) * divisor, -(-w // divisor) * divisor) for n, h, w in (TRACED, TRIED))
    dense = compiler.compile("backbone", network, (-1, 3, -1, -1), traced, tried)
    backbone = _ConvertedBackbone(dense, model)
    converted.backbone = backbone  # type: ignore[assignment]
    rpn.head = _ConvertedRPNHead(backbone)  # type: ignore[assignment]
    converted.rpn, converted.rpn_backbone, converted.roi_heads = rpn, None, heads
    for name, channels, side in _heads(model):
        part = _ChannelsLast(model.roi_heads.get_submodule(name))
        shape = (side, side, channels)
        run = compiler.compile(name, part, (-1, *shape), (TRACED_BOXES, *shape), (TRIED_BOXES, *shape))
        heads.add_module(name, _ConvertedHead(run))
    return converted.eval()


def _heads(model: MaskRCNN) -> list[tuple[str, int, int]]:
    """Name, channels and side of what each part of the second stage takes."""
    config, heads = model.config, model.roi_heads
    channels, side = model.backbone.channels, config.box_head.pool_size
    found = []
    inner = channels
    if heads.res5 is not None:
        found.append(("res5", channels, side))
        with torch.inference_mode():
            inner, side = heads.res5(torch.zeros(1, channels, side, side)).shape[1:3]
    found.append(("box_head", inner, side))
    if heads.mask_head is not None:
        found.append(("mask_head", inner, side if heads.res5 is not None else config.mask_head.pool_size))
    if heads.keypoint_head is not None:
        found.append(("keypoint_head", channels, config.keypoint_head.pool_size))
    return found


class _Network(nn.Module):
    """Images to the maps of the pyramid and what the RPN says of them, in one."""

    def __init__(self, model: MaskRCNN) -> None:
        super().__init__()
        self.backbone, self.rpn_backbone, self.head = model.backbone, model.rpn_backbone, model.rpn.head

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) to maps with their channels last, logits and deltas, of every level each."""
        maps = self.backbone(images)
        logits, deltas = self.head(maps if self.rpn_backbone is None else self.rpn_backbone(images))
        return (*(level.permute(0, 2, 3, 1) for level in maps), *logits, *deltas)


class _ChannelsLast(nn.Module):
    """A head whose pooled features come with their channels last, as RoIAlign leaves them."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, pooled: Tensor) -> Any:
        """(K, S, S, C) to what the head makes of (K, C, S, S)."""
        return self.head(pooled.permute(0, 3, 1, 2))


class _Compiler:
    """Translates parts of a model and compiles them for the CPU."""

    def __init__(self, threads: int, precision: Precision, is_rounded: bool = False) -> None:
        self._openvino = import_openvino()
        self._core = self._openvino.Core()
        self._tolerance = INT8_TOLERANCE if is_rounded else TOLERANCES[precision]
        self._autocast = precision == "bfloat16" and not is_rounded
        # Not pinned: where others compute on the same cores the scheduler knows better.
        self._settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "ENABLE_CPU_PINNING": False,
        }

    def compile(
        self, name: str, part: nn.Module, shape: Sequence[int], traced: Sequence[int], tried: Sequence[int]
    ) -> _Run:
        """A part that takes arrays of a shape, -1 where it varies; ValueError naming it where that does not work."""
        failure = f"OpenVINO cannot compute the {name.replace('_', ' ')} of this model"
        try:
            with torch.no_grad(), _quiet():
                inputs = [self._openvino.PartialShape(list(shape))]
                network = self._openvino.convert_model(part, example_input=torch.zeros(*traced), input=inputs)
            run = _Run(self._core.compile_model(network, "CPU", self._settings).create_infer_request())
            values = torch.randn(*tried, generator=torch.Generator().manual_seed(0))
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self._autocast):
                outputs = part(values)
            expected, found = [outputs] if isinstance(outputs, Tensor) else list(outputs), run(values)
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ValueError(f"{failure}: {reason}") from error
        for theirs, ours in zip(expected, found, strict=True):
            if theirs.shape != ours.shape or _distance(theirs.float(), ours) > self._tolerance:
                raise ValueError(f"{failure}: it does not find what torch finds")
        return run


class _Run:
    """A compiled part. Its results lie in memory that the next run of the same part writes to."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def __call__(self, values: Tensor) -> list[Tensor]:
        """The outputs for a tensor, float32."""
        array = values.float().contiguous().numpy()
        outputs = self._request.infer([array], share_inputs=True, share_outputs=True)
        return [torch.from_numpy(output) for output in outputs.values()]


class _ConvertedBackbone(nn.Module):
    """Stands in place of the backbone: its maps, and with them what the RPN says, which _ConvertedRPNHead asks for."""

    def __init__(self, run: _Run, model: MaskRCNN) -> None:
        super().__init__()
        self.channels, self.strides = model.backbone.channels, model.backbone.strides
        self._run = run
        self.said: tuple[list[Tensor], list[Tensor]] = [], []

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images (N, 3, H, W) to maps (N, C, H / s, W / s), channels last."""
        outputs = self._run(images)
        count = len(self.strides)
        self.said = outputs[count : 2 * count], outputs[2 * count :]
        return [level.permute(0, 3, 1, 2) for level in outputs[:count]]


class _ConvertedRPNHead(nn.Module):
    """Stands in place of the RPN's head, which was computed with the maps that it is given."""

    def __init__(self, backbone: _ConvertedBackbone) -> None:
        super().__init__()
        self._said = lambda: backbone.said  # no part of this module

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits and deltas of every level."""
        return self._said()


class _ConvertedHead(nn.Module):
    """Stands in place of a part of the second stage."""

    def __init__(self, run: _Run) -> None:
        super().__init__()
        self._run = run

    def forward(self, pooled: Tensor) -> Any:
        """Pooled features (K, C, S, S) to what the part gives: a tensor, or a tuple of them."""
        outputs = [output.clone() for output in self._run(pooled.permute(0, 2, 3, 1))]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _distance(expected: Tensor, found: Tensor) -> float:
    """The size of the difference relative to that of the values; infinite where one is not finite."""
    distance = float((expected - found).norm() / expected.norm().clamp(min=1e-6))
    return distance if math.isfinite(distance) else math.inf


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the tracer says of its own future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
