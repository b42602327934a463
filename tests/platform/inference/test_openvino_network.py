"""A model computed by OpenVINO finds what torch finds, of every kind and at every size, on the threads that it may."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from separable_model import SMALL_MASKS, separable_model
from torch import nn

from maskray.model.config import ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.presets import merge
from maskray.platform.data.batch import single_image
from maskray.platform.export.parity import compare_detections
from maskray.platform.inference import openvino_network
from maskray.platform.inference.int8_layers import measure_ranges, round_layers
from maskray.platform.inference.openvino_network import convert

pytest.importorskip("openvino", reason="the extra openvino is not installed")
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

FPN: dict[str, Any] = {"backbone": {"fpn_channels": 32}, "box_head": {"hidden_channels": 32}}
KINDS: dict[str, dict[str, Any]] = {
    "pyramid, masks and keypoints": {
        **FPN,
        **SMALL_MASKS,
        "keypoints": True,
        "keypoint_head": {"channels": 16, "num_convs": 1, "num_keypoints": 5},
    },
    "group norm, RPN of its own, soft NMS": {
        **SMALL_MASKS,
        "backbone": {"norm": "group_norm", "freeze_stages": 0, "fpn_channels": 32},
        "box_head": {"hidden_channels": 32},
        "rpn": {"own_backbone": True},
        "inference": {"nms": {"name": "soft"}},
    },
    "C4 with res5": {**SMALL_MASKS, "backbone": {"features": "c4"}, "roi_op": {"aligned": False, "sampling_ratio": 2}},
    "RoIPool, masks by MLP": {
        **FPN,
        "roi_op": {"name": "roi_pool", "reduction": "max"},
        "mask_head": {"name": "mlp", "mlp_channels": [16]},
    },
}
SIZES = ((60, 100), (100, 60), (9, 7))


def found(model: MaskRCNN, spec: ModelSpec, size: tuple[int, int], precision: str = "float32") -> dict[str, Any]:
    image = np.random.default_rng(size[0]).integers(0, 256, (*size, 3), dtype=np.uint8)
    batch = single_image(image, 1, spec.input, spec.model.backbone.size_divisor)
    with torch.inference_mode():
        detections = model.detect(batch, precision)
    names = ("boxes", "scores", "classes", "masks", "keypoints")
    return {name: value.numpy() for name in names if (value := getattr(detections, name)) is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_it_finds_what_torch_finds(kind):
    model, spec = separable_model(KINDS[kind])
    converted = convert(model, 1, "float32")
    for size in SIZES:
        expected = found(model, spec, size)
        comparison = compare_detections(kind, expected, found(converted, spec, size), spec)
        assert comparison.num_expected > 0
        assert comparison.agrees, str(comparison)
        assert set(comparison.differences) == set(expected) - {"classes"}
    again = [found(converted, spec, SIZES[0]) for _ in range(2)]
    assert all(np.array_equal(again[0][name], again[1][name]) for name in again[0])


def test_in_half_the_width_it_finds_nearly_the_same():
    model, spec = separable_model(KINDS["pyramid, masks and keypoints"])
    wide, narrow = found(model, spec, SIZES[0]), found(convert(model, 1, "bfloat16"), spec, SIZES[0], "bfloat16")
    assert np.abs(wide["scores"][:5] - narrow["scores"][:5]).max() < 0.05


def test_no_more_threads_compute_than_it_may(monkeypatch):
    settings = []
    openvino = openvino_network.import_openvino()
    core = openvino.Core

    class Watched(core):
        def compile_model(self, network, device, given):
            settings.append(given)
            compiled = super().compile_model(network, device, given)
            assert compiled.get_property("INFERENCE_NUM_THREADS") == given["INFERENCE_NUM_THREADS"]
            assert compiled.get_property("NUM_STREAMS") == 1
            return compiled

    monkeypatch.setattr(openvino, "Core", Watched)
    model, _ = separable_model(FPN | SMALL_MASKS)
    convert(model, 1, "float32")
    assert [given["INFERENCE_NUM_THREADS"] for given in settings] == [1, 1, 1]


class Strange(nn.Module):
    """Of a kind that no other program knows."""

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return torch.linalg.matrix_exp(pooled[:, 0]).sum(dim=(1, 2))[:, None, None, None]


class Forgetful(nn.Module):
    """Traced it is another function: the number of boxes is a constant from then on."""

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return pooled * int(pooled.shape[0])


@pytest.mark.parametrize(
    ("part", "message"),
    [(Strange(), "OpenVINO cannot compute the mask head of this model: "),
     (Forgetful(), "OpenVINO cannot compute the mask head of this model: it does not find what torch finds")],
)  # fmt: skip
def test_what_cannot_be_converted_is_named_in_a_line(part, message):
    model, _ = separable_model(FPN | SMALL_MASKS)
    model.roi_heads.mask_head = part
    with pytest.raises(ValueError, match=f"^{message}") as error:
        convert(model, 1, "float32")
    assert "\n" not in str(error.value)


def test_the_model_that_is_converted_stays_as_it_is():
    model, spec = separable_model(FPN | SMALL_MASKS)
    before = found(copy.deepcopy(model), spec, SIZES[0])
    convert(model, 1, "float32")
    assert all(np.array_equal(before[name], value) for name, value in found(model, spec, SIZES[0]).items())


def test_its_makers_are_told_nothing(tmp_path):
    """The package that it brings along would report every import over the network."""
    (tmp_path / "openvino_telemetry").mkdir()
    (tmp_path / "openvino_telemetry/__init__.py").write_text("print('a report')\nclass Telemetry: pass\n")
    code = "from maskray.platform.inference.openvino_network import import_openvino; import_openvino().Core(); print(1)"
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert done.stdout == "1\n", done.stderr


def with_biases(model: MaskRCNN) -> MaskRCNN:
    """As training leaves it: of a layer that rounds and has none, OpenVINO 2026.4 scales a pooled output twice."""
    torch.manual_seed(1)
    for name, value in model.named_parameters():
        if name.endswith("bias"):
            value.data.normal_(std=0.01)
    return model


def precisions(part: nn.Module) -> set[str]:
    """Of what OpenVINO computes the convolutions and products of a part in."""
    network = part._run._request.get_compiled_model().get_runtime_model()
    facts = [one.get_rt_info() for one in network.get_ops()]
    kinds = {"Convolution", "FullyConnected", "MatMul", "Deconvolution"}
    return {one["primitiveType"].astype(str)[-3:].lower() for one in facts if one["layerType"].astype(str) in kinds}


@pytest.mark.parametrize("kind", ["pyramid, masks and keypoints", "group norm, RPN of its own, soft NMS"])
def test_in_8_bits_it_finds_what_torch_finds_of_the_same_rounding(kind):
    model, spec = separable_model(KINDS[kind])
    with_biases(model)
    images = [np.random.default_rng(size[0]).integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES[:2]]
    ranges = measure_ranges(model, spec, images)
    rounded, converted = round_layers(model, ranges), convert(model, 1, "float32", ranges)
    assert precisions(converted.backbone) == precisions(converted.roi_heads.box_head) == {"_i8"}
    assert "_i8" not in precisions(converted.roi_heads.mask_head)
    for size in SIZES[:2]:
        pixels = 2 * torch.rand(1, 3, 128, 96 if size[0] > size[1] else 192) - 1  # normalised, within the range
        with torch.inference_mode():
            wide, expected, narrow = (one.backbone(pixels) for one in (model, rounded, converted))
        for level in range(len(wide)):
            assert openvino_network._distance(expected[level], narrow[level]) < 0.05
            assert 1e-4 < openvino_network._distance(wide[level], narrow[level]) < 0.1
        scores = [found(one, spec, size)["scores"] for one in (model, converted)]
        assert np.abs(scores[0][:3] - scores[1][:3]).max() < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_is_found_nothing_is_computed(kind):
    model, spec = separable_model(merge(KINDS[kind], {"inference": {"score_threshold": 1.0}}))
    expected, ours = found(model, spec, SIZES[0]), found(convert(model, 1, "float32"), spec, SIZES[0])
    assert {name: value.shape for name, value in ours.items()} == {n: value.shape for n, value in expected.items()}
    assert len(ours["scores"]) == 0
