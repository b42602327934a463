"""HEAD and OPTIONS on every route: what GET would answer without its body, and which methods there are."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Methods:
    """Answers HEAD by GET and OPTIONS by the refusal of a route; 405 names all methods there are."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        is_described = False

        async def change(message: Message) -> None:
            nonlocal is_described
            if message["type"] == "http.response.start" and message["status"] == 405:
                headers = MutableHeaders(scope=message)
                headers["Allow"] = _all_methods(headers.get("Allow", ""))
                if method == "OPTIONS":
                    is_described = True
                    message = {**message, "status": 204}
                    del headers["content-length"], headers["content-type"]
                    message["headers"] = headers.raw
            elif message["type"] == "http.response.body" and (method == "HEAD" or is_described):
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"} if method == "HEAD" else scope, receive, change)


def _all_methods(allowed: str) -> str:
    names = {name.strip() for name in allowed.split(",") if name.strip()} | {"OPTIONS"}
    return ", ".join(sorted(names | ({"HEAD"} if "GET" in names else set())))
