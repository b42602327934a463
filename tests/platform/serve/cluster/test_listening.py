"""The port of a server: taken over from a killed process that left connections there, and watched."""

import socket
import subprocess
import sys
import threading

import pytest
from server_process import connections, wait_for_answer

from maskray.platform.serve.cluster import listening
from maskray.platform.serve.cluster.listening import ServerGoneError, watch_port

pytestmark = pytest.mark.slow
PROGRAM = """
import asyncio, sys
from ray.serve._private import replica
from ray.serve.config import HTTPOptions
from maskray.platform.serve.cluster.listening import take_over_port

async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"here"})

async def listen():
    options = HTTPOptions(host="127.0.0.1", port=port if sys.argv[2] == "as Serve does" else 9)
    loop = asyncio.get_running_loop()
    task, _ = await replica.start_asgi_http_server(answer, options, event_loop=loop, enable_so_reuseport=False)
    await task

port = int(sys.argv[1])
if sys.argv[2] == "takes over":
    take_over_port(port)
asyncio.run(listen())
"""


def nothing():
    """What of the cluster has ended."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("way", ["takes over", "as Serve does"])
def test_port_is_bound_while_connections_of_a_killed_process_are_left(way):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-c", PROGRAM, str(port), way]
    with subprocess.Popen(command) as first:
        assert wait_for_answer(url, lambda: first.poll() is None, 600)
        with connections(url, 2):
            first.kill()
            first.wait()
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as second:
                back = wait_for_answer(url, lambda: second.poll() is None, 600)
                second.kill()
                assert back == (way == "takes over"), second.stderr.read()


def test_port_of_another_listener_is_not_shared():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        command = [sys.executable, "-c", PROGRAM, str(other.getsockname()[1]), "takes over"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode != 0
    assert "Address already in use" in done.stderr


def test_watchdog_gives_up_where_nobody_comes_back(monkeypatch):
    """In its time also where Serve is at work on it, which had two minutes; Serve is not asked."""
    monkeypatch.setattr(listening, "EVERY_SECONDS", 0.25)
    waited, looks = [], []

    class Clock(threading.Event):
        def wait(self, timeout=None):
            waited.append(timeout)
            return False

    monkeypatch.setattr(listening.time, "monotonic", lambda: sum(waited))
    monkeypatch.setattr(listening, "_listens", lambda url: looks.append(url) or len(looks) <= 3)
    with pytest.raises(ServerGoneError, match=r"nobody has listened at http://127\.0\.0\.1:9 for 20 s"):
        watch_port("http://127.0.0.1:9", Clock(), 20.0, lambda: pytest.fail("nobody asks"), nothing)
    assert sum(waited) - 3 * 0.25 == 20.0, "from the last look that found somebody"


def test_watchdog_waits_for_a_gateway_that_comes_back_in_time(monkeypatch):
    monkeypatch.setattr(listening, "EVERY_SECONDS", 0.01)
    ended, looks = threading.Event(), []

    def look(url):
        looks.append(url)
        if len(looks) == 40:
            ended.set()
        return len(looks) % 10 == 0

    monkeypatch.setattr(listening, "_listens", look)
    watch_port("http://127.0.0.1:9", ended, 600.0, lambda: True, nothing)
    assert len(looks) == 40


def test_watchdog_is_content_while_somebody_listens(monkeypatch):
    monkeypatch.setattr(listening, "EVERY_SECONDS", 0.01)
    ended = threading.Event()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)  # nobody takes the connections
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        looks, asked = [], []
        listens = listening._listens

        def look(url):
            looks.append(listens(url))
            if len(looks) == 20:
                ended.set()
            return looks[-1]

        monkeypatch.setattr(listening, "_listens", look)
        watch_port(url, ended, 0.0, lambda: not asked.append(ended.is_set()), nothing)
    assert looks == [True] * 20
    assert asked == [True], "Serve is asked at the end alone"


@pytest.mark.parametrize("is_ended", [False, True])
def test_watchdog_gives_up_where_a_part_of_the_cluster_has_ended(is_ended):
    """Gateway and replica may go on without their raylet, and nobody would start another one."""
    ended = threading.Event()
    if is_ended:
        ended.set()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ServerGoneError, match="cluster"):
            watch_port(url, ended, 20.0, lambda: True, lambda: "raylet")


def test_server_that_has_gone_is_not_asked_to_finish(monkeypatch):
    """Ray ends this process where its own ends, by the signal that people send."""
    monkeypatch.setattr(listening, "ANSWER_SECONDS", 0.1)
    ended = threading.Event()
    ended.set()
    for answer in (lambda: False, lambda: bool(threading.Event().wait(600))):
        with pytest.raises(ServerGoneError, match="has gone with its cluster"):
            watch_port("http://127.0.0.1:9", ended, 20.0, answer, nothing)
