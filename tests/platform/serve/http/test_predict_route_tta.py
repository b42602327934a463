"""Requests for test-time augmentation: offered or not, within its own limits, and with places for every view."""

import asyncio
import base64
import json

import pytest

from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.http.auth import Places
from maskray.platform.serve.http.metrics import ServerMetrics

VIEWS = {"views": {"scales": [120, 240], "flip": True}}  # 2 x (160 x 120 + 320 x 240) = 192,000 pixels of the image


async def nothing(data):
    return []


def errors(answers):
    return [(answer.status_code, answer.json()["error"]) for answer in answers]


def test_what_is_not_offered_is_refused_and_not_described(ask, png):
    asked = [{"params": {"tta": "true"}, "content": png, "headers": {"Content-Type": "image/png"}}]
    body = {"image": base64.b64encode(png).decode(), "tta": True}
    asked += [{"json": body}, {"json": body | {"tta": False}}, {"method": "GET", "url": "/openapi.json"}]
    *refused, plain, described = ask(nothing, *asked)
    assert errors(refused) == [(422, "tta: this server offers no test-time augmentation")] * 2
    assert plain.status_code == 200
    assert '"tta"' not in described.text


def test_what_is_offered_is_described_with_its_views(ask, png):
    asked = [
        {"params": {"tta": "true"}, "content": png, "headers": {"Content-Type": "image/png"}},
        {"method": "GET", "url": "/openapi.json"},
        {"method": "GET", "url": "/v1/model"},
    ]
    answer, described, model = ask(nothing, *asked, tta=VIEWS)
    assert answer.status_code == 200
    parameters = described.json()["paths"]["/v1/predict"]["post"]["parameters"]
    (stated,) = [one for one in parameters if one["name"] == "tta"]
    assert stated["schema"]["type"] == "boolean"
    assert "They are 4" in stated["description"]
    assert model.json()["limits"]["tta_views"] == 4


@pytest.mark.parametrize(("most", "status"), [(191_999, 413), (192_000, 200)])
def test_all_views_of_an_image_have_so_many_pixels_at_most(ask, png, most, status):
    asked = {"params": {"tta": "true"}, "content": png, "headers": {"Content-Type": "image/png"}}
    plain = {"content": png, "headers": {"Content-Type": "image/png"}}
    found, without = ask(nothing, asked, plain, tta=VIEWS | {"max_view_pixels": most})
    assert (found.status_code, without.status_code) == (status, 200)
    if status == 413:
        told = "tta: the 4 views of a 160 x 120 image have 192000 pixels, more than the 191999 allowed"
        assert found.json()["error"] == told


def test_every_view_takes_a_place_and_what_can_never_fit_is_told(ask, png):
    image = base64.b64encode(png).decode()
    asked = [{"json": {"images": [image] * count, "tta": True}} for count in (2, 3)]
    fits, never = ask(nothing, *asked, tta=VIEWS, max_waiting=11)
    assert fits.status_code == 200
    assert errors([never]) == [(413, "3 images of 4 views are more than the 11 places of the server")]


def test_places_are_taken_while_the_views_are_looked_at(client_of, png):
    places = Places(5, ServerMetrics())
    taken = []

    async def look(data):
        taken.append(places.taken)
        return []

    async def scenario():
        async with client_of(look, places, tta=VIEWS, max_waiting=5) as client:
            headers = {"Content-Type": "image/png"}
            return await client.post("/v1/predict", params={"tta": "true"}, content=png, headers=headers)

    assert asyncio.run(scenario()).status_code == 200
    assert (taken, places.taken) == ([4], 0)


def test_more_views_than_places_are_no_configuration():
    with pytest.raises(ValueError, match="4 views of an image are more than the 3 of max_waiting"):
        ServeConfig.model_validate({"tta": VIEWS, "max_waiting": 3})
    assert json.loads(ServeConfig.model_validate({"tta": {}}).model_dump_json())["tta"]["max_view_pixels"] == 30_000_000
