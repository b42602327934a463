"""The page and its server: pictures that are refused, a server that is gone or wants a key, answers that come late."""

import io

from PIL import Image


def test_errors_name_the_file_and_leave_what_was_shown(visit, upload, pixels_of, jpeg):
    page = visit()
    upload(page, jpeg, "first.jpg")  # with a second one there is a strip, and the stage has its size
    upload(page, jpeg)
    drawn, huge = pixels_of(page), io.BytesIO()
    Image.new("1", (8000, 7000)).save(huge, "PNG")
    cases = (
        ("broken.jpg", jpeg[: len(jpeg) // 2], "truncated"),
        ("notes.txt", b"no picture at all", "not an image of a format known here"),
        ("huge.png", huge.getvalue(), "8000 x 7000 pixels"),
        ("heavy.jpg", bytes(1_200_000), "1.2 MB is too much; this server takes at most 1 MB"),
    )
    for name, data, told in cases:
        page.set_input_files("#file", {"name": name, "mimeType": "image/jpeg", "buffer": data})
        page.wait_for_selector(f"#error:has-text('{name}')")
        page.wait_for_selector("#busy", state="hidden")
        assert told in page.inner_text("#error")
        page.keyboard.press("Escape")
        assert page.is_hidden("#alert")
        assert pixels_of(page) == drawn
        assert page.inner_text("#source").startswith("photo.jpg")


def test_server_that_is_gone_can_be_asked_again(visit):
    page = visit()
    page.context.set_offline(True)
    page.click("#sample-list button >> nth=0")
    page.wait_for_selector("#error:has-text('the server cannot be reached')")
    assert page.is_visible("#drop")
    page.context.set_offline(False)
    page.click("#again")
    page.wait_for_selector("#results:not([hidden])")
    assert page.is_hidden("#alert")


def test_sample_that_cannot_be_shown_is_left_out_and_the_page_starts(visit):
    page = visit()
    number = page.locator("#sample-list li").count()
    page.route("**/v1/samples/scene-2.jpg/preview", lambda route: route.fulfill(status=422, json={"error": "broken"}))
    page.reload()
    page.wait_for_selector("#samples:not([hidden])")
    assert page.locator("#sample-list li").count() == number - 1
    assert page.locator("#sample-list [aria-label='Sample: Drawn scene 2']").count() == 0
    assert page.is_hidden("#alert")


def test_last_choice_wins_and_a_choice_can_be_given_up(visit):
    page, held = visit(), []
    page.route("**/v1/predict", lambda route: held.append(route))
    page.click("#sample-list button >> nth=0")
    page.wait_for_selector("#busy:visible")
    page.keyboard.press("Escape")
    assert page.is_hidden("#busy")
    page.wait_for_selector("#live:has-text('Cancelled')", state="attached")
    assert page.is_visible("#drop")
    page.unroute("**/v1/predict")
    for number in (0, 2, 1):
        page.click(f"#sample-list button >> nth={number}")
    page.wait_for_selector("#results:not([hidden])")
    page.wait_for_selector("#busy", state="hidden")
    assert page.inner_text("#source").startswith("scene-2.jpg")


def test_results_of_one_image_are_out_of_reach_while_another_is_on_its_way(visit, upload, pixels_of, jpeg):
    page, held = visit(), []
    upload(page, jpeg)
    page.focus("#threshold")
    drawn = pixels_of(page)
    page.route("**/v1/predict", lambda route: held.append(route))
    page.click("#sample-list button >> nth=0")
    page.wait_for_selector("#results[inert]")
    waiting = pixels_of(page)
    page.keyboard.press("Home")
    assert page.input_value("#threshold") == "50"
    assert pixels_of(page) == waiting != drawn
    page.keyboard.press("Escape")
    assert pixels_of(page) == drawn
    page.unroute("**/v1/predict")
    page.focus("#threshold")
    page.keyboard.press("Home")
    assert page.inner_text("#summary") == "20 objects"


def test_key_is_asked_for_and_forgotten(visit, site):
    page = visit(with_key=False)
    page.fill("#key", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#key-refused:visible")
    page.click("#key-cancel")
    page.wait_for_selector("#error:has-text('asks for a key')")
    page.click("#again")
    page.fill("#key", site[1])
    page.keyboard.press("Enter")
    page.wait_for_selector("#model:has-text('animals')")
    assert "Authorization: Bearer $KEY" in page.inner_text("#example")
    page.click("#sample-list button >> nth=0")
    page.wait_for_selector("#results:not([hidden])")
    kept = "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href, document.body.innerHTML])"
    assert site[1] not in page.evaluate(kept)
    page.reload()
    page.wait_for_selector("#key-dialog[open]")
