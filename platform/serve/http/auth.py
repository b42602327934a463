"""Who may ask, and how many at a time: API keys before every route that is not open, and places in a bounded queue."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from maskray.platform.serve.http.api_keys import KeyRing
from maskray.platform.serve.http.metrics import ServerMetrics
from maskray.platform.serve.http.request_checks import RequestError
from maskray.platform.serve.http.request_log import note
from maskray.platform.serve.web.page import PAGE_FILES

# The page and what it shows without a prediction are the same for everybody; probes and load balancers have no key.
OPEN_PATHS = frozenset({"/healthz", "/openapi.json", *PAGE_FILES})
RECENT_SHARE = 0.2  # of the last request in the mean of what requests of late took
LONGEST_RETRY = 60
BUSY = "the server is busy, try again in a moment"
OPEN_BELOW = "/v1/samples"


class KeyCheck:
    """Answers 401 to requests without a valid key, before anything of them is read; the open paths need none."""

    def __init__(self, app: ASGIApp, ring: KeyRing) -> None:
        self._app = app
        self._ring = ring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http" or _is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        key = _read_key(Headers(scope=scope))
        client = scope.get("client") or ("",)
        name = await self._ring.find(key, client[0]) if key else None
        if name is None:
            message = "this API key is not known here" if key else "an API key is needed: Authorization: Bearer KEY"
            refusal = JSONResponse({"error": message}, 401, {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
            return
        note(scope, key=name)
        await self._app(scope, receive, send)


class Places:
    """A bounded number of images that are in work or waiting, and whether more are let in at all.

    Bodies that still arrive take none, so that slow ones keep nobody out; their bytes are bounded.
    """

    def __init__(self, most: int, server_metrics: ServerMetrics) -> None:
        self._most = most
        self._meters = server_metrics
        self._arriving_bytes = 0
        self._held_seconds = 0.0
        self.taken = 0
        self.draining = False

    @property
    def is_full(self) -> bool:
        """Whether an image that comes now would be refused."""
        return self.taken >= self._most

    @property
    def retry_seconds(self) -> int:
        """When one that is refused shall come back: after as long as those of late held their places."""
        return min(LONGEST_RETRY, max(1, math.ceil(self._held_seconds)))

    def check(self, number: int = 1) -> None:
        """RequestError 503 where so many images would be refused now, which can be known before a body is read."""
        if self.draining:
            raise RequestError(503, "the server is ending, try again in a moment")
        if self.taken + number > self._most:
            raise RequestError(503, BUSY)

    @contextmanager
    def arrive(self, max_bytes: int) -> Iterator[Callable[[int], None]]:
        """Count the bytes of a body while it arrives: RequestError 503 where all that arrive have more than the images
        of half the places, of max_bytes each."""
        held = 0

        def count(number: int) -> None:
            nonlocal held
            held += number
            self._arriving_bytes += number
            if self._arriving_bytes > max(2, self._most // 2) * max_bytes:
                raise RequestError(503, BUSY)

        try:
            yield count
        finally:
            self._arriving_bytes -= held

    @contextmanager
    def take(self, number: int) -> Iterator[None]:
        """Hold places; RequestError 503 where they are not free, or the server is about to end."""
        self.check(number)
        self._count(number)
        began = time.monotonic()
        try:
            yield
        finally:
            self._count(-number)
            self._held_seconds += RECENT_SHARE * (time.monotonic() - began - self._held_seconds)

    def _count(self, number: int) -> None:
        self.taken += number
        self._meters.waiting.record(self.taken)


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path == OPEN_BELOW or path.startswith(f"{OPEN_BELOW}/")


def _read_key(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
