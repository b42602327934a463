"""Zoom and pan of the page: the arithmetic (run by node), and wheel, keys, buttons, drag and pinch in a browser."""

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

LENGTH = st.integers(1, 5000)
STEP = st.tuples(st.sampled_from(["zoomBy", "pan"]), st.floats(-6, 6), st.floats(0, 1), st.floats(0, 1))


def encode(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def view_of(page):
    """Pixels of the page for one of the image, and where the image's corner is."""
    return [float(value) for value in page.get_attribute("#picture", "data-view").split()]


def test_fitted_image_is_whole_and_in_the_middle(run_script):
    cases = [([800, 600], [400, 300]), ([800, 600], [1600, 300]), ([800, 600], [10, 10]), ([90, 60], [9000, 10])]
    script = """return input.map(([window, image]) => {
      const one = new view.View();
      one.resize(...window);
      one.show(...image);
      return [one.scale, one.left, one.top, one.isFitted, one.canPan];
    });"""
    assert run_script(script, cases) == [
        [2, 0, 0, True, False],
        [0.5, 0, 225, True, False],
        [6, 370, 270, True, False],  # a small one is enlarged, but not without end
        [0.01, 0, pytest.approx(29.95), True, False],
    ]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(LENGTH, LENGTH, LENGTH, LENGTH, st.lists(STEP, max_size=12)), min_size=20, max_size=20))
def test_point_under_the_mouse_stays_and_the_image_covers_its_window(run_script, cases):
    script = """return input.map(([width, height, across, down, steps]) => {
      const one = new view.View();
      one.resize(width, height);
      one.show(across, down);
      return steps.map(([kind, amount, x, y]) => {
        const at = [x * width, y * height];
        const before = one.toImage(...at);
        if (kind === "pan") one.pan(100 * amount, -70 * amount);
        else one.zoomBy(amount, ...at);
        const { scale, left, top, seen, fitScale: fit } = one;
        return { kind, before, after: one.toImage(...at), scale, left, top, seen, fit };
      });
    });"""
    for (width, height, across, down, _), steps in zip(cases, run_script(script, cases), strict=True):
        for step in steps:
            scale, seen = step["scale"], step["seen"]
            assert min(1, step["fit"]) - 1e-9 <= scale <= max(64, step["fit"]) + 1e-9
            for place, room, length in ((step["left"], width, across), (step["top"], height, down)):
                if length * scale <= room:
                    assert place == pytest.approx((room - length * scale) / 2, abs=1e-6)
                else:
                    assert room - length * scale - 1e-6 <= place <= 1e-6
                    if step["kind"] == "zoomBy" and place < -1e-6 and place > room - length * scale + 1e-6:
                        axis = 0 if (place, room) == (step["left"], width) else 1
                        assert step["after"][axis] == pytest.approx(step["before"][axis], abs=1e-6 * max(across, down))
            assert 0 <= seen[0] <= seen[0] + seen[2] <= across
            assert 0 <= seen[1] <= seen[1] + seen[3] <= down


def test_box_that_is_out_of_sight_comes_into_the_middle(run_script):
    script = """const one = new view.View();
      one.resize(100, 100);
      one.show(1000, 500);
      one.zoomTo(1);
      const before = [one.left, one.top];
      one.reveal([460, 210, 20, 20]);
      const same = [one.left, one.top];
      one.reveal([700, 300, 20, 40]);
      return [before, same, one.toImage(50, 50)];"""
    before, same, middle = run_script(script, None)
    assert before == same == [-450, -200]
    assert middle == [710, 320]


def test_zoom_shows_the_single_pixels_of_a_large_image(visit, upload, place_of, color_at):
    pixels = np.random.default_rng(3).integers(0, 256, (64, 3001, 3), np.uint8)  # wider than the copy that is drawn
    page = visit()
    upload(page, encode(pixels), "noise.png")
    page.fill("#threshold", "100")
    x, y = 2777, 31
    page.mouse.move(*place_of(page, x + 0.5, y + 0.5))
    page.mouse.wheel(0, -5000)
    assert page.inner_text("#zoom-value") == "6400 %"
    left, top = place_of(page, x, y)
    for across, down in ((2, 2), (62, 2), (2, 62), (62, 62), (-2, 2), (66, 62)):
        wanted = pixels[y + math.floor(down / 64), x + math.floor(across / 64)]
        assert color_at(page, left + across, top + down) == wanted.tolist()


def test_keys_buttons_and_drag_move_the_view(visit, upload, place_of, jpeg):
    page = visit()
    upload(page, jpeg)
    place_of(page, 0, 0)
    fitted = view_of(page)
    page.focus("#frame")
    page.keyboard.press("+")
    place_of(page, 0, 0)
    assert view_of(page)[0] == pytest.approx(1.5 * fitted[0])
    page.keyboard.press("ArrowRight")
    place_of(page, 0, 0)
    larger = view_of(page)
    page.keyboard.press("-")
    page.keyboard.press("0")
    place_of(page, 0, 0)
    assert view_of(page) == fitted
    page.click("#zoom-full")
    place_of(page, 0, 0)
    assert (view_of(page)[0], page.inner_text("#zoom-value")) == (1, "100 %")
    page.click("#zoom-in")
    page.click("#zoom-out")
    page.click("#zoom-fit")
    for _ in range(3):
        page.click("#zoom-in")
    x, y = place_of(page, 80, 60)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y - 30, steps=4)
    page.mouse.up()
    assert place_of(page, 80, 60) == pytest.approx((x + 40, y - 30))
    assert page.locator("#objects [aria-selected=true]").count() <= 1
    page.click("#zoom-wide")
    box = page.locator("#picture").bounding_box()
    assert (box["x"], box["y"], box["width"], box["height"]) == (0, 0, 1200, 640)
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.locator("#picture").bounding_box()["height"] < 640
    assert larger[1] < fitted[1]


def test_two_fingers_zoom_and_a_tap_singles_out(visit, upload, place_of, jpeg):
    page = visit(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    assert page.is_visible("label[for=camera]")
    assert page.get_attribute("#camera", "capture") == "environment"
    words = page.inner_text("#drop")
    assert "Tap" in words
    assert "Drop" not in words
    upload(page, jpeg)
    order = "['stage', 'results', 'samples'].map((id) => document.getElementById(id).getBoundingClientRect().top)"
    assert (tops := page.evaluate(order)) == sorted(tops)
    x, y = place_of(page, 80, 60)
    before = view_of(page)[0]
    session = page.context.new_cdp_session(page)

    def touch(kind, *apart):
        points = [{"x": x + dx, "y": y, "id": number} for number, dx in enumerate(apart)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", -30, 30)
    for apart in (40, 50, 60):
        touch("touchMove", -apart, apart)
    touch("touchEnd")
    assert place_of(page, 80, 60) == pytest.approx((x, y), abs=2)
    assert view_of(page)[0] == pytest.approx(2 * before, rel=0.05)
    page.tap("#objects [role=option] >> nth=0")
    assert page.locator("#objects [aria-selected=true]").count() == 1
