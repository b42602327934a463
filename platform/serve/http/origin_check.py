"""Which web pages may ask: none of elsewhere, unless cors_origins names their origin.

A browser sends what any page tells it to. A page whose own name is made to point at this machine (DNS rebinding) is
told by Host; one that posts a form here, by Sec-Fetch-Site or Origin, which browsers add and pages cannot change.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.http.request_log import note

LOCAL_NAMES = frozenset({"localhost", "ip6-localhost", "ip6-loopback"})
ANY = "*"
OWN_SITES = ("same-origin", "none")  # of Sec-Fetch-Site; none: typed, or a bookmark


class OriginCheck:
    """Answers 403 to requests under a foreign name and to those of other origins' pages."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None, origins: Collection[str]) -> None:
        """`hosts` are names that are ours besides those of loopback, all where it is none; `origins` may ask."""
        self._app = app
        self._hosts = None if hosts is None else frozenset(hosts)
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        reason = self._refuse(scope["method"], Headers(scope=scope)) if scope["type"] == "http" else None
        if reason is None:
            await self._app(scope, receive, send)
            return
        note(scope, error=reason)
        await JSONResponse({"error": reason}, 403)(scope, receive, send)

    def _refuse(self, method: str, headers: Headers) -> str | None:
        """Why a request is refused; none where it is not."""
        given = headers.getlist("host")
        host = _authority(f"http://{given[0]}") if len(given) == 1 else None
        if self._hosts is not None and given and not (host and (host[0] in self._hosts or is_loopback(host[0]))):
            return f"this server is not {', '.join(given)[:200]}; serve.allowed_hosts names others than its own"
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if ANY in self._origins or origin in self._origins or site in OWN_SITES:
            return None
        if site is None and (origin is None or (host is not None and _authority(origin) == host)):
            return None
        if origin is None and method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate":
            return None  # a link to the page: whoever follows it sees the answer, and no other page does
        return f"pages of {(origin or 'other origins')[:200]} may not ask; serve.cors_origins names those that may"


def own_hosts(config: ServeConfig) -> Collection[str] | None:
    """Names besides those of loopback by which the server is asked; none where it listens to more than loopback."""
    return [name.lower() for name in config.allowed_hosts] if is_loopback(config.host) else None


def is_loopback(host: str) -> bool:
    """Whether a name or address, without brackets, is of this machine alone."""
    if host in LOCAL_NAMES or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _authority(url: str) -> tuple[str, int | None] | None:
    """(host in small letters, port) of a URL, whose scheme says the port where it has none; none if it is no URL.

    Port 443 and 80 count as none: behind a proxy with TLS the server does not know which of them it is.
    """
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.username is not None or parts.path.strip("/"):
            return None
        return parts.hostname, None if parts.port in (80, 443) else parts.port
    except ValueError:
        return None
