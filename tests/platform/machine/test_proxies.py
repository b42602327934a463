"""Requests to this machine go to no proxy."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest

from maskray.platform.machine.proxies import reach_loopback_directly


@pytest.mark.parametrize("given", [{}, {"no_proxy": "a.org"}, {"NO_PROXY": "a.org, b.org"}, {"no_proxy": "*"}])
def test_only_this_machine_is_added(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, Any] = {"HTTP_PROXY": "http://127.0.0.1:9", **given}
    reach_loopback_directly(environment)
    assert environment["no_proxy"] == environment["NO_PROXY"]
    assert environment["grpc_proxy"] == ""
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert urllib.request.proxy_bypass("127.0.0.1")
    assert urllib.request.proxy_bypass("localhost")
    assert bool(urllib.request.proxy_bypass("a.org")) == ("a.org" in str(given) or "*" in str(given))
    assert bool(urllib.request.proxy_bypass("c.org")) == ("*" in str(given))


def test_an_environment_without_a_proxy_stays_as_it_is() -> None:
    environment = {"no_proxy": "a.org"}
    reach_loopback_directly(environment)
    assert environment == {"no_proxy": "a.org"}
