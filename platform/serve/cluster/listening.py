"""The port of the server: a gateway takes it over from a killed one, and a watchdog sees where nobody listens at it."""

from __future__ import annotations

import asyncio
import errno
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

BIND_SECONDS = 10.0  # in which a gateway before this one, that is ending, has to leave the port
EVERY_SECONDS = 1.0
PROBE_SECONDS = 5.0
ANSWER_SECONDS = 20.0


def take_over_port(port: int) -> None:
    """Let Serve's HTTP server of this process listen at a port, although connections of the gateway before it are left.

    Where a process is killed, its connections stay with the kernel for a minute or until their clients close them,
    and Serve binds its port without SO_REUSEADDR: it fails, and Serve then never tries that port again. Nor does it
    where a gateway is killed before Serve has noted its start. So the numbers that it gives out, a new one each time,
    are not heeded. A port at which somebody listens is still refused, after BIND_SECONDS.
    """
    from ray.serve._private import http_util, replica

    start = http_util.start_asgi_http_server

    async def start_again(app: Any, http_options: Any, **options: Any) -> Any:
        at_port = http_options.model_copy(update={"port": port})
        until = time.monotonic() + BIND_SECONDS
        while True:
            try:
                return await start(app, at_port, **options | {"enable_so_reuseport": True})
            except RuntimeError as error:
                in_use = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
                if not in_use or time.monotonic() > until:
                    raise
            await asyncio.sleep(0.2)

    http_util.set_socket_reuse_port = _reuse_address  # SO_REUSEPORT would let strangers share the port
    replica.start_asgi_http_server = start_again


def _reuse_address(listener: socket.socket) -> bool:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return True


class ServerGoneError(Exception):
    """Nobody listens at the port of a server any more, and nobody is going to."""


def watch_port(
    url: str,
    ended: threading.Event,
    seconds: float,
    is_mended: Callable[[], bool],
    lost_part: Callable[[], str | None],
) -> None:
    """Return when `ended` is set; ServerGoneError where nobody has listened at the port of a URL for so many seconds.

    It is the same whether another gateway is on its way: who waits is told either way. `is_mended` is asked at the end
    whether Serve is there; where it does not answer in 20 s it is not, and nobody waits for it. `lost_part` names what
    of the cluster has ended without which it mends nothing, also while a gateway listens still.
    """
    away_since: float | None = None
    patience = max(0.0, seconds - EVERY_SECONDS)  # nobody may have been there since the look before the first in vain
    while not ended.wait(EVERY_SECONDS):
        if lost := lost_part():
            raise ServerGoneError(f"the {lost} of the cluster has ended; the server at {url} is given up")
        if _listens(url):
            away_since = None
            continue
        away_since = away_since or time.monotonic()
        if time.monotonic() - away_since >= patience:
            raise ServerGoneError(f"nobody has listened at {url} for {seconds:g} s; the server is given up")
    if lost_part() or not _ask(is_mended):  # where its raylet dies, Ray may ask this process to end
        raise ServerGoneError(f"the server at {url} has gone with its cluster")


def _ask(question: Callable[[], bool]) -> bool:
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(question()), daemon=True).start()
    try:
        return answers.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        return False


def _listens(url: str) -> bool:
    place = urlsplit(url)
    try:
        socket.create_connection((place.hostname, place.port), timeout=PROBE_SECONDS).close()
    except ConnectionRefusedError:
        return False
    except OSError:  # such as a time limit: a listener that is slow, or a machine without ports to spare
        return True
    return True
