"""The page: its mask decoder against pycocotools (run by node), its colours, and nothing loaded from elsewhere."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as rle_masks

from maskray.model.config import Category
from maskray.platform.drawing import class_color
from maskray.platform.serve.page import PAGE_FILES, WEB
from maskray.platform.skeletons import read_skeleton

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")


def run_script(script, data):
    """Run a module with the page's functions imported; `input` is the data, what it returns comes back."""
    program = (
        f"import * as masks from {json.dumps((WEB / 'masks.js').as_uri())};"
        f"import * as skeletons from {json.dumps((WEB / 'skeletons.js').as_uri())};"
        "import { readFileSync } from 'node:fs';"
        "const input = JSON.parse(readFileSync(0, 'utf8'));"
        f"const output = (() => {{ {script} }})();"
        "process.stdout.write(JSON.stringify(output));"
    )
    command = [NODE, "--input-type=module", "-e", program]
    done = subprocess.run(command, input=json.dumps(data), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def example_masks():
    generator = np.random.default_rng(5)
    rows, columns = np.mgrid[:90, :130]
    masks = [
        np.zeros((7, 5), np.uint8),
        np.ones((7, 5), np.uint8),
        ((rows - 40) ** 2 / 900 + (columns - 70) ** 2 / 2500 < 1).astype(np.uint8),
        np.ones((1500, 1200), np.uint8),  # a run of 1.8 million needs five characters
    ]
    masks += [(generator.random((int(h), int(w))) < p).astype(np.uint8) for h, w, p in
              zip(generator.integers(1, 60, 30), generator.integers(1, 60, 30), generator.random(30))]  # fmt: skip
    return masks


def encode(mask):
    rle = rle_masks.encode(np.asfortranarray(mask))
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


@needs_node
def test_decoded_masks_equal_those_of_pycocotools():
    masks = example_masks()
    cases = [{"rle": encode(mask), "bbox": [0, 0, mask.shape[1], mask.shape[0]]} for mask in masks]
    script = (
        "return input.map(({rle, bbox}) => {"
        "const crop = masks.cropMask(rle, bbox, 1);"
        "return [crop.left, crop.top, crop.width, crop.height, Array.from(crop.inside).join('')]; });"
    )
    for mask, (left, top, width, height, text) in zip(masks, run_script(script, cases), strict=True):
        assert (left, top, height, width) == (0, 0, *mask.shape)
        decoded = np.frombuffer(text.encode(), np.uint8).reshape(height, width) - ord("0")
        np.testing.assert_array_equal(decoded, mask)


@needs_node
def test_crop_takes_the_part_of_the_box_at_another_scale():
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 30:50] = 1
    case = {"rle": encode(mask), "bbox": [30, 10, 20, 10]}
    for scale in (0.5, 2):
        script = f"const c = masks.cropMask(input.rle, input.bbox, {scale}); return {{...c, inside: [...c.inside]}};"
        crop = run_script(script, case)
        inside = np.array(crop["inside"]).reshape(crop["height"], crop["width"])
        rows, columns = np.nonzero(inside)
        assert (rows.min() + crop["top"], rows.max() + crop["top"] + 1) == (10 * scale, 20 * scale)
        assert (columns.min() + crop["left"], columns.max() + crop["left"] + 1) == (30 * scale, 50 * scale)
        assert inside.sum() == 200 * scale**2


@needs_node
@pytest.mark.parametrize("counts", ["", "0", "P", "zzzzzz"])
def test_damaged_mask_is_an_error_and_not_a_picture(counts):
    rle = {"size": [7, 5], "counts": counts}
    script = "try { masks.cropMask(input, [0, 0, 5, 7], 1); return ''; } catch (error) { return error.message; }"
    assert run_script(script, rle).startswith("mask ")


@needs_node
def test_blending_tints_the_inside_and_traces_the_border():
    script = (
        "const rgba = new Uint8ClampedArray(4 * 8 * 6).fill(100);"
        "const mask = {left: 2, top: 1, width: 4, height: 4, inside: new Uint8Array(16).fill(1)};"
        "masks.blendMask(rgba, 8, mask, [200, 0, 100], 0.5); return [...rgba];"
    )
    rgba = np.array(run_script(script, None)).reshape(6, 8, 4)
    assert rgba[0, 0].tolist() == [100, 100, 100, 100]
    assert rgba[1, 2].tolist() == [200, 0, 100, 100]
    assert rgba[2, 3].tolist() == [150, 50, 100, 100]
    changed = (rgba != 100).any(axis=-1)
    assert changed[1:5, 2:6].all()
    assert changed.sum() == 16


@needs_node
def test_colors_are_those_of_pictures_drawn_by_the_server():
    pairs = [[class_index, instance] for class_index in range(80) for instance in range(4)]
    found = run_script("return input.map(([c, i]) => masks.classColor(c, i));", pairs)
    wanted = [class_color(class_index, instance) for class_index, instance in pairs]
    assert np.abs(np.array(found) - np.array(wanted)).max() <= 1


@needs_node
def test_skeletons_are_those_of_pictures_drawn_by_the_server():
    names = ("nose", "left_eye", "right_eye", "left_ear")
    label = Category(id=1, name="person", keypoints=names, skeleton=((1, 2), (2, 3), (2, 4), (3, 4)))
    for keypoints in (
        [10, 20, 0.9, 30, 21.5, 0.06, 40, 20, 0.04, 50, 20, 0.5],
        [1, 2, 0.3, 4, 5, 0.6, 7, 8, 0.9, 0, 0, 0],
    ):
        wanted = read_skeleton({"keypoints": keypoints, "score": 1.0}, label)
        data = {"keypoints": keypoints, "label": label.model_dump(mode="json")}
        found = run_script("return skeletons.readSkeleton(input.keypoints, input.label, 2);", data)
        assert [(*line["from"], *line["to"], *line["color"]) for line in found["lines"]] == [
            (*(2 * v for v in start), *(2 * v for v in end), *color) for start, end, color in wanted.lines
        ]
        assert [(*point["at"], *point["color"]) for point in found["points"]] == [
            (*(2 * v for v in at), *color) for at, color, _ in wanted.points
        ]


@needs_node
@pytest.mark.parametrize("name", ["app.js", "masks.js", "skeletons.js"])
def test_scripts_parse(name):
    subprocess.run([NODE, "--check", "--input-type=module", "-"], input=(WEB / name).read_bytes(), check=True)


def test_page_names_only_files_that_are_served():
    html = (WEB / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert set(named) - {"data:,"} == {"style.css", "app.js"}
    assert set(PAGE_FILES.values()) == {path.name for path in Path(WEB).iterdir()}
    for path in Path(WEB).iterdir():
        assert not re.search(r"https?://|@import|//cdn", path.read_text(encoding="utf-8")), path.name


def test_controls_are_labelled_and_every_id_that_the_script_asks_for_is_there():
    html = (WEB / "index.html").read_text(encoding="utf-8")
    script = (WEB / "app.js").read_text(encoding="utf-8")
    ids = set(re.findall(r'id="([^"]+)"', html))
    assert set(re.findall(r'get\("([^"]+)"\)', script)) <= ids
    assert set(re.findall(r'for="([^"]+)"', html)) <= ids
