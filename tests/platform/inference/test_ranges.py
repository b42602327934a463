"""The file of ranges: read back as it was written, refused in a line where it is damaged or of other weights."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from separable_model import SMALL_MASKS, separable_model

from maskray.platform.files.model_folder import read_model_folder, write_model_file, write_model_folder
from maskray.platform.inference.int8_layers import find_layers
from maskray.platform.inference.ranges import (
    MOST_BYTES,
    Ranges,
    digest_weights,
    find_ranges,
    ranges_file,
    read_ranges,
    write_ranges,
)

LAYER = "rpn.head.objectness"


@pytest.fixture(scope="module")
def model():
    return separable_model({"backbone": {"fpn_channels": 16}, "box_head": {"hidden_channels": 16}}, SMALL_MASKS)[0]


def write(folder, model, **changes):
    """A file where the ranges of a model are looked for."""
    digest = digest_weights(model)
    ranges = {"weights_sha256": digest, "images": 3, "layers": {LAYER: [0.0, 2.5]}} | changes
    path = ranges_file(folder, None, digest)
    path.write_text(json.dumps(ranges), encoding="utf-8")
    return path


def test_what_was_written_is_read_back(model, tmp_path):
    layers = {name: (-0.1 * number, 1.5 + number) for number, name in enumerate(find_layers(model))}
    digest = digest_weights(model)
    path = ranges_file(tmp_path, None, digest)
    write_ranges(path, Ranges(weights_sha256=digest, images=7, layers=layers))
    assert find_ranges(model, tmp_path, None) == layers
    assert find_ranges(model, "elsewhere", tmp_path) == layers
    with pytest.raises(ValueError, match="exists"):
        write_ranges(path, Ranges(weights_sha256=digest, images=7, layers=layers))


def test_the_digest_is_that_of_the_weights_wherever_they_are(tmp_path):
    model, spec = separable_model({"backbone": {"fpn_channels": 16}, "box_head": {"hidden_channels": 16}})
    digest = digest_weights(model)
    write_model_folder(tmp_path / "folder", model, spec)
    write_model_file(tmp_path / "model.safetensors", model, spec)
    for place in ("folder", "model.safetensors"):
        assert digest_weights(read_model_folder(tmp_path / place)[0]) == digest
    assert ranges_file(tmp_path / "model.safetensors", None, digest).parent == tmp_path
    with torch.no_grad():
        model.rpn.head.deltas.bias[0] += 1e-3
    assert digest_weights(model) != digest


def test_ranges_that_are_missing_are_told_with_what_makes_them(model, tmp_path):
    with pytest.raises(ValueError, match=r"int8-[0-9a-f]{16}\.json: there are no ranges.*`maskray models quantize`"):
        find_ranges(model, tmp_path, None)


def test_ranges_of_other_weights_are_refused(model, tmp_path):
    write(tmp_path, model, weights_sha256="0" * 64)
    with pytest.raises(ValueError, match=r"json: ranges of the weights 0000000000000000, not of "):
        find_ranges(model, tmp_path, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": {}}, "layers: "),
        ({"layers": {"roi_heads.mask_head.predictor": [0, 1]}}, "'roi_heads.mask_head.predictor' is no layer"),
        ({"layers": {"a\nb" * 1000: [0, 1]}}, "is no layer of"),
        ({"layers": {LAYER: [0, 1, 2]}}, "not a file of ranges: layers"),
        ({"layers": {LAYER: [1, 2]}}, "lies between 1 and 2"),
        ({"layers": {LAYER: [0, 0]}}, "lies between 0 and 0"),
        ({"layers": {LAYER: [0, float("nan")]}}, "not a file of ranges: layers"),
        ({"layers": {LAYER: [0, float("inf")]}}, "not a file of ranges: layers"),
        ({"layers": {LAYER: [0, 1e30]}}, "not a file of ranges: layers"),
        ({"layers": [[LAYER, 0, 1]]}, "not a file of ranges: layers"),
        ({"images": 0}, "not a file of ranges: images"),
        ({"weights_sha256": "ab"}, "not a file of ranges: weights_sha256"),
        ({"format": "other"}, "not a file of ranges: format"),
        ({"more": 1}, "not a file of ranges: more"),
    ],
)
def test_a_file_that_says_something_else_is_refused_in_a_line(model, tmp_path, changes, message):
    path = write(tmp_path, model, **changes)
    with pytest.raises(ValueError, match="^" + str(path)) as error:
        find_ranges(model, tmp_path, None)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_a_file_that_is_far_too_long_is_not_read(model, tmp_path):
    path = write(tmp_path, model)
    path.write_bytes(b" " * (MOST_BYTES + 1))
    with pytest.raises(ValueError, match=f"it has more than {MOST_BYTES} bytes"):
        read_ranges(path)


def test_a_file_that_nests_deeply_is_refused(model, tmp_path):
    path = write(tmp_path, model)
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(ValueError, match="not a file of ranges"):
        read_ranges(path)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_holds_ranges(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("ranges") / "file.json"
    text = json.dumps({"weights_sha256": "a" * 64, "images": 3, "layers": {LAYER: [-0.5, 2.5]}}).encode()
    place = data.draw(st.integers(0, len(text) - 1))
    path.write_bytes(text[:place] + data.draw(st.binary(max_size=4)) + text[place + data.draw(st.integers(0, 4)) :])
    mistake = ""
    try:
        ranges = read_ranges(path)
    except ValueError as error:
        mistake = str(error)
    assert "\n" not in mistake
    if not mistake:
        assert all(low <= 0 <= high and low < high for low, high in ranges.layers.values())
