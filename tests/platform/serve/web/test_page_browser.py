"""The page in a real browser, before a real server and model: what a reader does, and what is to be seen then."""

import base64
import json
import math
import re
from collections import Counter

import numpy as np
import pytest
from pycocotools import mask as rle_masks
from pycocotools.coco import COCO

DROP = """([data, count]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  for (let i = 0; i < count; i++) transfer.items.add(new File([bytes], `dropped-${i}.jpg`, { type: "image/jpeg" }));
  const target = document.querySelector("main");
  target.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""
PASTE = (
    DROP.replace("DragEvent", "ClipboardEvent").replace('"drop"', '"paste"').replace("dataTransfer:", "clipboardData:")
)


def percent(score):
    return math.floor(100 * score + 0.5)


def rows_of(page):
    """Class and score of the objects that are listed; several of a class are numbered."""
    names = page.locator("#objects [role=option]:visible").evaluate_all("all => all.map((row) => row.ariaLabel)")
    return [re.sub(" #\\d+", "", name.split(" %")[0]) for name in names]


def expected_rows(answer, least):
    return [f"{d['category']} {percent(d['score'])}" for d in answer["detections"] if d["score"] >= least]


def singled_out(page):
    """Index of the object that is singled out in the list, or None."""
    chosen = page.locator("#objects [aria-selected=true]").evaluate_all("all => all.map((row) => row.id)")
    return int(chosen[0].removeprefix("object-")) if chosen else None


def front_objects(answer, least):
    """Index of the smallest mask at each pixel, -1 where there is none; as the page lets the mouse find it."""
    height, width = answer["image"]["height"], answer["image"]["width"]
    masks = [rle_masks.decode(found["segmentation"]) for found in answer["detections"] if found["score"] >= least]
    front, areas = np.full((height, width), -1), np.full((height, width), height * width + 1)
    for index, mask in enumerate(masks):
        smaller = (mask == 1) & (mask.sum() < areas)
        front[smaller], areas[smaller] = index, mask.sum()
    return front


@pytest.fixture
def hover(place_of):
    """Moves the mouse over a pixel of the image."""
    return lambda page, x, y: page.mouse.move(*place_of(page, x + 0.5, y + 0.5))


def test_upload_shows_what_the_server_found(visit, upload, pixels_of, jpeg):
    page = visit()
    assert page.inner_text("#model") == "animals, version 3, 3 classes"
    answer = upload(page, jpeg)
    wanted = expected_rows(answer, 0.5)
    assert 3 <= len(wanted) < len(answer["detections"])
    assert rows_of(page) == wanted
    assert page.inner_text("#summary") == f"{len(wanted)} objects"
    counts = Counter(found["category"] for found in answer["detections"] if found["score"] >= 0.5)
    legend = page.locator("#legend li:visible").all_inner_texts()
    assert dict(line.split() for line in legend) == {name: str(count) for name, count in counts.items()}
    assert "model" in page.inner_text("#timing-summary")
    page.click("#timing-summary")
    assert {"Round trip", "decoding", "model"} <= set(page.locator("#times dt").all_inner_texts())
    drawn = pixels_of(page)
    for name in ("masks", "boxes", "labels", "keypoints"):
        page.uncheck(f"#show-{name}")
        assert pixels_of(page) != drawn, name
        page.check(f"#show-{name}")
        assert pixels_of(page) == drawn, name


def test_slider_and_legend_filter_without_a_new_request(visit, upload, pixels_of, jpeg):
    page = visit()
    answer = upload(page, jpeg)
    asked, images = len(page.asked), set()
    for threshold in (0, 40, 70, 95):
        page.fill("#threshold", str(threshold))
        assert rows_of(page) == expected_rows(answer, threshold / 100)
        images.add(pixels_of(page))
    page.fill("#threshold", "100")
    assert rows_of(page) == []
    best = percent(answer["detections"][0]["score"])
    assert page.inner_text("#summary") == "No objects"
    assert page.inner_text("#why") == f"The best of all has {best} %."
    page.fill("#threshold", "0")
    everything = pixels_of(page)
    page.uncheck("#legend label:has-text('dog') input")
    rest = [row for row in expected_rows(answer, 0) if not row.startswith("dog")]
    assert rows_of(page) == rest
    page.check("#legend label:has-text('dog') input")
    assert pixels_of(page) == everything
    page.check("#color-objects")
    assert pixels_of(page) not in images
    swatches = page.locator("#objects .swatch").evaluate_all("all => all.map((one) => one.style.borderColor)")
    assert len(set(swatches)) == len(swatches) == len(answer["detections"])
    assert len(images) == 4
    assert len(page.asked) == asked


def test_mouse_singles_out_the_mask_under_it_and_not_the_box(visit, upload, pixels_of, hover, jpeg):
    page = visit()
    answer = upload(page, jpeg)
    front, empty = front_objects(answer, 0.5), pixels_of(page, "#over")
    found = [index for index in np.unique(front) if index >= 0]
    assert len(found) >= 4
    veils = set()
    for index in found:
        y, x = np.argwhere(front == index)[0]
        hover(page, x, y)
        assert singled_out(page) == index
        veils.add(pixels_of(page, "#over"))
    assert len(veils | {empty}) == len(found) + 1
    x, y, width, height = (int(value) for value in answer["detections"][found[0]]["bbox"])
    gap = np.argwhere(front[y : y + height, x : x + width] == -1)[0]
    hover(page, x + gap[1], y + gap[0])
    assert singled_out(page) is None
    assert pixels_of(page, "#over") == empty
    y, x = np.argwhere(front == found[1])[0]
    hover(page, x, y)
    page.mouse.down()
    page.mouse.up()
    page.mouse.move(2, 2)
    assert singled_out(page) == found[1]
    page.hover("#object-0")
    assert singled_out(page) == 0
    page.focus("#objects")
    page.keyboard.press("End")  # other rows come under the mouse, which rests
    page.wait_for_timeout(200)  # what is not to happen would come late, with the scrolling
    assert singled_out(page) == len(rows_of(page)) - 1
    page.mouse.move(2, 2)
    page.keyboard.press("Escape")
    assert singled_out(page) is None
    assert pixels_of(page, "#over") == empty


def test_keyboard_alone_goes_from_a_sample_to_one_object(visit, pixels_of):
    page = visit()

    def tab_to(selector):
        for _ in range(30):
            page.keyboard.press("Tab")
            here = page.evaluate_handle("document.activeElement")
            style = "(one) => getComputedStyle(one.id === 'file' ? one.nextElementSibling : one).outlineWidth"
            assert page.evaluate(style, here) == "3px"
            if page.evaluate("([one, selector]) => one.matches(selector)", [here, selector]):
                return
        raise AssertionError(f"{selector} is not reached with Tab")

    tab_to("#file")
    tab_to("#sample-list li:nth-child(2) button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#results:not([hidden])")
    assert "scene-2" in page.inner_text("#source")
    tab_to("#threshold")
    page.keyboard.press("Home")
    assert len(rows_of(page)) == 20
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#threshold", "aria-valuetext") == "1 %"
    tab_to("#objects")
    empty, steps = pixels_of(page, "#over"), []
    for key in ("ArrowDown", "ArrowDown", "End", "ArrowUp", "Home", "PageDown"):
        page.keyboard.press(key)
        steps.append(singled_out(page))
        assert page.get_attribute("#objects", "aria-activedescendant") == f"object-{steps[-1]}"
    last = len(rows_of(page)) - 1
    assert steps == [0, 1, last, last - 1, 0, 10]
    assert pixels_of(page, "#over") != empty
    page.keyboard.press("o")
    assert rows_of(page)[singled_out(page)].startswith("owl")
    page.keyboard.press("Escape")
    assert singled_out(page) is None
    assert pixels_of(page, "#over") == empty


def test_saved_results_are_the_servers_and_pycocotools_reads_them(visit, upload, jpeg, tmp_path):
    page = visit()
    answer = upload(page, jpeg, "000000000139.jpg")
    with page.expect_download() as download:
        page.click("#save-coco")
    assert download.value.suggested_filename == "000000000139-maskray.json"
    download.value.save_as(tmp_path / "results.json")
    results = json.loads((tmp_path / "results.json").read_text())
    assert [{"image_id": 139} | found for found in answer["detections"]] == [
        {"category": found["category"]} | result for found, result in zip(answer["detections"], results, strict=True)
    ]
    coco = COCO()
    image = {"id": 139, "width": 160, "height": 120}
    coco.dataset = {"images": [image], "annotations": [], "categories": [{"id": i, "name": str(i)} for i in (1, 7, 9)]}
    coco.createIndex()
    loaded = coco.loadRes(str(tmp_path / "results.json"))
    assert len(loaded.anns) == 20
    for annotation, found in zip(loaded.anns.values(), answer["detections"], strict=True):
        np.testing.assert_array_equal(loaded.annToMask(annotation), rle_masks.decode(found["segmentation"]))
        assert annotation["keypoints"] == found["keypoints"]


def test_dropped_and_pasted_files_are_taken(visit, jpeg):
    page = visit()
    data = base64.b64encode(jpeg).decode()
    for script, count in ((DROP, 2), (PASTE, 1)):
        page.evaluate(script, [data, count])
        page.wait_for_selector("#results:not([hidden])")
        page.wait_for_selector("#busy", state="hidden")
        assert page.inner_text("#source").startswith("dropped-0.jpg, 160 × 120")
    page.evaluate(DROP, [data, 0])
    assert page.inner_text("#error") == "What was dropped is no file."
