"""Which requests go to a proxy: none to this machine itself and none of Ray's, whatever the environment says."""

from __future__ import annotations

from collections.abc import MutableMapping

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_EXCEPTIONS = ("no_proxy", "NO_PROXY")


def reach_loopback_directly(environment: MutableMapping[str, str]) -> None:
    """Add the addresses of this machine to the exceptions of an environment that names a proxy, and change no other.

    Servers that a run starts for itself listen there, where a proxy finds something else or nothing. gRPC, which the
    parts of Ray Serve talk by at the addresses of their nodes, takes no proxy at all unless grpc_proxy names one.
    Processes that are started afterwards inherit it.
    """
    if not any(environment.get(name) or environment.get(name.upper()) for name in _PROXIES):
        return
    told = ",".join(environment.get(name, "") for name in _EXCEPTIONS).split(",")
    hosts = list(dict.fromkeys(host.strip() for host in [*told, *LOOPBACK] if host.strip()))
    environment.setdefault("grpc_proxy", "")  # which is none, where none set would be http_proxy
    for name in _EXCEPTIONS:
        environment[name] = "*" if "*" in hosts else ",".join(hosts)
