"""What a reader filters and how it is drawn: opacity, a least score for each class, one colour a class, a search."""

import numpy as np
from pycocotools import mask as rle_masks

ROW = "#legend li:has(.name:text-is('{}'))"
SWATCHES = """(list) => [...document.querySelectorAll(`${list} li:not([hidden])`)].map((row) =>
  [row.querySelector(".name").textContent.split(" #")[0], row.querySelector(".swatch").style.borderColor])"""


def listed(page):
    """(class, score in percent) of the objects in the list."""
    names = page.locator("#objects [role=option]:visible").evaluate_all("all => all.map((row) => row.ariaLabel)")
    parts = [name.split(" %")[0].split() for name in names]
    return [(words[0], int(words[-1])) for words in parts]


def test_each_class_can_have_its_own_least_score(visit, upload, jpeg):
    page = visit()
    upload(page, jpeg, "first.jpg")
    page.fill("#threshold", "20")
    everything = listed(page)
    page.check("#each")
    own = f"{ROW.format('dog')} input[type=range]"
    assert page.input_value(own) == "20"
    page.fill(own, "70")
    assert page.get_attribute(own, "aria-valuetext") == "70 %"
    wanted = [(name, score) for name, score in everything if name != "dog" or score >= 70]
    assert 0 < len(listed(page)) < len(everything)
    assert listed(page) == wanted
    upload(page, jpeg, "second.jpg")  # stays from image to image
    assert listed(page) == wanted
    assert "score_threshold=0.2'" in page.inner_text("#example")
    page.fill(own, "100")
    assert page.is_visible(own)  # the class has no objects now, but a way back
    page.uncheck("#each")
    assert listed(page) == everything
    page.click("#no-classes")
    assert page.inner_text("#why") == f"{len(everything)} objects of classes that are not checked"
    page.click("#all-classes")
    assert listed(page) == everything


def test_class_has_one_colour_and_its_objects_have_lines_and_numbers(visit, upload, jpeg):
    page = visit()
    upload(page, jpeg)
    page.fill("#threshold", "0")
    legend = dict(page.evaluate(SWATCHES, "#legend"))
    assert len(set(legend.values())) == len(legend) == 3
    objects = page.evaluate(SWATCHES, "#objects")
    assert all(legend[name] == color for name, color in objects)
    called = page.locator("#objects .name").all_inner_texts()
    assert len(set(called)) == len(called) == 20
    lines = page.locator("#objects .swatch").evaluate_all("all => all.map((one) => one.dataset.outline)")
    assert [int(line) for line in lines] == [(int(name.split("#")[1]) - 1) % 3 for name in called]


def test_opacity_is_of_the_masks_alone(visit, upload, place_of, color_at, png):
    page = visit()
    answer = upload(page, png, "photo.png")
    best = answer["detections"][0]
    page.uncheck("#show-boxes")
    page.uncheck("#show-labels")
    page.uncheck("#show-keypoints")
    page.fill("#threshold", str(int(100 * best["score"])))
    inside = rle_masks.decode(best["segmentation"])
    whole = np.logical_and.reduce([np.roll(inside, s, a) for a in (0, 1) for s in range(-3, 4)])
    whole[:3] = whole[-3:] = whole[:, :3] = whole[:, -3:] = False
    y, x = np.argwhere(whole)[0]
    colors = {}
    for opacity in (0, 50, 100):
        page.fill("#opacity", str(opacity))
        colors[opacity] = np.array(color_at(page, *place_of(page, x + 0.5, y + 0.5)))
    assert page.inner_text("#opacity-value") == "100 %"
    fill = page.locator("#objects .swatch >> nth=0").evaluate("one => getComputedStyle(one).borderColor")
    assert colors[100].tolist() == [int(value) for value in fill[4:-1].split(",")]
    assert np.abs(colors[50] - (colors[0] + colors[100]) / 2).max() <= 1
    assert np.abs(colors[0] - colors[100]).max() > 20


def test_nothing_found_says_the_best_score_and_offers_it(visit, upload, jpeg):
    page = visit()
    answer = upload(page, jpeg)
    assert page.is_hidden("#lower")
    page.fill("#threshold", "100")
    best = int(100 * answer["detections"][0]["score"])
    assert page.inner_text("#lower") == f"Lower the least score to {best} %"
    page.click("#lower")
    assert page.input_value("#threshold") == str(best)
    assert listed(page)
    assert page.is_hidden("#lower")
    assert page.evaluate("document.activeElement.id") == "summary"


def test_classes_are_searched(visit, jpeg):
    page = visit()
    names = [f"kind {number}" for number in range(30)] + ["Кошка", "\u202enavi\x07", "<b>bold</b>"]
    labels = [{"id": number, "name": name} for number, name in enumerate(names)]

    def many(route):
        answer = route.fetch().json()
        route.fulfill(json=answer | {"labels": labels})

    page.route("**/v1/model", many)
    box = {"bbox": [10, 10, 50, 40], "score": 0.9}
    found = [{"category_id": number, "category": names[number], **box} for number in range(20)]
    answer = {"model": {"name": "animals", "version": "3"}, "image": {"width": 160, "height": 120}, "seconds": {},
              "detections": found}  # fmt: skip
    page.route("**/v1/predict", lambda route: route.fulfill(json=answer))
    page.reload()
    page.wait_for_selector("#about-search:visible")
    page.fill("#about-search", "кош")
    assert page.locator("#classes li:visible").all_inner_texts() == ["Кошка"]
    page.fill("#about-search", "<b>")
    assert page.locator("#classes li:visible").all_inner_texts() == ["<b>bold</b>"]
    page.fill("#about-search", "navi")
    assert page.locator("#classes li:visible").all_inner_texts() == ["?navi?"]
    page.fill("#about-search", "zebra")
    assert page.is_visible("#about-none")
    page.set_input_files("#file", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": jpeg})
    page.wait_for_selector("#class-search:visible")
    page.fill("#class-search", "KIND 1")
    assert page.locator("#legend .name:visible").all_inner_texts() == [f"kind {n}" for n in (1, *range(10, 20))]
    page.click("#no-classes")  # those that are listed
    assert page.inner_text("#summary") == "9 objects"
