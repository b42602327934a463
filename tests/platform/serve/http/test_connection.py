"""Slow, silent, many and half-closed clients, on real sockets of uvicorn without Ray."""

import asyncio
import contextlib
import json
import socket
import threading
import time

import pytest
import uvicorn
from ray.serve._private.direct_ingress_http_util import ASGIDIReceiveProxy

from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.http import connection, request_checks
from maskray.platform.serve.http.app import build_app
from maskray.platform.serve.http.auth import Places
from maskray.platform.serve.http.metrics import ServerMetrics
from maskray.platform.serve.http.responses import ModelName, Prediction

PLACES = 4
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Backend:
    """Answers when it is told to."""

    def __init__(self):
        self.go, self.begun, self.cancelled = threading.Event(), threading.Event(), threading.Event()
        self.go.set()

    async def predict(self, data, size, options, seconds_left):
        self.begun.set()
        try:
            while not self.go.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Prediction(ModelName("shapes", "3"), *size, [], {"predict": 0.1}, 1)


def ended_with_its_client(app):
    """As Ray Serve runs an application: it waits for the client to go away, and ends the request then."""

    async def run(scope, receive, send):
        proxy = ASGIDIReceiveProxy(scope, receive, asyncio.get_running_loop())
        gone = proxy.fetch_until_disconnect_task()
        answer = asyncio.create_task(app(scope, proxy, send))
        await asyncio.wait([gone, answer], return_when=asyncio.FIRST_COMPLETED)
        with contextlib.suppress(asyncio.CancelledError):
            answer.done() or answer.cancel()
            await answer
        gone.cancel()

    return run


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request):
    return request.param


@pytest.fixture
def server(loop):
    connection.most_of_client.cache_clear()
    backend, metrics = Backend(), ServerMetrics()
    app = build_app(ServeConfig(max_waiting=PLACES), backend, metrics, Places(PLACES, metrics))
    kind = f"{connection.__name__}:Connection"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = uvicorn.Server(
            uvicorn.Config(ended_with_its_client(app), http=kind, loop=loop, lifespan="off", log_config=None)
        )
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        backend.port = listener.getsockname()[1]
        yield backend
        backend.go.set()
        running.should_exit = running.force_exit = True
        thread.join()
    connection.most_of_client.cache_clear()


@contextlib.contextmanager
def connected(server, text=b""):
    with socket.create_connection(("127.0.0.1", server.port), timeout=300) as client:
        client.sendall(text)
        yield client


def post(png, stated=None):
    head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    return f"{head}Content-Length: {stated or len(png)}".encode() + b"\r\n\r\n" + png


def read_answer(client):
    """(status, tree) of the next answer that is no interim one, and all bytes before its end."""
    text = b""
    while True:
        while b"\r\n\r\n" not in text:
            more = client.recv(1)
            assert more, f"closed after {text!r}"
            text += more
        head, text = text.split(b"\r\n\r\n", 1)
        if not head.startswith(b"HTTP/1.1 100"):
            break
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    body = b""
    while len(body) < length:
        body += client.recv(length - len(body))
    return int(head[9:12]), json.loads(body)


def is_closed(client):
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_slow_bodies_keep_no_place(server, png):
    """32 of them stopped prediction for a minute, while /healthz said that all was well."""
    with contextlib.ExitStack() as slow:
        for stated in [len(png)] * 10 * PLACES + [10**12] * PLACES:
            slow.enter_context(connected(server, post(png[:5], stated)))
        for text in (post(png), GET):
            with connected(server, text) as client:
                assert read_answer(client)[0] == 200


def test_health_tells_whether_an_image_is_taken(server, png):
    server.go.clear()
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(connected(server, post(png))) for _ in range(PLACES)]
        status, until = 200, time.monotonic() + 300
        while status == 200 and time.monotonic() < until:
            with connected(server, GET) as client:
                status, tree = read_answer(client)
        assert (status, tree) == (503, {"status": "busy"})
        with connected(server, post(png[:5], 10**6)) as client:
            assert read_answer(client)[0] == 503, "before its body is read"
        server.go.set()
        assert [read_answer(client)[0] for client in waiting] == [200] * PLACES
    with connected(server, GET) as client:
        assert read_answer(client) == (200, {"status": "ok"})


@pytest.mark.parametrize(("text", "more"), [(b"", b""), (GET[:40], b""), (GET, b"\r\n"), (GET, GET[:9])])
def test_headers_have_a_deadline(server, monkeypatch, text, more):
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.2)
    with connected(server, text) as client:
        if more:
            assert read_answer(client)[0] == 200
            client.sendall(more)
        status, tree = read_answer(client)
        assert (status, tree) == (408, {"error": "the headers did not arrive within 0.2 s"})
        assert is_closed(client)


def test_headers_have_an_end(server):
    with connected(server, GET[:-2]) as client:
        with contextlib.suppress(ConnectionError):
            for number in range(1000):
                client.sendall(b"a%d: %s\r\n" % (number, b"x" * 1000))
        assert read_answer(client)[0] == 431


def test_body_has_a_least_rate(server, png, monkeypatch):
    monkeypatch.setattr(request_checks, "RATE_SECONDS", 0.2)
    with connected(server, post(png[:100], 10**6)) as client:
        assert read_answer(client) == (408, {"error": "the request came slower than 50000 bytes a second"})


def test_rest_of_a_body_after_the_answer_has_a_deadline(server, monkeypatch):
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.2)
    with connected(server, b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n") as client:
        assert read_answer(client)[0] == 405
        assert is_closed(client)
    with connected(server, b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n") as client:
        assert read_answer(client)[0] == 405
        client.sendall(b"123456789" + GET)
        assert read_answer(client)[0] == 200, "what came whole in time costs the connection nothing"


def test_connections_of_one_client_are_bounded(server, monkeypatch):
    monkeypatch.setenv(connection.MOST_OF_CLIENT, "3")
    connection.most_of_client.cache_clear()
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connected(server, GET)) for _ in range(3)]
        assert [read_answer(client)[0] for client in held] == [200] * 3
        with connected(server, GET) as client:
            time.sleep(0.1)  # its request is there when the answer is read
            client.sendall(GET)
            assert read_answer(client) == (429, {"error": "more than 3 connections of one client"})
            assert is_closed(client)
        held[0].sendall(GET)
        assert read_answer(held[0])[0] == 200
    status, until = 429, time.monotonic() + 300
    while status == 429 and time.monotonic() < until:  # until the server has seen that they are closed
        with connected(server, GET) as client:
            status = read_answer(client)[0]
    assert status == 200


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_half_closed_client_gets_its_answer(server, png, version):
    server.go.clear()
    with connected(server, post(png).replace(b"HTTP/1.1", b"HTTP/" + version)) as client:
        client.shutdown(socket.SHUT_WR)
        assert server.begun.wait(300)
        time.sleep(0.3)  # so that it was probed
        server.go.set()
        assert read_answer(client)[0] == 200
        assert is_closed(client)


def test_half_closed_client_gets_all_answers(server):
    with connected(server, GET * 3) as client:
        client.shutdown(socket.SHUT_WR)
        assert [read_answer(client)[0] for _ in range(3)] == [200] * 3
        assert is_closed(client)


def test_request_of_a_client_that_is_gone_is_ended(server, png):
    server.go.clear()
    with connected(server, post(png)):
        assert server.begun.wait(300)
    assert server.cancelled.wait(30), "by the deadline, half a minute later, if not by this"


def test_request_that_is_cut_short_is_closed(server, png):
    with connected(server, post(png[:9], len(png))) as client:
        client.shutdown(socket.SHUT_WR)
        assert is_closed(client)
