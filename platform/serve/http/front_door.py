"""What a request meets first, before the layers that Ray Serve puts around the application.

Ray decodes headers outside of the application, where a wrong one ends in a 500 without a line in any log, and obeys
some of them. It calls layers() in each process that listens, for the environment variable in ray_environment.py.
"""

from __future__ import annotations

import uvicorn.config
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from maskray.platform.serve.http.connection import Connection
from maskray.platform.serve.http.request_log import ID_HEADER, SANE_ID

ID_NAME = ID_HEADER.lower().encode("ascii")
# Headers by which a client could tell Ray Serve how long to wait, not to notice that it is gone, and where to go.
RAY_HEADERS = (b"x-request-timeout-seconds", b"x-request-disconnect-disabled", b"x-session-id")
RAY_PREFIX = b"serve_"


class HeaderCheck:
    """Takes out of a request what is for Ray alone, and an id that may not stand in a log: Ray makes another."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through with the headers that are left."""
        if "headers" in scope:
            scope["headers"] = [(name, value) for name, value in scope["headers"] if _may_pass(name, value)]
        await self._app(scope, receive, send)


def layers() -> list[Middleware]:
    """The layers that Ray Serve shall put outside of its own.

    Ray builds uvicorn's configuration right after this and says nothing of the protocol in it, so that the table in
    which uvicorn looks up its default is the one place to name ours.
    """
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{Connection.__module__}:{Connection.__name__}"
    return [Middleware(HeaderCheck)]


def _may_pass(name: bytes, value: bytes) -> bool:
    if name == ID_NAME:
        return SANE_ID.fullmatch(value.decode("latin-1")) is not None
    return name not in RAY_HEADERS and not name.replace(b"-", b"_").startswith(RAY_PREFIX)
