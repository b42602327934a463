"""One connection of a client: how long it may be silent, how many one client has, and what a half-closed one gets.

uvicorn waits for ever for headers, and for a body after it has answered, and drops the request of a client that closes
its sending half, as some do when they have sent all. What a body may take while it is read is in request_checks.py.
"""

from __future__ import annotations

import asyncio
import json
import os
from functools import cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from maskray.platform.job.serve_config import ServeConfig

HEADER_SECONDS = 10.0  # for all headers, from the first byte or the connection on
MOST_HEADER_BYTES = 65_536
LINGER_SECONDS = 10.0  # for the rest of a body after the answer, so that the client gets to read that
MOST_CONNECTIONS = 900  # of all clients; fewer than the requests that Serve lets the gateway hold
MOST_OF_CLIENT = "MASKRAY_MAX_CONNECTIONS_PER_CLIENT"
REFUSED_SECONDS = 1.0  # in which a refused client may read why
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
PROBE_SECONDS = 0.25  # until the second look at a half-closed connection; twice as long until each later one


class Connection(HttpToolsProtocol):
    """uvicorn's, with an end to waiting."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._waiting: asyncio.TimerHandle | None = None  # for headers, or for the rest of an answered body
        self._header_bytes = 0
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it with 429 or 503."""
        super().connection_made(transport)
        host = self.client[0] if self.client else None
        others = [other for other in self.connections if isinstance(other, Connection)]
        if host is not None and sum(other.client is not None and other.client[0] == host for other in others) > (
            most := most_of_client()
        ):
            self._refuse(429, f"more than {most} connections of one client")
        elif len(others) > MOST_CONNECTIONS:
            self._refuse(503, "the server has too many connections, try again in a moment")
        else:
            self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; refused are headers without an end."""
        if self._is_refused or self.transport.is_closing():
            return
        super().data_received(data)
        if self.parser is None or self.transport.is_closing():
            return
        if self.cycle is None or (self.cycle.response_complete and not self.cycle.more_body):
            self._header_bytes += len(data)
            if self._header_bytes > MOST_HEADER_BYTES:
                self._refuse(431, f"the headers have more than {MOST_HEADER_BYTES} bytes")
            elif self._waiting is None:
                self._wait_for_headers()

    def on_headers_complete(self) -> None:
        """Let the request be answered."""
        self._stop_waiting()
        self._header_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is there; what came after the answer is thrown away, and the connection goes on."""
        if self.cycle is not None and self.cycle.response_complete:
            self.cycle.more_body = False
            self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, or a while for the rest of this one."""
        super().on_response_complete()
        if self.cycle is not None and self.cycle.more_body and not self.transport.is_closing():
            self._stop_waiting()
            self._waiting = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client sends no more: it gets the answer to what it sent whole, if it is still there."""
        cycle = self.cycle
        if cycle is None or cycle.more_body or cycle.response_complete:
            return None
        cycle.keep_alive = False
        self._probe(PROBE_SECONDS)
        return True

    def _probe(self, seconds: float) -> None:
        """Find out whether a client has closed its sending half or all, which looks the same until it is written to.

        An interim answer, which clients skip, makes the kernel of one that is gone say so, and its request is ended.
        """
        cycle = self.cycle
        is_old = cycle is None or cycle.scope["http_version"] != "1.1" or bool(self.pipeline)
        if is_old or cycle.response_started or cycle.disconnected or self.transport.is_closing():
            return
        self.transport.write(CONTINUE)
        self.loop.call_later(seconds, self._probe, 2 * seconds)

    def _wait_for_headers(self) -> None:
        message = f"the headers did not arrive within {HEADER_SECONDS:g} s"
        self._waiting = self.loop.call_later(HEADER_SECONDS, self._refuse, 408, message)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _refuse(self, status: int, message: str) -> None:
        """Answer before there is a request, and close."""
        self._stop_waiting()
        body = json.dumps({"error": message}).encode("ascii")
        retry = b"retry-after: 1\r\n" if status in (429, 503) else b""
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + retry + b"\r\n" + body)
        self._is_refused = True
        if self.transport.can_write_eof():  # closed at once, what it still sends would cost the client the answer
            self.transport.write_eof()
            self.loop.call_later(REFUSED_SECONDS, self.transport.close)
        else:
            self.transport.close()


@cache
def most_of_client() -> int:
    """Connections that one client may hold, by the environment that the server was started in."""
    return int(os.environ.get(MOST_OF_CLIENT) or ServeConfig().max_connections_per_client)
