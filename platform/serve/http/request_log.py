"""One JSON line for each request, with its id, and the count of it: an ASGI layer around everything else."""

from __future__ import annotations

import asyncio
import json
import logging
import logging.handlers
import re
import sys
import time
import uuid
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maskray.platform.serve.http.metrics import ServerMetrics

ID_HEADER = "X-Request-ID"
SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
LONGEST_PATH = 200
CLOSED_BY_CLIENT = 499  # what logs commonly say where the client went away before the answer

logger = logging.getLogger("maskray.requests")


class RequestLog:
    """Logs and counts every request; handlers add to what is logged through note()."""

    def __init__(self, app: ASGIApp, server_metrics: ServerMetrics, routes: Collection[str]) -> None:
        """`routes` are the paths that are counted by name; anything else is "other", or a client could fill memory."""
        self._app = app
        self._meters = server_metrics
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, and log it when it is answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = read_id(Headers(scope=scope))
        notes: dict[str, Any] = {}
        scope["maskray.notes"] = notes
        scope["maskray.id"] = request_id
        status: int | None = None
        silent = 500  # without a status: Starlette answers what we failed on outside of this layer

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
            silent = CLOSED_BY_CLIENT
        except asyncio.CancelledError:
            silent = CLOSED_BY_CLIENT
            raise
        finally:
            status = status or silent
            seconds = time.perf_counter() - began
            route = scope["path"] if scope["path"] in self._routes else "other"
            self._meters.requests.record(route=route, status=str(status))
            self._meters.request_seconds.record(seconds, route=route)
            line = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "request_id": request_id,
                "method": scope["method"],
                "path": scope["path"][:LONGEST_PATH],
                "status": status,
                "seconds": round(seconds, 4),
                "client": scope["client"][0] if scope.get("client") else None,
                **notes,
            }
            logger.info(json.dumps(line))


def read_id(headers: Headers) -> str:
    """The id that the client gave its request, if it is one that may stand in a log, else a new one.

    Ray Serve's proxy puts an id into the headers of a request that has none, and sends it back with the answer.
    """
    given = headers.get(ID_HEADER, "")
    return given if SANE_ID.fullmatch(given) else uuid.uuid4().hex


def note(scope: Scope, **values: Any) -> None:
    """Add to the log line of the request that a scope belongs to."""
    scope.get("maskray.notes", {}).update(values)


def open_log(path: str | None) -> None:
    """Send the lines to stderr, which Ray keeps in the log files of the process, and to a file if one is named.

    The file is opened anew when it was moved away, as logrotate does.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if path is not None:
        handlers.append(logging.handlers.WatchedFileHandler(path, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers[:] = handlers
    logger.setLevel(logging.INFO)
    logger.propagate = False
