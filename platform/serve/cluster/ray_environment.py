"""A short way from the client to the model: settings of Ray Serve that its processes read when they start.

They are set where this program starts the cluster; cluster/ and docs/serving.md say them for clusters of others.
"""

from __future__ import annotations

import os
import socket

from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.http.connection import MOST_OF_CLIENT

# Fewer threads and no object store between proxy, gateway and replica: a good third off what they add to a request.
QUICK_HOPS = {
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    # And less at rest: the defaults, 0.1 s each, cost small machines several per cent of a core.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "1000",
}
# Called in each process that listens: what requests meet before Ray's own layers.
FRONT_DOOR = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "maskray.platform.serve.http.front_door:layers"}
ENABLED = "RAY_SERVE_ENABLE_DIRECT_INGRESS"
PORTS = ("RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT", "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT")  # the second excluded
# Nobody spreads the requests over several gateways, so one that ends need not be waited for; the next takes its port.
OWN_PORT = {
    ENABLED: "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
    "RAY_SERVE_PORT_QUARANTINE_S": "0",
}


def shorten(config: ServeConfig) -> ServeConfig:
    """Set all this for a cluster of one machine that this process starts next; the configuration with its port chosen.

    The gateway listens at the port itself: Ray's proxy, a process between client and gateway, is left out. Raises
    ValueError for a host or port that cannot be bound.
    """
    port = find_port(config.host, config.port)
    for name, value in (QUICK_HOPS | OWN_PORT | FRONT_DOOR).items():
        os.environ.setdefault(name, value)
    os.environ |= {PORTS[0]: str(port), PORTS[1]: str(port + 1)}
    os.environ[MOST_OF_CLIENT] = str(config.max_connections_per_client)
    return config.model_copy(update={"port": port})


def port_of_proxy(config: ServeConfig) -> int:
    """Where Ray's proxy listens: at the port of the configuration, or elsewhere where the gateway is there itself."""
    if os.environ.get(ENABLED) == "1" and os.environ.get(PORTS[0]) == str(config.port):
        return find_port(config.host, 0)
    return config.port


def find_port(host: str, port: int) -> int:
    """The port, or a free one for 0, checked by binding it on this machine; ValueError where that fails."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"serve.host, serve.port: cannot bind {host}:{port}: {reason}") from None
