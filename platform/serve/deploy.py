"""Putting a model folder behind HTTP with Ray Serve, and taking it away again."""

from __future__ import annotations

import logging
import math
import signal
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

import ray
from ray import serve
from ray.serve import Application
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.schema import LoggingConfig

from maskray.platform.config import ServeConfig
from maskray.platform.ray_cluster import connect
from maskray.platform.registry.folder import read_model_folder
from maskray.platform.serve.app import most_waiting
from maskray.platform.serve.replica import Replica
from maskray.platform.serve.samples import locate_samples

APPLICATION = "maskray"
REQUEST_SECONDS = 120.0
OTHER_REQUESTS = 32  # pages, health checks and refusals that a replica takes besides the predictions it holds
START_RETRIES = 2
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # a client on this machine finds a server there


@dataclass(frozen=True)
class Server:
    """A deployed model that answers at `url`."""

    url: str

    def stop(self) -> None:
        """Take the server away; requests in work are finished first."""
        shutdown()


def deploy(model_folder: str, config: ServeConfig, name: str | None = None, version: str = "") -> Server:
    """Start Ray Serve on the cluster that this process has joined and return when the model answers.

    `name` (else that of the folder) and `version` are what answers call the model. Port 0 takes a free one. The folder
    must be at the same path on every node. Raises ValueError for a bad folder, a port in use, a cluster without room
    for the replicas, Serve already running, or a replica that does not start; nothing is left running then.
    """
    folder = Path(model_folder).absolute()
    read_model_folder(folder)
    config = locate_samples(config)
    _check_room(config)
    if serve.status().proxies:
        raise ValueError("Ray Serve runs on this cluster already; end it first (serve shutdown)")
    port = _choose_port(config)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    http = HTTPOptions(host=config.host, port=port, request_timeout_s=REQUEST_SECONDS)
    try:
        serve.start(proxy_location=ProxyLocation.HeadOnly, http_options=http, logging_config=quiet)
        application = build_application(folder, config, name or folder.name.removesuffix(".safetensors"), version)
        serve.run(application, name=APPLICATION, route_prefix="/", logging_config=quiet)
    except RuntimeError as error:
        reason = _failure() or str(error)
        serve.shutdown()
        raise ValueError(f"{folder}: the server does not start: {reason}") from error
    except BaseException:
        serve.shutdown()
        raise
    return Server(f"http://{ANYWHERE.get(config.host, config.host)}:{port}")


def serve_forever(
    model_folder: str, config: ServeConfig, name: str | None = None, version: str = "", address: str | None = None
) -> None:
    """Deploy a model, say where it answers, and stay until interrupted or terminated; then take it away."""
    cpus = math.ceil(config.num_replicas * config.cpus_per_replica)
    connect(address, cpus)
    ended = threading.Event()
    server = deploy(model_folder, config, name, version)
    before = signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    try:
        print(f"{server.url} answers; the page is there, pictures go to {server.url}/v1/predict", flush=True)
        ended.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
        server.stop()


def shutdown() -> None:
    """Take away everything that Ray Serve runs on the cluster; nothing if there is nothing."""
    serve.shutdown()


def build_application(folder: Path, config: ServeConfig, name: str, version: str) -> Application:
    """The replicas of a model as Ray Serve wants to have them described; starts nothing."""
    return (
        serve.deployment(Replica)
        .options(
            num_replicas=config.num_replicas,
            ray_actor_options={"num_cpus": config.cpus_per_replica, "num_gpus": config.gpus_per_replica},
            max_ongoing_requests=most_waiting(config) + OTHER_REQUESTS,
            max_queued_requests=most_waiting(config) + OTHER_REQUESTS,
            max_constructor_retry_count=START_RETRIES,
        )
        .bind(str(folder), config, name, version)
    )


def _check_room(config: ServeConfig) -> None:
    """Serve would wait for ever, and say nothing, for replicas that fit nowhere."""
    free = ray.available_resources()
    for kind, each in (("CPU", config.cpus_per_replica), ("GPU", config.gpus_per_replica)):
        needed = config.num_replicas * each
        if needed > free.get(kind, 0.0):
            raise ValueError(
                f"serve: {config.num_replicas} replicas want {needed:g} {kind}s, the cluster has "
                f"{free.get(kind, 0.0):g} free; lower serve.num_replicas or serve.{kind.lower()}s_per_replica"
            )


def _choose_port(config: ServeConfig) -> int:
    """The port to bind, checked where this process is on the machine that will bind it."""
    if not _is_on_head():
        if config.port == 0:
            raise ValueError("serve.port: choose one, a free one is only found on the head node itself")
        return config.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"serve.host, serve.port: cannot bind {config.host}:{config.port}: {reason}") from None


def _is_on_head() -> bool:
    here = ray.get_runtime_context().get_node_id()
    return any(node["NodeID"] == here and "node:__internal_head__" in node["Resources"] for node in ray.nodes())


def _failure() -> str:
    """The last line of what a replica that did not start has said."""
    application = serve.status().applications.get(APPLICATION)
    for deployment in application.deployments.values() if application else ():
        lines = [line.strip() for line in deployment.message.splitlines() if line.strip()]
        errors = [line for line in lines if "Error" in line]
        if lines:
            return errors[-1] if errors else lines[-1]
    return ""
