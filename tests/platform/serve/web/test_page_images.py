"""Images on their way into the page: several at once, a busy server, formats that browsers do not show, addresses."""

import base64
import io
import time

import pytest
from PIL import Image

PASTE_TEXT = """(text) => {
  const clipboardData = new DataTransfer();
  clipboardData.setData("text/plain", text);
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
}"""
DROP = """([data, count]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  for (let i = 0; i < count; i++) dataTransfer.items.add(new File([bytes], `${i}.jpg`, { type: "image/jpeg" }));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""


def files(*images):
    return [{"name": name, "mimeType": "image/jpeg", "buffer": data} for name, data in images]


def tiles(page):
    return page.locator("#strip-list button").evaluate_all("all => all.map((one) => one.ariaLabel)")


def wait_for_tiles(page, condition):
    deadline = time.monotonic() + 240
    while not condition(tiles(page)):
        assert time.monotonic() < deadline, tiles(page)
        page.wait_for_timeout(50)


def predictions(page):
    return [url for url in page.asked if "/v1/predict" in url]


def test_several_images_are_asked_about_two_at_a_time_and_walked_through(visit, jpeg):
    page, held = visit(), []
    page.route("**/v1/predict", lambda route: held.append(route))
    names = ["a.jpg", "broken.jpg", "c.jpg", "d.jpg"]
    page.set_input_files("#file", files(*((name, jpeg[: 900 if name == "broken.jpg" else None]) for name in names)))
    for left in range(len(names), 0, -1):
        while len(held) < min(2, left):
            page.wait_for_timeout(20)
        page.wait_for_timeout(200)  # a third request would come in this time
        assert len(held) == min(2, left)
        held.pop(0).continue_()
    wait_for_tiles(page, lambda all_tiles: not any("waiting" in tile for tile in all_tiles))
    page.unroute("**/v1/predict")
    assert [tile.split(":")[0] for tile in tiles(page)] == names
    assert tiles(page)[0].endswith(page.inner_text("#summary"))
    assert "failed, image cannot be decoded" in tiles(page)[1]
    assert page.inner_text("#strip-title") == "4 images"
    assert page.inner_text("#source").startswith("a.jpg")
    asked = len(predictions(page))
    page.focus("#strip-list [aria-current]")
    assert page.locator("#strip-list button[tabindex='0']").count() == 1
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.wait_for_selector("#source:has-text('d.jpg')")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    assert "broken.jpg: image cannot be decoded" in page.inner_text("#error")
    assert page.inner_text("#source").startswith("d.jpg")
    page.keyboard.press("Delete")
    assert page.evaluate("document.activeElement.ariaLabel").startswith("c.jpg")
    assert len(tiles(page)) == 3
    page.click("#clear")
    page.wait_for_selector("#drop:visible")
    assert page.is_hidden("#results")
    assert page.is_hidden("#strip")
    assert len(predictions(page)) == asked


def test_busy_server_is_asked_again_when_it_says(visit, upload, jpeg):
    page, times = visit(), []

    def refuse_once(route):
        times.append(time.monotonic())
        if len(times) == 1:
            return route.fulfill(status=503, headers={"Retry-After": "2"}, json={"error": "the server is busy"})
        return route.continue_()

    page.route("**/v1/predict", refuse_once)
    page.set_input_files("#file", files(("a.jpg", jpeg)))
    page.wait_for_selector("#busy-text:has-text('asked again in 2 seconds')")
    page.wait_for_selector("#results:not([hidden])")
    assert len(times) == 2
    assert times[1] - times[0] > 1.9
    assert page.is_hidden("#alert")


def test_queue_keeps_its_order_its_number_and_its_pauses(run_script):
    script = """
      const queue_ = new queue.Queue(2), log = [];
      let running = 0, most = 0;
      const job = (name, fails = 0, seconds = 0.05) => queue_.add(async () => {
        most = Math.max(most, ++running);
        log.push(name);
        await new Promise((done) => setTimeout(done, 5));
        running--;
        if (fails-- > 0) throw Object.assign(new Error(name), { retrySeconds: seconds });
        return name;
      }, { signal: name === "gone" ? AbortSignal.abort() : undefined }).catch((error) => `no ${error.name}`);
      const gone = new AbortController();
      const last = queue_.add(async () => "never", { signal: gone.signal }).catch((error) => `no ${error.name}`);
      gone.abort();
      const all = await Promise.all([job("a"), job("b", 1), job("c"), job("d", 99, 0.001), last]);
      return { all, most, log };
    """
    found = run_script(script, None)
    assert found["all"] == ["a", "b", "c", "no Error", "no AbortError"]
    assert found["most"] == 2
    assert found["log"][:2] == ["a", "b"]
    assert found["log"].count("d") == 6
    assert found["log"].count("b") == 2


def test_number_of_images_is_bounded(visit, jpeg):
    page = visit()
    empty = {"model": {"name": "animals", "version": "3"}, "image": {"width": 160, "height": 120}, "detections": [],
             "seconds": {}}  # fmt: skip
    page.route("**/v1/predict", lambda route: route.fulfill(json=empty))
    page.evaluate(DROP, [base64.b64encode(jpeg).decode(), 50])
    assert "The first 48 of 50 images are taken" in page.inner_text("#error")
    page.wait_for_selector("#strip-title:has-text('48 images')")
    assert page.inner_text("#why") == "The model found nothing here, whatever the score."
    assert page.is_hidden("#lower")
    page.evaluate(DROP, [base64.b64encode(jpeg).decode(), 1])
    wait_for_tiles(page, lambda all_tiles: all_tiles[-1] == "0.jpg: No objects")
    assert (len(tiles(page)), tiles(page)[0].split(":")[0]) == (48, "1.jpg")


def test_format_that_browsers_do_not_show_is_drawn_by_the_server(visit, upload, place_of, color_at, pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "TIFF")
    page = visit()
    answer = upload(page, file.getvalue(), "scan.tif")
    assert len(answer["detections"]) == 20
    assert page.inner_text("#source") == "scan.tif, 160 × 120 pixels"
    assert [url.rpartition("?")[2] for url in predictions(page)[1:]] == ["format=png&max_detections=0"]
    page.fill("#threshold", "100")
    page.click("#zoom-full")
    for _ in range(8):
        page.click("#zoom-in")
    for x, y in ((80, 60), (78, 62)):
        assert color_at(page, *place_of(page, x + 0.5, y + 0.5)) == pixels[y, x].tolist()


def test_address_is_fetched_by_the_browser_where_that_is_allowed(visit, sites):
    first, second, _ = sites
    page = visit()
    address = f"{second}/v1/samples/scene-2.jpg"
    with page.expect_request(address) as request:
        page.fill("#address", address)
        page.keyboard.press("Enter")
    page.wait_for_selector("#source:has-text('scene-2.jpg, 768 × 576')")
    headers = request.value.all_headers()
    assert headers["origin"] == first
    assert "cookie" not in headers
    assert "referer" not in headers
    page.evaluate(PASTE_TEXT, f"{second}/v1/model")
    page.wait_for_selector("#error:has-text('model: not an image of a format known here')")
    for text in ("javascript:alert(1)", "file:///etc/passwd", "no address"):
        page.fill("#another-address", text)
        page.keyboard.press("Enter")
        assert "This is no address of an image" in page.inner_text("#error")


def test_no_address_is_fetched_where_that_is_not_allowed(visit, sites):
    page = visit(second=True)
    assert page.is_hidden("#address")
    asked = len(page.asked)
    page.evaluate(PASTE_TEXT, f"{sites[0]}/v1/samples/scene-2.jpg")
    assert page.inner_text("#error") == "What was pasted is no image."
    assert len(page.asked) == asked


def test_error_shows_the_id_of_its_request(visit, jpeg):
    page = visit()
    with page.expect_request("**/v1/predict") as request:
        page.set_input_files("#file", files(("half.jpg", jpeg[:900])))
    page.wait_for_selector("#alert:visible")
    assert f"(request {request.value.headers['x-request-id']})" in page.inner_text("#error")


def test_names_of_files_and_classes_are_text_and_nothing_else(visit, jpeg):
    page = visit()
    evil = "<img src=x onerror=alert(1)>\u202egpj.exe\x1b[31m\n"
    box = {"bbox": [10, 10, 50, 40], "score": 0.9}
    detections = [{"category_id": 1, "category": evil, **box}, {"category_id": 77, "category": "x" * 5000, **box}]
    answer = {"model": {"name": evil, "version": "3"}, "image": {"width": 160, "height": 120}, "seconds": {},
              "detections": detections}  # fmt: skip
    page.route("**/v1/predict", lambda route: route.fulfill(json=answer))
    page.set_input_files("#file", files((evil.replace("\n", ""), jpeg)))
    page.wait_for_selector("#results:not([hidden])")
    page.wait_for_selector("#busy", state="hidden")
    shown = page.evaluate(
        "document.body.innerText + [...document.querySelectorAll('[aria-label]')].map((o) => o.ariaLabel)"
    )
    assert "<img src=x" in shown
    assert not {character for character in shown if not character.isprintable()} - {"\n", "\t"}
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200
    assert max(map(len, page.inner_text("#legend").split())) <= 80


@pytest.mark.parametrize("name", ["a b.jpg", "é.jpg", "\u202e\u0007x.jpg", "y" * 300, "  tab\t x "])
def test_shown_name_is_one_line_without_controls(run_script, name):
    shown, beside = run_script("return [names.shownName(input), names.nameBeside(input, 'png')];", name)
    assert len(shown) <= 80
    assert all(character.isprintable() for character in shown + beside)
    assert beside.endswith("-maskray.png")
