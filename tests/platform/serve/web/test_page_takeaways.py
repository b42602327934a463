"""What a reader takes away: the drawn image at full size, code that asks the same, and a comparison of two versions."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle_masks

BOXES = st.lists(
    st.tuples(st.sampled_from("ab"), st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 20)] * 2)), max_size=8
)


def run_snippet(command, folder, key):
    environment = {"PATH": os.environ["PATH"], "KEY": key}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_unsafe(character):
    return unicodedata.category(character)[0] == "C" or character in "\u2028\u2029"


def open_with_key(visit, sites):
    page = visit(with_key=False)
    page.fill("#key", sites[2])
    page.keyboard.press("Enter")
    page.wait_for_selector("#sample-list li:last-child img[src]")
    page.wait_for_selector("#model:has-text('animals')")
    return page


def test_snippets_send_this_very_request(visit, upload, sites, jpeg, tmp_path):
    page, name = open_with_key(visit, sites), 'it\'s $HOME; a "photo" `id`.jpg'
    (tmp_path / name).write_bytes(jpeg)
    answer = upload(page, jpeg, name)
    page.fill("#threshold", "60")
    page.uncheck("#show-masks")
    wanted = [found for found in answer["detections"] if found["score"] >= 0.6]
    text = page.inner_text("#example")
    assert sites[2] not in text
    if shutil.which("curl"):
        found = json.loads(run_snippet(["sh", "-c", text], tmp_path, sites[2]))["detections"]
        assert [(one["category"], one["bbox"]) for one in found] == [(one["category"], one["bbox"]) for one in wanted]
        assert not any("segmentation" in one for one in found)
    page.check("#as-python")
    text = page.inner_text("#example").replace("\u00a0", " ")
    printed = run_snippet([sys.executable, "-c", text], tmp_path, sites[2]).splitlines()
    assert [line.split()[0] for line in printed] == [one["category"] for one in wanted]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#copy")
    assert page.evaluate("navigator.clipboard.readText()") == page.evaluate(
        "document.querySelector('#example').textContent"
    )


@settings(max_examples=5, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cn"]), max_size=30), min_size=40, max_size=40))
def test_snippets_hold_any_name_as_one_word(run_script, names):
    script = """return input.map((fileName) => {
      const asked = { url: "http://a:1/v1/predict", options: { score_threshold: 0.5 }, fileName, withKey: true };
      return [snippets.curlSnippet(asked), snippets.pythonSnippet(asked)];
    });"""
    both = run_script(script, names)
    curl = 'curl() { printf "%s\\0" "$@"; }\n' + "\n".join(curl for curl, _ in both)
    done = subprocess.run(["sh", "-c", curl], capture_output=True, check=True, env={"KEY": "k"})
    words = np.array(done.stdout.decode().split("\0")[:-1]).reshape(len(names), -1)
    for name, (curl, python), sent in zip(names, both, words.tolist(), strict=True):
        assert not any(map(is_unsafe, (curl + python).replace("\n", "")))
        plain = "".join("?" if is_unsafe(character) else character for character in name)
        assert sent[-3:] == ["--data-binary", f"@{plain}", "http://a:1/v1/predict?score_threshold=0.5"]
        literal = re.search(r"^image = Path\((.*)\)\.read_bytes\(\)$", python, re.MULTILINE)[1]
        assert ast.literal_eval(literal) == name


def test_drawn_image_is_saved_at_full_size_as_it_is_shown(visit, upload, png, pixels, tmp_path):
    page = visit()
    answer = upload(page, png, "photo.png")
    page.fill("#threshold", "60")
    page.uncheck("#show-labels")
    page.click("#zoom-in")
    with page.expect_download() as download:
        page.click("#save-image")
    assert download.value.suggested_filename == "photo-maskray.png"
    download.value.save_as(tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as drawn:
        found = np.asarray(drawn.convert("RGB")).astype(int)
    assert found.shape == (120, 160, 3)
    free = np.ones((120, 160), bool)
    for one in answer["detections"]:
        if one["score"] < 0.6:
            continue
        mask = rle_masks.decode(one["segmentation"]) > 0
        for axis, step in ((0, 4), (0, -4), (1, 4), (1, -4)):
            mask = mask | np.roll(mask, step, axis)
        x, y, width, height = one["bbox"]
        mask[max(0, int(y) - 6) : int(y + height) + 6, max(0, int(x) - 6) : int(x + width) + 6] = True
        free &= ~mask
    changed = np.abs(found - pixels).max(axis=2) > 8
    assert changed.mean() > 0.02
    assert not changed[free].any()


def test_image_that_is_too_large_for_a_canvas_is_drawn_by_the_server(visit, upload, png):
    page = visit()
    upload(page, png, "photo.png")
    page.evaluate("() => { HTMLCanvasElement.prototype.toBlob = (done) => done(null); }")
    with page.expect_download() as download:
        page.click("#save-image")
    with Image.open(download.value.path()) as drawn:
        assert drawn.size == (160, 120)
    assert [url.rpartition("?")[2] for url in page.asked if "format" in url] == ["format=png&score_threshold=0.5"]


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(BOXES, BOXES), min_size=10, max_size=10))
def test_objects_of_two_answers_are_matched_one_to_one(run_script, pairs):
    script = """return input.map(([first, second]) => {
      const shapes = (boxes) => boxes.map(([name, bbox]) => ({ name, bbox }));
      return [matching.matchShapes(shapes(first), shapes(second)), matching.matchShapes(shapes(first), shapes(first))];
    });"""
    for (first, second), (found, same) in zip(pairs, run_script(script, pairs), strict=True):
        assert found["both"] + found["first"] == len(first)
        assert found["both"] + found["second"] == len(second)
        assert min(found.values()) >= 0
        assert same == {"both": len(first), "first": 0, "second": 0}


def test_overlap_is_that_of_pycocotools(run_script):
    boxes = np.random.default_rng(2).integers(1, 40, (30, 4)).tolist()
    found = run_script("return input.map((a) => input.map((b) => matching.overlap(a, b)));", boxes)
    wanted = rle_masks.iou(np.array(boxes, float), np.array(boxes, float), [0] * len(boxes))
    np.testing.assert_allclose(found, wanted)


def test_two_versions_are_compared_left_and_right_of_a_line(visit, upload, pixels_of, sites, jpeg):
    page = open_with_key(visit, sites)
    answer = upload(page, jpeg)
    assert page.inner_text("label:has(#compare-on)") == f"Compare with {sites[1].removeprefix('http://')}"
    alone, number = pixels_of(page), int(page.inner_text("#summary").split()[0])
    with page.expect_request(f"{sites[1]}/v1/predict") as request:
        page.check("#compare-on")
    assert "authorization" not in request.value.headers
    page.wait_for_selector("#compare-told:visible")
    assert page.inner_text("#compare-told") == f"{number - 2} objects in both, 2 only left, 0 only right"
    assert [page.inner_text(name) for name in ("#left-name", "#right-name")] == ["version 3", "version 4"]
    counts = page.locator("#legend li:visible .number").all_inner_texts()
    assert [sum(values) for values in zip(*(map(int, text.split(" | ")) for text in counts), strict=True)] == [
        number,
        number - 2,
    ]
    page.focus("#divider")
    drawn = set()
    for key in ("End", "Home"):
        page.keyboard.press(key)
        drawn.add(pixels_of(page))
    for place in (45, 55):
        page.fill("#divider", str(place))
        drawn.add(pixels_of(page))
    assert len(drawn) == 4
    asked = len(page.asked)
    page.fill("#threshold", "0")
    assert page.inner_text("#compare-told").startswith(f"{len(answer['detections']) - 2} objects in both")
    assert len(page.asked) == asked
    page.fill("#threshold", "50")
    page.uncheck("#compare-on")
    assert page.is_hidden("#divider")
    assert pixels_of(page) == alone


@pytest.mark.parametrize("status", [503, 422])
def test_second_server_that_fails_is_named_and_costs_no_results(visit, upload, pixels_of, sites, jpeg, status):
    page = open_with_key(visit, sites)
    upload(page, jpeg)
    headers = {"Access-Control-Allow-Origin": sites[0]}
    fail = {"status": status, "headers": headers, "json": {"error": "it is not well"}}
    page.route(f"{sites[1]}/v1/predict", lambda route: route.fulfill(**fail))
    page.check("#compare-on")
    page.wait_for_selector("#error:has-text('it is not well')")
    assert sites[1].removeprefix("http://") in page.inner_text("#error")
    assert page.inner_text("#source").startswith("photo.jpg")
    page.unroute(f"{sites[1]}/v1/predict")
    page.click("#again")
    page.wait_for_selector("#compare-told:visible")
