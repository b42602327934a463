"""What the routes do when the model is slow, fails or refuses; the rest is tested on a real server."""

import asyncio

import httpx
import pytest

from maskray.platform.config import ServeConfig
from maskray.platform.data.transforms import decode_image
from maskray.platform.serve.app import Prediction, ServedModel, build_app, most_waiting

BINARY = {"Content-Type": "application/octet-stream"}


def client_of(spec, predict, **config):
    app = build_app(ServedModel("shapes", "3", spec), ServeConfig(**config), predict)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://probe")


def test_full_queue_refuses_at_once_and_empties_again(spec, png):
    release = asyncio.Event()

    async def predict(data):
        await release.wait()
        return Prediction(decode_image(data), [], {})

    async def scenario():
        async with client_of(spec, predict, max_batch_size=1) as client:
            most = most_waiting(ServeConfig(max_batch_size=1))
            waiting = [
                asyncio.create_task(client.post("/v1/predict", content=png, headers=BINARY)) for _ in range(most)
            ]
            await asyncio.sleep(0.2)
            refused = await client.post("/v1/predict", content=png, headers=BINARY)
            healthy = await client.get("/healthz")
            release.set()
            served = await asyncio.gather(*waiting)
            later = await client.post("/v1/predict", content=png, headers=BINARY)
            return refused, healthy, served, later

    refused, healthy, served, later = asyncio.run(scenario())
    assert refused.status_code == 503
    assert refused.json() == {"error": "the server is busy, try again in a moment"}
    assert refused.headers["Retry-After"] == "1"
    assert healthy.json() == {"status": "ok"}
    assert [answer.status_code for answer in served] == [200] * most_waiting(ServeConfig(max_batch_size=1))
    assert later.status_code == 200


def test_refused_requests_free_their_place(spec, png):
    async def predict(data):
        raise ValueError("image cannot be decoded: truncated")

    async def scenario():
        async with client_of(spec, predict, max_batch_size=1) as client:
            return [await client.post("/v1/predict", content=png, headers=BINARY) for _ in range(12)]

    answers = asyncio.run(scenario())
    assert {answer.status_code for answer in answers} == {422}
    assert answers[0].json() == {"error": "image cannot be decoded: truncated"}


def test_our_own_failure_tells_the_client_nothing_of_the_inside(spec, png, caplog):
    async def predict(data):
        raise RuntimeError("secret path /etc/keys")

    async def scenario():
        async with client_of(spec, predict) as client:
            return await client.post("/v1/predict", content=png, headers=BINARY)

    answer = asyncio.run(scenario())
    assert answer.status_code == 500
    assert answer.json() == {"error": "the server failed on this request; its log says why"}
    assert "secret path" in caplog.text


@pytest.mark.parametrize("stated", [True, False])
def test_body_above_the_limit_is_refused_with_and_without_a_stated_length(spec, stated):
    async def predict(data):
        raise AssertionError("a refused picture reached the model")

    async def chunks():
        for _ in range(30):
            yield bytes(100)

    async def scenario():
        async with client_of(spec, predict, max_request_bytes=1000) as client:
            content = bytes(3000) if stated else chunks()
            return await client.post("/v1/predict", content=content, headers=BINARY)

    answer = asyncio.run(scenario())
    assert answer.status_code == 413
    assert answer.json() == {"error": "the picture is larger than the 1000 bytes allowed"}


def test_form_that_is_cut_off_is_refused(spec):
    async def predict(data):
        raise AssertionError("a refused picture reached the model")

    body = b'--cut\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\nabc'

    async def scenario():
        async with client_of(spec, predict) as client:
            found = []
            for content_type in ("multipart/form-data; boundary=cut", "multipart/form-data"):
                found.append(await client.post("/v1/predict", content=body, headers={"Content-Type": content_type}))
            return found

    for answer in asyncio.run(scenario()):
        assert answer.status_code == 422
        assert "form" in answer.json()["error"]
