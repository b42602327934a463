"""Who can use the page, and where: names for screen readers, contrast, narrow and sharp screens, and its own rules."""

import io
import time

import numpy as np
import pytest
from PIL import Image

CONTROLS = {
    "button",
    "checkbox",
    "radio",
    "slider",
    "listbox",
    "option",
    "textbox",
    "dialog",
    "image",
    "DisclosureTriangle",
}
# Text with a contrast below that of WCAG 2 AA against what is behind it, as [text, contrast].
FAINT = """() => {
  const part = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const read = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const color = read(getComputedStyle(element).backgroundColor);
      if (color.length === 3) return color;
      if (color[3] > 0) throw new Error(`half transparent: ${element.outerHTML.slice(0, 80)}`);
    }
    throw new Error("no ground");
  };
  const found = [];
  let count = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(read(style.color)), light(ground(element))].sort();
    const contrast = (b + 0.05) / (a + 0.05);
    count++;
    if (contrast < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) found.push([node.data, contrast]);
  }
  return [count, found];
}"""
# Visible things to press that are smaller than 24 pixels (WCAG 2.2 AA, 2.5.8), as HTML.
SMALL = """() => [...document.querySelectorAll("button, label:has(input), [role=option], summary, input[type=range]")]
  .filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < 24).map((one) => one.outerHTML)"""


def wait_until(page, condition):
    """Until an expression is true; Playwright's own waiting for one evaluates text, which the page's policy refuses."""
    deadline = time.monotonic() + 120
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def named_controls(page):
    """(role, name) of everything that a screen reader can operate or call an image, as the browser tells it."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    shown = [node for node in nodes if not node["ignored"]]
    found = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in shown]
    return [(role, name) for role, name in found if role in CONTROLS]


def test_every_control_has_a_name(visit, upload, jpeg):
    page = visit()
    assert ("button", "Choose images") in named_controls(page)
    samples = [name for role, name in named_controls(page) if name.startswith("Sample: ")]
    assert len(samples) == len(set(samples)) == 6
    upload(page, jpeg)
    controls = named_controls(page)
    assert {
        ("slider", "Least score"),
        ("checkbox", "masks"),
        ("listbox", "Objects"),
        ("button", "Download as COCO JSON"),
    } <= set(controls)
    images = [name for role, name in controls if role == "image"]
    assert [name for name in images if name.startswith(f"Image photo.jpg: {page.inner_text('#summary')}, ")]
    assert [control for control in controls if not control[1]] == []
    page = visit(with_key=False)
    page.wait_for_selector("#key-dialog[open]")
    controls = named_controls(page)
    assert {("dialog", "This server asks for a key"), ("textbox", "API key")} <= set(controls)
    assert [control for control in controls if not control[1]] == []


def test_screen_reader_is_told_what_was_found(visit, upload, jpeg):
    page = visit()
    page.focus("#file")
    upload(page, jpeg)
    assert page.evaluate("document.activeElement.id") == "summary"  # what had the focus is gone
    page.wait_for_selector(
        f"#live:has-text('{page.inner_text('#summary')} with a score of 50 % and more: ')", state="attached"
    )
    page.fill("#threshold", "100")
    page.wait_for_selector("#live:has-text('No objects with a score of 100 %')", state="attached")
    roles = "['live', 'alert'].map((id) => document.getElementById(id).getAttribute('role'))"
    assert page.evaluate(roles) == ["status", "alert"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_and_targets_be_hit(visit, upload, jpeg, scheme):
    page = visit(color_scheme=scheme)
    grounds = [page.evaluate("getComputedStyle(document.body).backgroundColor")]
    page.set_input_files("#file", {"name": "x.txt", "mimeType": "text/plain", "buffer": b"x"})
    page.wait_for_selector("#alert:visible")
    for step in (
        lambda: None,
        lambda: upload(page, jpeg),
        lambda: page.hover("#object-1"),
        lambda: page.click("summary"),
    ):
        step()
        count, faint = page.evaluate(FAINT)
        assert count > 10
        assert faint == []
        assert page.evaluate(SMALL) == []
    red, green, blue = (int(value) for value in grounds[0][4:-1].split(","))
    assert (red + green + blue > 600) == (scheme == "light")


@pytest.mark.parametrize(("size", "ratio"), [((100, 900), 1), ((1600, 90), 2), ((160, 120), 3)])
def test_any_image_fits_a_narrow_screen_in_its_own_pixels(visit, upload, place_of, size, ratio):
    file = io.BytesIO()
    Image.fromarray(np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(size[1], size[0], 3)).save(file, "PNG")
    page = visit(viewport={"width": 390, "height": 844}, device_scale_factor=ratio)
    upload(page, file.getvalue(), "picture.png")
    page.fill("#threshold", "0")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator("#picture").bounding_box()
    (left, top), (right, bottom) = place_of(page, 0, 0), place_of(page, *size)
    assert -0.5 <= box["x"] - 0.5 <= left < right <= box["x"] + box["width"] + 0.5 <= 391
    assert box["y"] - 0.5 <= top < bottom <= box["y"] + box["height"] + 0.5 <= 844
    assert (right - left) / (bottom - top) == pytest.approx(size[0] / size[1])
    canvas = page.evaluate("[document.querySelector('#picture').width, document.querySelector('#over').width]")
    assert canvas == [round(box["width"] * ratio)] * 2
    page.evaluate("scrollTo(0, document.body.scrollHeight)")  # it stays in view beside the list
    assert 0 <= page.locator("#picture").bounding_box()["y"] < 100
    page.set_viewport_size({"width": 340, "height": 844})
    wait_until(page, "document.documentElement.scrollWidth <= 340")


def test_nothing_moves_where_that_is_asked_for(visit):
    turning = "getComputedStyle(document.querySelector('.spinner')).animationName"
    assert visit().evaluate(turning) == "turn"
    assert visit(reduced_motion="reduce").evaluate(turning) == "none"


def test_browser_holds_the_page_to_its_own_files(visit):
    page = visit(second=True)
    page.evaluate("""() => {
      window.refused = [];
      addEventListener("securitypolicyviolation", (event) => window.refused.push(event.effectiveDirective));
      const script = document.createElement("script");
      script.textContent = "window.inline = true";
      document.body.append(script);
      document.body.append(Object.assign(document.createElement("style"), { textContent: "body { color: red }" }));
      document.body.append(Object.assign(new Image(), { src: "https://example.invalid/a.png" }));
      fetch("https://example.invalid/").catch(() => null);
    }""")
    wait_until(page, "window.refused.length >= 4")
    assert sorted(page.evaluate("window.refused")) == ["connect-src", "img-src", "script-src-elem", "style-src-elem"]
    assert page.evaluate("window.inline") is None
    assert all("Content Security Policy" in text for text in page.problems)
    page.problems.clear()
