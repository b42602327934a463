"""A short way from the client to the model: settings of Ray Serve that its processes read when they start.

They are set where this program starts the cluster; cluster/ and docs/serving.md say them for clusters of others.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile

from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.machine.ray_cluster import private_folder
from maskray.platform.serve.http.connection import MOST_OF_CLIENT
from maskray.platform.serve.model.direct_line import FOLDER

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
# What a process of Serve takes in one message; Ray's own limit is 4 MiB.
MESSAGE_BYTES = "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH"
MOST_MESSAGE_BYTES = 2**31 - 1  # gRPC counts so far
PIXEL_BYTES = 4  # a drawn image has three of a pixel where nothing can be packed; masks of many objects have less
OTHER_BYTES = 16 << 20  # of a message besides the image: options, boxes, scores, names
ENABLED = "RAY_SERVE_ENABLE_DIRECT_INGRESS"
PORTS = ("RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT", "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT")  # the second excluded
MOST_STARTS = 10_000  # of gateways; Serve gives each a number of these, and listening.py takes the first all the same
# Nobody spreads the requests over several gateways, so one that ends need not be waited for; the next takes its port.
OWN_PORT = {
    ENABLED: "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
    "RAY_SERVE_PORT_QUARANTINE_S": "0",
}


# Ray's memory monitor ends the processes of a cluster, all of these at once, where any program fills the memory of the
# machine, and asks the kernel to take them first when it has none left. They are not what fills it.
MEMORY = {"RAY_memory_monitor_refresh_ms": "0", "RAY_worker_oom_score_adjustment": "0"}
# Ray has its workers step back (nice 15) behind every other program; who serves is none to be kept waiting.
PRIORITY = {"RAY_worker_niceness": "0"}


def message_limit(config: ServeConfig) -> dict[str, str]:
    """The environment in which messages hold every image and every answer that the configuration allows.

    An image goes to a replica in one message, and comes back drawn in one.
    """
    largest = max(config.max_request_bytes, PIXEL_BYTES * config.max_image_pixels) + OTHER_BYTES
    return {MESSAGE_BYTES: str(min(largest, MOST_MESSAGE_BYTES))}


def shorten(config: ServeConfig) -> ServeConfig:
    """Set all this for a cluster of one machine that this process starts next; the configuration with its port chosen.

    The gateway listens at the port itself: Ray's proxy, a process between client and gateway, is left out. Raises
    ValueError for a host or port that cannot be bound.
    """
    port = find_port(config.host, config.port)
    for name, value in (QUICK_HOPS | OWN_PORT | FRONT_DOOR | MEMORY | PRIORITY).items():
        os.environ.setdefault(name, value)
    os.environ |= {PORTS[0]: str(port), PORTS[1]: str(port + MOST_STARTS)} | message_limit(config)
    lines = tempfile.mkdtemp(prefix="lines-", dir=private_folder())
    atexit.register(shutil.rmtree, lines, ignore_errors=True)
    os.environ[FOLDER] = lines
    os.environ[MOST_OF_CLIENT] = str(config.max_connections_per_client)
    return config.model_copy(update={"port": port})


def environment_of_replicas(config: ServeConfig) -> dict[str, str]:
    """What gateway and replicas need in their environment; nothing on the cluster that shorten() was called for.

    So an application has it on a cluster of others too. Ray's proxy reads its environment alone.
    """
    wanted = message_limit(config)
    return {} if listens_itself(config) and wanted.items() <= os.environ.items() else wanted


def port_of_proxy(config: ServeConfig) -> int:
    """Where Ray's proxy listens: at the port of the configuration, or elsewhere where the gateway is there itself."""
    return find_port(config.host, 0) if listens_itself(config) else config.port


def listens_itself(config: ServeConfig) -> bool:
    """Whether shorten() has chosen the port for a gateway that listens there itself, on the cluster of this process."""
    return os.environ.get(ENABLED) == "1" and os.environ.get(PORTS[0]) == str(config.port)


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
