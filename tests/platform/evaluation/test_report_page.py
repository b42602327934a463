"""The report in a browser: filters, definitions, pictures and their layers, keyboard, phone, WCAG, nothing foreign."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskray.model.config import Category, InputConfig, LabelMap, ModelConfig, ModelSpec
from maskray.platform.data.manifest import Manifest
from maskray.platform.evaluation.chosen_images import choose_images, image_qualities, rank_images
from maskray.platform.evaluation.coco_ap import merge_columns
from maskray.platform.evaluation.diagnosis import diagnose_entries
from maskray.platform.evaluation.diagnostics import make_diagnostics
from maskray.platform.evaluation.evaluated_images import EvaluatedImages
from maskray.platform.evaluation.pages import data_uri
from maskray.platform.evaluation.pictures import Picture, picture_shapes
from maskray.platform.evaluation.report import EvaluatedModel, Findings, render_report

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"),
]
CATEGORIES = [2, 5, 9]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CHECK = """async (values) => {
  const options = { runOnly: { type: "tag", values }, resultTypes: ["violations"] };
  const { passes, violations } = await axe.run(document, options);
  if (passes.length < 15) throw new Error(`only ${passes.length} rules looked at something`);
  return violations.flatMap(({ id, nodes }) => nodes.map((one) => [id, one.html.slice(0, 200), one.failureSummary]));
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory, draw_errors, as_entries) -> Path:
    """A page of 60 images, one class and one file with names that no page should take for its own text."""
    dataset, results = draw_errors(3, 60)
    entries = as_entries(dataset, results)
    names = ("cat", "</script><b>dog", "a very long name of a class that nobody would choose for anything")
    labels = LabelMap(categories=tuple(Category(id=i, name=name) for i, name in zip(CATEGORIES, names)))
    diagnoses = [diagnose_entries(entries, CATEGORIES, kind) for kind in ("bbox", "segm")]
    metrics = [merge_columns([one.matches], CATEGORIES, one.matches.iou_type) for one in diagnoses]
    diagnostics = [make_diagnostics(one, of.matches, of, 20) for one, of in zip(metrics, diagnoses)]
    qualities = image_qualities(diagnoses[-1].matches)
    images = EvaluatedImages()
    images.num_results = len(results)
    by_id = {entry[0]: entry for entry in entries}
    pictures = []
    for image_id, why in choose_images(rank_images(qualities, diagnoses[-1]), 20).items():
        _, (height, width), truth, found = by_id[image_id]
        pixels = np.random.default_rng(image_id).integers(0, 255, (height, width, 3), np.uint8)
        shapes = picture_shapes(truth, found, (height, width), labels, "segm")
        pictures.append((Picture(image_id, f"{image_id}.png", width, height, data_uri(pixels), shapes), 0.5, why))
    manifest = Manifest.model_construct(
        labels=labels, num_images=60, num_annotations=len(dataset["annotations"]), bad_images=()
    )
    spec = ModelSpec(model=ModelConfig(), input=InputConfig(), labels=labels)
    found_all = Findings(metrics, [one.matches for one in diagnoses], diagnostics, diagnoses, images)
    model = EvaluatedModel("", "check <model>", "90 steps", "name: check")
    history = [{"step": step, "loss": 3.0 / step, "val/segm/AP": 0.1 * step} for step in (1, 2, 3)]
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_report(model, spec, manifest, found_all, None, pictures, history), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, report):
    """Opens the page in a context of given options; it asks for nothing else, and nothing in it fails unseen."""
    contexts, asked, problems = [], [], []

    def open_page(fragment="", **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.goto(report.as_uri() + fragment)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []
    assert [url for url in asked if not url.startswith(("data:", report.as_uri()))] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_keeps_the_rules_at_every_width(visit, scheme):
    import axe_playwright_python

    program = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    page = visit(color_scheme=scheme, reduced_motion="reduce")
    page.evaluate(program)
    for summary in page.query_selector_all("summary"):
        summary.click()
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CHECK, RULES) == [], width
        page.click(".thumb >> nth=0")
        assert page.evaluate(CHECK, RULES) == [], width
        page.click("#close")


def test_filters_by_class_error_and_reason(visit):
    page = visit()
    shown = ".gallery > li:visible"
    assert page.locator(shown).count() == 20
    pictures = json.loads(page.text_content("#pictures"))["pictures"]
    page.select_option("#error", "background")
    wanted = [one for one in pictures if any(shape["error"] == "background" for shape in one["shapes"])]
    assert 0 < len(wanted) < 20
    assert page.locator(shown).count() == len(wanted)
    assert page.inner_text("#count") == f"{len(wanted)} of 20 pictures"
    assert page.locator("tr[data-error]:visible").count() == 2  # of boxes and masks
    page.select_option("#class", "1")
    both = [one for one in wanted if any(s["error"] == "background" and s["k"] == 1 for s in one["shapes"])]
    assert page.locator(shown).count() == len(both)
    assert page.locator("#categories tbody tr:visible").count() == 1
    page.click("#clear")
    page.select_option("#reason", "worst")
    assert page.locator(shown).count() == sum("worst" in one["why"] for one in pictures)


def test_definitions_on_hover_and_focus(visit):
    page = visit()
    page.hover("#metrics .term >> nth=0")
    assert page.inner_text("#tip").startswith("Average precision: the area under")
    page.keyboard.press("Escape")
    assert page.is_hidden("#tip")
    page.mouse.move(0, 0)
    page.focus("#errors-segm .term >> text=AP50 lost")
    assert "put right" in page.inner_text("#tip")
    terms = page.evaluate("[...document.querySelectorAll('.term')].map((one) => one.getAttribute('aria-describedby'))")
    assert all(page.evaluate("(id) => document.getElementById(id)?.textContent.length > 20", one) for one in set(terms))


def test_a_picture_is_looked_into_with_its_layers(visit):
    page = visit()
    page.select_option("#error", "localisation")
    page.focus(".gallery > li:visible .thumb >> nth=0")
    page.keyboard.press("Enter")
    shapes = page.locator("#shapes > *")
    everything = shapes.count()
    assert everything > 0
    page.uncheck("#on-masks")
    assert page.locator("#shapes path").count() == 0
    page.uncheck("#on-errors")
    page.uncheck("#on-found")
    page.uncheck("#on-truth")
    assert shapes.count() == 0
    page.check("#on-errors")
    assert 0 < shapes.count() < everything
    assert "localisation" in page.inner_text("#found")
    before = page.get_attribute("#stage", "viewBox")
    page.focus("#stage")
    page.keyboard.press("+")
    closer = page.get_attribute("#stage", "viewBox")
    assert float(closer.split()[2]) < float(before.split()[2])
    page.keyboard.press("ArrowRight")
    assert float(page.get_attribute("#stage", "viewBox").split()[0]) > float(closer.split()[0])
    page.keyboard.press("0")
    assert page.get_attribute("#stage", "viewBox") == before
    page.click("#found button >> nth=0")
    assert page.get_attribute("#stage", "viewBox") != before
    name = page.inner_text("#name")
    page.keyboard.press("n")
    assert page.inner_text("#name") != name
    page.keyboard.press("p")
    assert page.inner_text("#name") == name
    page.keyboard.press("Escape")
    assert page.is_hidden("#viewer")
    assert page.evaluate("document.activeElement.className") == "thumb"


def test_a_picture_has_an_address_and_two_fingers_zoom(visit):
    page = visit(has_touch=True, viewport={"width": 390, "height": 800})
    page.tap(".thumb >> nth=2")
    name, address = page.inner_text("#name"), page.evaluate("location.hash")
    assert address == f"#picture-{name.removesuffix('.png')}"
    other = visit(address)
    assert other.inner_text("#name") == name
    before = float(page.get_attribute("#stage", "viewBox").split()[2])
    box = page.locator("#stage").bounding_box()
    session = page.context.new_cdp_session(page)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, apart in (("touchStart", 20), ("touchMove", 60), ("touchMove", 100), ("touchEnd", None)):
        points = [] if apart is None else [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert float(page.get_attribute("#stage", "viewBox").split()[2]) < before / 2


def test_names_are_text_and_the_page_is_small(report):
    text = report.read_text(encoding="utf-8")
    assert "<b>dog" not in text
    assert "check <model>" not in text
    assert not any(word in text for word in ('src="http', "@import", "url(http"))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (1200, 1600, 3), np.uint8))
    worst = data_uri(np.asarray(image))  # noise, which no JPEG makes small
    assert len(worst) < 1_200_000
