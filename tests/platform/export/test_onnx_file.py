"""ONNX files find in onnxruntime what the model finds, in standard operators, and stay only where they agree."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from separable_model import SMALL_MASKS, separable_model
from typer.testing import CliRunner

from maskray.model.config import ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.platform.cli.main import app
from maskray.platform.export import parity
from maskray.platform.export.onnx_file import write_onnx
from maskray.platform.export.parity import compare_detections, compare_onnx, place_image
from maskray.platform.files.model_folder import write_model_folder

SIZE = (96, 128)
BOTH_HEADS: dict[str, Any] = {
    "backbone": {"fpn_channels": 32},
    "box_head": {"hidden_channels": 32},
    "keypoints": True,
    "keypoint_head": {"channels": 16, "num_convs": 1, "num_keypoints": 5},
}
LEGACY_C4: dict[str, Any] = {
    "backbone": {"features": "c4"},
    "roi_op": {"aligned": False, "sampling_ratio": 2},
    "inference": {"precision": "bfloat16"},  # which the file does not follow
}


pytestmark = pytest.mark.usefixtures("one_thread")


def small_model(keys: dict[str, Any]) -> tuple[MaskRCNN, ModelSpec]:
    return separable_model(SMALL_MASKS, keys)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model with mask and keypoint head, the file that the command line made of it, and what it printed."""
    folder = tmp_path_factory.mktemp("onnx")
    model, spec = small_model(BOTH_HEADS)
    write_model_folder(folder / "model", model, spec)
    Image.fromarray(noise(70, 90)).save(folder / "photo.png")
    out = folder / "model.onnx"
    arguments = ["models", "export", folder / "model", "--to", "onnx", "--image-size", *SIZE, "--out", out]
    done = CliRunner().invoke(app, [*map(str, arguments), "--image", str(folder / "photo.png")])
    assert done.exit_code == 0, done.output
    return model, spec, out, done.output


@pytest.mark.slow
def test_the_command_tells_what_it_compared(exported):
    output = exported[3]
    assert "photo.png: 20 detections of the model, 20 of the file, 0 of one alone; largest differences: boxes" in output
    assert f"resnet18, 4 classes, image {SIZE[0]} x {SIZE[1]}" in output


@pytest.mark.slow
def test_the_file_finds_what_the_model_finds(exported):
    images = {"wide": noise(60, 100), "tall": noise(100, 60), "small": noise(9, 7)}
    assert_parity(exported, images)


@pytest.mark.slow
def test_the_file_finds_what_the_model_finds_on_images(exported, shared):
    images = sorted(shared("data/demo-photos").glob("*.jpg"))[:2]
    assert len(images) == 2
    assert_parity(exported, {path.name: np.asarray(Image.open(path).convert("RGB")) for path in images})


def assert_parity(exported, images):
    model, spec, out, _ = exported
    for comparison in compare_onnx(out, model, spec, images, *SIZE):
        assert comparison.num_expected == comparison.num_found == 20
        assert comparison.unmatched == 0
        assert set(comparison.differences) == {"boxes", "scores", "masks", "keypoints"}
        assert comparison.differences["boxes"] < 1e-3
        assert comparison.differences["keypoints"] < 1e-3
        assert max(comparison.differences["scores"], comparison.differences["masks"]) < 1e-4


@pytest.mark.slow
def test_the_file_without_detections(exported):
    session = onnxruntime.InferenceSession(str(exported[2]), providers=["CPUExecutionProvider"])
    inputs = {"image": np.zeros((3, *SIZE), np.float32), "image_size": np.zeros(2, np.int64)}
    assert [output.shape for output in session.run(None, inputs)] == [(0, 4), (0,), (0,), (0, 28, 28), (0, 5, 3)]


@pytest.mark.slow
def test_the_file_is_of_standard_operators_and_says_what_it_is(exported):
    _, spec, out, _ = exported
    content = onnx.load(out)
    onnx.checker.check_model(content, full_check=True)
    assert {entry.domain for entry in content.opset_import} == {""}
    assert not content.functions
    assert {node.domain for node in content.graph.node} == {""}
    metadata = {entry.key: entry.value for entry in content.metadata_props}
    assert set(metadata) == {"maskray", "maskray_parity"}
    assert ModelSpec.model_validate_json(metadata["maskray"]) == spec
    parity_told = json.loads(metadata["maskray_parity"])
    assert parity_told["tolerances"] == dict(parity.TOLERANCES)
    assert set(parity_told["differences"]) == set(parity.TOLERANCES)
    assert (parity_told["images"], parity_told["detections"]) == (1, 20)
    values = [*content.graph.input, *content.graph.output]
    shapes = {
        value.name: [axis.dim_value or axis.dim_param for axis in value.type.tensor_type.shape.dim] for value in values
    }
    count = "num_detections"
    assert shapes == {
        "image": [3, *SIZE],
        "image_size": [2],
        "boxes": [count, 4],
        "scores": [count],
        "classes": [count],
        "masks": [count, 28, 28],
        "keypoints": [count, 5, 3],
    }


@pytest.mark.slow
def test_one_map_and_roi_align_without_half_pixels(tmp_path):
    model, spec = small_model(LEGACY_C4)
    write_onnx(tmp_path / "c4.onnx", model, spec, 90, 117)  # of one map any size will do
    images = {"wide": noise(60, 100), "tall": noise(100, 60)}
    for comparison in compare_onnx(tmp_path / "c4.onnx", model, spec, images, 90, 117):
        assert comparison.num_expected == 20
        assert comparison.unmatched == 0
        assert comparison.differences["boxes"] < 1e-3
        assert max(comparison.differences["scores"], comparison.differences["masks"]) < 1e-4
    with torch.no_grad():
        model.roi_heads.box_head.deltas.bias += 0.05
    assert not any(item.agrees for item in compare_onnx(tmp_path / "c4.onnx", model, spec, images, 90, 117))


@pytest.mark.slow
def test_a_file_that_disagrees_is_not_written(tmp_path, monkeypatch):
    model, spec = small_model({"backbone": {"features": "c4"}, "masks": False})
    write_model_folder(tmp_path / "model", model, spec)
    # Some processors compute the very numbers of the model, and none a difference below 0.
    monkeypatch.setattr(parity, "TOLERANCES", {"boxes": -1.0, "scores": 1e-3})
    out = tmp_path / "out" / "model.onnx"
    arguments = ["models", "export", tmp_path / "model", "--to", "onnx", "--image-size", 64, 80, "--out", out]
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert "random image (no --image was given): " in done.output
    assert isinstance(done.exception, ValueError)
    assert "file and model differ by more than boxes -1, scores 0.001" in str(done.exception)
    assert list(out.parent.iterdir()) == []
    # What the user accepts is written, and stands in the file with what was measured.
    done = CliRunner().invoke(app, [*map(str, arguments), "--tolerance", "boxes=0.5"])
    assert done.exit_code == 0, done.output
    told = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    noted = json.loads(told["maskray_parity"])
    assert noted["tolerances"] == {"boxes": 0.5, "scores": 1e-3}
    assert 0 <= noted["differences"]["boxes"] < 0.5


def test_missing_packages_are_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = CliRunner().invoke(
        app, ["models", "export", "none", "--to", "onnx", "--image-size", "64", "64", "--out", str(tmp_path / "m.onnx")]
    )
    assert str(done.exception) == "ONNX needs onnxruntime: pip install maskray[onnx]"


@pytest.mark.parametrize(("height", "width", "size"), [(60, 100, (77, 128)), (100, 60, (96, 58)), (9, 7, (96, 75))])
def test_an_image_is_placed_whole(height, width, size):
    _, spec = small_model(BOTH_HEADS)
    image, placed = place_image(noise(height, width), spec.input, *SIZE)
    assert (image.shape, image.dtype) == ((3, *SIZE), np.float32)
    assert tuple(placed) == size
    assert not image[:, size[0] :].any()
    assert not image[:, :, size[1] :].any()
    assert image[:, : size[0], : size[1]].std() > 10


def detections(boxes, scores, classes):
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "scores": np.array(scores, np.float32),
        "classes": np.array(classes, np.int64),
    }


@pytest.mark.parametrize(
    ("found", "unmatched", "agrees"),
    [
        (detections([[0, 0, 9, 9], [5, 5, 8, 8]], [0.9, 0.5], [0, 1]), 0, True),
        (detections([[5, 5, 8, 8], [0, 0, 9, 9]], [0.5, 0.9], [1, 0]), 0, True),  # order of equal scores
        (detections([[0, 0, 9, 9.1], [5, 5, 8, 8]], [0.9, 0.5], [0, 1]), 0, False),
        (detections([[0, 0, 9, 9], [5, 5, 8, 8]], [0.9, 0.49], [0, 1]), 0, False),
        (detections([[0, 0, 9, 9], [5, 5, 8, 8]], [0.9, 0.5], [0, 0]), 2, False),
        (detections([[0, 0, 9, 9]], [0.9], [0]), 1, False),
        (detections([], [], []), 2, False),
        (detections([[0, 0, 9, 9], [5, 5, 8, 8], [1, 1, 2, 2]], [0.9, 0.5, 0.0205], [0, 1, 1]), 0, True),
        (detections([[0, 0, 9, 9], [5, 5, 8, 8], [1, 1, 2, 2]], [0.9, 0.5, 0.03], [0, 1, 1]), 1, False),
    ],
)
def test_detections_are_paired(found, unmatched, agrees):
    _, spec = small_model({"masks": False})
    expected = detections([[0, 0, 9, 9], [5, 5, 8, 8]], [0.9, 0.5], [0, 1])
    comparison = compare_detections("picture", expected, found, spec)
    assert (comparison.unmatched, comparison.agrees) == (unmatched, agrees)


@pytest.mark.parametrize(
    ("shift", "count", "height", "agrees"),
    [
        (17.0, 2, 1.0, True),
        (17.0, 2, 1.005, True),
        (17.0, 1, 0.97, False),  # not the highest peak
        (17.0, 9, 1.0, False),
        (0.6, 340, 1.0, False),
        (0.1, 340, 1.0, True),
    ],
)
def test_a_keypoint_may_lie_at_another_peak_of_one_height(shift, count, height, agrees):
    _, spec = small_model(BOTH_HEADS)
    expected = detections([[10 * k, 0, 10 * k + 9, 9] for k in range(20)], np.linspace(0.9, 0.5, 20), [0] * 20)
    expected["keypoints"] = np.random.default_rng(0).uniform(0, 100, (20, 17, 3)).astype(np.float32)
    moved = expected["keypoints"].copy()
    moved.reshape(-1, 3)[:count] *= [1, 1, height]
    moved.reshape(-1, 3)[:count, 0] += shift
    comparison = compare_detections("picture", expected, expected | {"keypoints": moved}, spec)
    assert comparison.agrees == agrees


def test_keypoints_of_boxes_on_either_side_of_a_whole_number_are_not_compared():
    """Their maps are resized to 35 and to 36 columns, whose peaks lie elsewhere."""
    _, spec = small_model(BOTH_HEADS)
    expected = detections([[0, 0, 35, 20], [50, 0, 80, 20]], [0.9, 0.8], [0, 0])
    expected["keypoints"] = np.random.default_rng(0).uniform(0, 30, (2, 17, 3)).astype(np.float32)
    found = {key: values.copy() for key, values in expected.items()}
    found["keypoints"][0, :9] *= 1.2
    assert not compare_detections("picture", expected, found, spec).agrees
    found["boxes"][0, 2] += 0.001
    assert compare_detections("picture", expected, found, spec).agrees
