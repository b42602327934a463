"""What the routes do when the model is slow, fails or refuses; the rest is tested on a real server."""

import asyncio
import json
import logging

import pytest

from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.http import auth
from maskray.platform.serve.http.app import build_app
from maskray.platform.serve.http.auth import Places
from maskray.platform.serve.http.metrics import ServerMetrics
from maskray.platform.serve.http.openapi_examples import ONE, SEVERAL
from maskray.platform.serve.http.parameters import Options
from maskray.platform.serve.http.responses import FailedImage

BINARY = {"Content-Type": "application/octet-stream"}


async def nothing(data):
    return []


async def unreachable(data):
    raise AssertionError("a refused image reached the model")


def test_full_queue_refuses_at_once_and_empties_again(client_of, png):
    release = asyncio.Event()

    reached = []

    async def predict(data):
        reached.append(data)
        await release.wait()
        return []

    most = ServeConfig(max_batch_size=1).most_waiting

    async def scenario():
        async with client_of(predict, max_batch_size=1) as client:
            waiting = [
                asyncio.create_task(client.post("/v1/predict", content=png, headers=BINARY)) for _ in range(most)
            ]
            async with asyncio.timeout(300):
                while len(reached) < most:
                    await asyncio.sleep(0.01)
            refused = await client.post("/v1/predict", content=png, headers=BINARY)
            healthy = await client.get("/healthz")
            gauge = (await client.get("/metrics")).text
            release.set()
            served = await asyncio.gather(*waiting)
            later = await client.post("/v1/predict", content=png, headers=BINARY)
            return refused, healthy, gauge, served, later

    refused, healthy, gauge, served, later = asyncio.run(scenario())
    assert refused.status_code == 503
    assert refused.json() == {"error": "the server is busy, try again in a moment"}
    assert refused.headers["Retry-After"] == "1"
    assert (healthy.status_code, healthy.json()) == (503, {"status": "busy"})
    assert f"maskray_waiting_pictures {float(most)}" in gauge
    assert [answer.status_code for answer in served] == [200] * most
    assert later.status_code == 200


def test_images_of_one_request_take_a_place_each(ask, png):
    form = {"files": [("image", png)] * 3}
    answers = ask(nothing, form, {"files": [("image", png)] * 2}, max_waiting=2, max_images_per_request=4)
    assert answers[0].status_code == 413
    assert answers[0].json() == {"error": "3 images are more than the 2 of a request"}
    assert answers[1].status_code == 200


def test_refused_requests_free_their_place(ask, png):
    async def predict(data):
        return FailedImage(422, "image cannot be decoded: truncated")

    answers = ask(predict, *[{"content": png, "headers": BINARY}] * 12, max_batch_size=1)
    assert {answer.status_code for answer in answers} == {422}
    assert answers[0].json() == {"error": "image cannot be decoded: truncated"}


def test_our_own_failure_tells_the_client_nothing_of_the_inside(ask, png, caplog):
    async def predict(data):
        raise RuntimeError("secret path /etc/keys")

    answer, metrics = ask(predict, {"content": png, "headers": BINARY}, {"method": "GET", "url": "/metrics"})
    assert answer.status_code == 500
    assert answer.json() == {"error": "the server failed on this request; its log says why"}
    assert "secret path" in caplog.text
    assert 'maskray_requests_total{route="/v1/predict",status="500"} 1.0' in metrics.text


def test_client_that_goes_away_while_it_sends_is_no_failure_of_ours(caplog):
    places, server_metrics = Places(1, ServerMetrics()), ServerMetrics()
    app = build_app(ServeConfig(), unreachable, server_metrics, places)
    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "query_string": b"", "headers": []}
    messages = [{"type": "http.request", "body": b"\x89PNG", "more_body": True}, {"type": "http.disconnect"}]

    async def receive():
        return messages.pop(0)

    async def send(message):
        pass

    asyncio.run(app(scope, receive, send))
    assert b'maskray_requests_total{route="/v1/predict",status="499"} 1.0' in server_metrics.text()
    assert places.taken == 0
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("stated", [True, False])
def test_body_above_the_limit_is_refused_with_and_without_a_stated_length(ask, stated):
    async def chunks():
        for _ in range(30):
            yield bytes(100)

    content = bytes(3000) if stated else chunks()
    (answer,) = ask(unreachable, {"content": content, "headers": BINARY}, max_request_bytes=1000)
    assert answer.status_code == 413
    assert answer.json() == {"error": "the image is larger than the 1000 bytes allowed"}


@pytest.mark.parametrize("where", ["query", "header", "json"])
def test_deadline_ends_a_request_that_waits(ask, png, where):
    """Wherever it is stated; what waits for the model is cancelled and not forgotten."""
    cancelled = []

    async def predict(data):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(len(data))
            raise

    request = {
        "query": {"content": png, "headers": BINARY, "params": {"deadline_seconds": 2}},
        "header": {"content": png, "headers": BINARY | {"X-Request-Deadline": "2"}},
        "json": {"json": ONE | {"deadline_seconds": 2}},
    }[where]
    (answer,) = ask(predict, request)
    assert answer.status_code == 504
    assert answer.json() == {"error": "the deadline of 2 s passed"}
    assert len(cancelled) == 1


def test_body_that_does_not_arrive_is_given_up_and_frees_its_place(client_of):
    async def slowly():
        yield b"\x89PNG"
        await asyncio.Event().wait()

    async def scenario():
        places = Places(1, ServerMetrics())
        async with client_of(unreachable, places, deadline_seconds=0.1) as client:
            return await client.post("/v1/predict", content=slowly(), headers=BINARY), places

    answer, places = asyncio.run(scenario())
    assert places.taken == 0
    assert answer.status_code == 408
    assert answer.json() == {"error": "the request did not arrive within 0.1 s"}


def test_deadline_may_not_be_longer_than_that_of_the_server(ask, png):
    (answer,) = ask(unreachable, {"content": png, "headers": BINARY | {"X-Request-Deadline": "61"}})
    assert answer.status_code == 422
    assert "61 is more than the 60 allowed" in answer.json()["error"]


def test_draining_server_takes_nothing_more_and_says_so(client_of, png):
    places = Places(8, ServerMetrics())
    places.draining = True

    async def scenario():
        async with client_of(unreachable, places) as client:
            return await client.post("/v1/predict", content=png, headers=BINARY), await client.get("/healthz")

    answer, health = asyncio.run(scenario())
    assert (answer.status_code, health.status_code) == (503, 503)
    assert answer.headers["Retry-After"] == "1"
    assert health.json() == {"status": "draining"}


def test_no_other_origin_may_ask_unless_it_is_named(ask):
    preflight = {
        "method": "OPTIONS",
        "headers": {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"},
    }
    get = {"method": "GET", "url": "/healthz", "headers": {"Origin": "https://a.example"}}
    refused, plain = ask(nothing, preflight, get)
    assert (refused.status_code, plain.status_code) == (403, 403)
    assert not [name for name in (*refused.headers, *plain.headers) if name.startswith("access-control")]
    allowed, simple = ask(nothing, preflight, get, cors_origins=("https://a.example",))
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"
    assert simple.headers["access-control-allow-origin"] == "https://a.example"
    (other,) = ask(nothing, get | {"headers": {"Origin": "https://b.example"}}, cors_origins=("https://a.example",))
    assert "access-control-allow-origin" not in other.headers


def test_each_request_leaves_one_line_with_its_id(ask, png, caplog):
    logging.getLogger("maskray.requests").propagate = True
    with caplog.at_level(logging.INFO, "maskray.requests"):
        ask(
            nothing,
            {"content": png, "headers": BINARY | {"X-Request-ID": "mine-1"}},
            {"content": png, "headers": BINARY | {"X-Request-ID": "a b" * 90}},
            {"content": b"text", "headers": BINARY},
        )
    first, second, third = [json.loads(record.getMessage()) for record in caplog.records]
    assert first["request_id"] == "mine-1"
    assert (first["status"], first["pictures"], first["bytes"], first["model"]) == (200, 1, len(png), "3")
    assert len(second["request_id"]) == 32  # what the client sent may not stand in a log
    assert third["status"] == 415
    assert "not an image" in third["error"]


def test_unknown_paths_are_counted_together(ask):
    requests = [{"method": "GET", "url": f"/v1/{n}"} for n in range(3)] + [{"method": "GET", "url": "/metrics"}]
    text = ask(nothing, *requests)[-1].text
    assert 'maskray_requests_total{route="other",status="404"} 3.0' in text


def test_description_is_openapi_whose_examples_are_taken(ask):
    (answer,) = ask(nothing, {"method": "GET", "url": "/openapi.json"})
    tree = answer.json()
    post = tree["paths"]["/v1/predict"]["post"]
    assert tree["openapi"].startswith("3.")
    body = post["requestBody"]["content"]
    assert set(body) == {"image/*", "application/octet-stream", "multipart/form-data", "application/json"}
    assert {p["name"] for p in post["parameters"] if p["in"] == "query"} == set(Options.model_fields) - {"tta"}
    assert {p["name"] for p in post["parameters"] if p["in"] == "header"} == {"X-Request-Deadline", "X-Request-ID"}
    assert all(p["description"] and p["schema"] for p in post["parameters"])
    assert {"200", "401", "413", "415", "422", "500", "503", "504"} <= set(post["responses"])
    examples = [example["value"] for example in body["application/json"]["examples"].values()]
    assert examples == [ONE, SEVERAL]
    one, several = ask(nothing, *({"json": example} for example in examples))
    assert (one.status_code, several.status_code) == (200, 200)
    assert "HTTPValidationError" not in answer.text  # an error is {"error": line}, and nothing else
    shown = post["responses"]["200"]["content"]["application/json"]["examples"]
    assert set(one.json()) == set(shown["one image"]["value"])
    assert set(several.json()) == set(shown["several images"]["value"])


def test_time_to_come_back_follows_the_queue(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(auth.time, "monotonic", lambda: now[0])
    places = Places(8, ServerMetrics())
    assert places.retry_seconds == 1
    told = []
    for seconds in [8.0] * 30 + [200.0] * 30 + [0.1] * 30:
        with places.take(1):
            now[0] += seconds
        told.append(places.retry_seconds)
    assert (told[0], told[29], told[59], told[89]) == (2, 8, 60, 1)
