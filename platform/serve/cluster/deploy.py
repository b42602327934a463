"""Putting a model behind HTTP with Ray Serve, and taking it away again."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.exceptions import RayServeException
from ray.serve.schema import LoggingConfig

from maskray.platform.files.model_folder import read_model_folder
from maskray.platform.inference.engine import engine_of, read_ranges_of
from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.machine.ray_cluster import connect, leave, lost_part, starts_cluster
from maskray.platform.serve.cluster.alias_watcher import AliasWatcher
from maskray.platform.serve.cluster.gateway import Gateway
from maskray.platform.serve.cluster.listening import ServerGoneError, watch_port
from maskray.platform.serve.cluster.model_source import Source, folder_source
from maskray.platform.serve.cluster.ray_environment import (
    environment_of_replicas,
    find_port,
    port_of_proxy,
    shorten,
)
from maskray.platform.serve.http.api_keys import read_keys
from maskray.platform.serve.http.samples import locate_samples
from maskray.platform.serve.model.replica import Replica

APPLICATION = "maskray"
GRACE_SECONDS = 30.0  # of Serve's own time limits over ours, so that ours answer with a reason
OTHER_REQUESTS = 8  # questions about the model that a replica takes besides the predictions it holds
GATEWAY_REQUESTS = 1000  # pages, refusals and predictions; it refuses itself, in words that tell more than Serve's
START_RETRIES = 2
HEALTH_SECONDS = 2.0  # between Serve's looks at each process: one that has ended is replaced so soon
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # a client on this machine finds a server there
# How Serve adds and removes replicas between num_replicas and max_replicas: soon up, slowly down.
SCALING_SECONDS = {"upscale_delay_s": 5.0, "downscale_delay_s": 120.0, "look_back_period_s": 10.0}


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Server:
    """A deployed model that answers at `url`."""

    url: str
    drain_seconds: float = 0.0

    def stop(self) -> None:
        """Take the server away: it refuses new images, and those accepted are finished first, in drain_seconds."""
        try:
            _drain(self.drain_seconds)
        finally:
            _end_serve()


def deploy(model_folder: str, config: ServeConfig, name: str | None = None, version: str = "") -> Server:
    """deploy_source for a folder; `name` (else that of the folder) and `version` are what answers call the model."""
    return deploy_source(folder_source(model_folder, name, version), config)


def deploy_source(source: Source, config: ServeConfig) -> Server:
    """Start Ray Serve on the cluster that this process has joined and return when the model answers.

    Port 0 takes a free one. The folder must be at the same path on every node. Raises ValueError for a bad folder or
    key file, a port in use, a cluster without room for the replicas, Serve already running, or a replica that does not
    start; nothing is left running then.
    """
    folder = Path(source.first.folder)
    config = locate_files(config)
    read_ranges_of(read_model_folder(folder)[0], folder, engine_of(config))
    _check_room(config)
    if serve.status().proxies:
        raise ValueError("Ray Serve runs on this cluster already; end it first (serve shutdown)")
    config = config.model_copy(update={"port": _choose_port(config)})
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    http = HTTPOptions(
        host=config.host, port=port_of_proxy(config), request_timeout_s=config.deadline_seconds + GRACE_SECONDS
    )
    try:
        serve.start(proxy_location=ProxyLocation.HeadOnly, http_options=http, logging_config=quiet)
        serve.run(build_application(source, config), name=APPLICATION, route_prefix="/", logging_config=quiet)
    except RuntimeError as error:
        reason = _failure() or str(error)
        _end_serve()
        raise ValueError(f"{folder}: the server does not start: {reason}") from error
    except BaseException:
        _end_serve()
        raise
    return Server(url_of(config.host, config.port), config.drain_seconds)


def serve_forever(source: Source, config: ServeConfig, address: str | None = None) -> None:
    """Deploy a model, say where it answers, and stay until interrupted or terminated.

    Then the server is drained and taken away, and the cluster left. ServerGoneError where nobody listens at its port
    any more, and Serve does not mend it; on a cluster of others that is for them to see.
    """
    own = starts_cluster(address)
    if own:
        config = shorten(config)
    connect(address, math.ceil(config.most_replicas * config.cpus_per_replica))
    ended = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda number, frame: ended.set())  # also before all is started
    try:
        server = deploy_source(source, config)
        _announce(server, source)
        try:
            if own:
                watch_port(server.url, ended, config.away_seconds, _is_mended, lost_part)
            ended.wait()
        except ServerGoneError:  # nothing is left that could be finished, and what is left ends with its cluster
            raise
        except BaseException:
            server.stop()
            raise
        server.stop()
    finally:
        leave()
        signal.signal(signal.SIGTERM, before)


def _end_serve() -> None:
    with contextlib.redirect_stdout(None):  # where Ray says, as of a failure, that Serve's controller has ended
        serve.shutdown()


def _announce(server: Server, source: Source) -> None:
    print(f"{server.url} answers; the page is there, images go to {server.url}/v1/predict", flush=True)
    if source.alias is not None:
        print(f"version {source.first.version} of {source.first.name}; follows the alias {source.alias}", flush=True)


def url_of(host: str, port: int) -> str:
    """Where a client on this machine finds a server that is bound to a host."""
    host = ANYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def build_application(source: Source, config: ServeConfig) -> Application:
    """Gateway, model and, for an alias, its follower as Ray Serve wants to have them described; starts nothing."""
    patience = {"graceful_shutdown_timeout_s": config.drain_seconds + 1.0, "graceful_shutdown_wait_loop_s": 0.2}
    variables = environment_of_replicas(config)
    environment = {"runtime_env": {"env_vars": variables}} if variables else {}
    light = {
        "ray_actor_options": {"num_cpus": 0, **environment},
        "max_ongoing_requests": GATEWAY_REQUESTS,
        "health_check_period_s": HEALTH_SECONDS,
        **patience,
    }
    alias_watcher = None
    if source.alias is not None:
        bound = serve.deployment(AliasWatcher).options(**light)
        alias_watcher = bound.bind(source.first.name, source.alias, source.tracking_uri, source.first, config)
    held = math.ceil(config.most_waiting / config.most_replicas)
    model = serve.deployment(Replica).options(
        **_replicas(config),
        **patience,
        ray_actor_options={
            "num_cpus": config.cpus_per_replica,
            "num_gpus": config.gpus_per_replica,
            **environment,
        },
        max_ongoing_requests=held + OTHER_REQUESTS,
        max_constructor_retry_count=START_RETRIES,
        health_check_period_s=HEALTH_SECONDS,
    )
    return (
        serve.deployment(Gateway)
        .options(**light)
        .bind(model.bind(source.first, config, alias_watcher), alias_watcher, config)
    )


def locate_files(config: ServeConfig) -> ServeConfig:
    """The configuration with absolute paths of the files it names; ValueError where one is not usable."""
    config = locate_samples(config)
    found: dict[str, str] = {}
    if config.api_keys_file is not None:
        if not read_keys(config.api_keys_file):
            raise ValueError(f"serve.api_keys_file: {config.api_keys_file} holds no key, nobody could ask anything")
        found["api_keys_file"] = str(Path(config.api_keys_file).absolute())
    if config.log_file is not None:
        log = Path(config.log_file).absolute()
        if not log.parent.is_dir():
            raise ValueError(f"serve.log_file: there is no folder {log.parent}")
        found["log_file"] = str(log)
    if config.ranges is not None:
        if not Path(config.ranges).is_dir():
            raise ValueError(f"serve.ranges: there is no folder {config.ranges}")
        found["ranges"] = str(Path(config.ranges).absolute())
    return config.model_copy(update=found)


def _replicas(config: ServeConfig) -> dict[str, object]:
    if config.most_replicas == config.num_replicas:
        return {"num_replicas": config.num_replicas}
    bounds = {"min_replicas": config.num_replicas, "max_replicas": config.most_replicas}
    # Twice a batch: one in work and one that waits keep a replica busy; more wants another one.
    wanted = {"target_ongoing_requests": 2.0 * config.max_batch_size, **SCALING_SECONDS}
    return {"autoscaling_config": {**bounds, **wanted}}


def _drain(seconds: float) -> None:
    """Let the gateways take no more images, and wait until those accepted are answered."""
    until = time.monotonic() + seconds
    try:
        handle = serve.get_app_handle(APPLICATION)
        while sum(handle.broadcast("drain").results(timeout_s=5.0)) and time.monotonic() < until:
            time.sleep(0.1)
    except (RayServeException, RayError, TimeoutError) as error:
        logger.warning("the server could not be drained: %s", error)


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
    return find_port(config.host, config.port)


def _is_on_head() -> bool:
    here = ray.get_runtime_context().get_node_id()
    return any(node["NodeID"] == here and "node:__internal_head__" in node["Resources"] for node in ray.nodes())


def _is_mended() -> bool:
    """Whether Serve is there and has the application, whatever of it has ended: it starts that anew."""
    try:
        return APPLICATION in serve.status().applications
    except (RayServeException, RayError):
        return False


def _failure() -> str:
    """The last line of what a replica that did not start has said."""
    application = serve.status().applications.get(APPLICATION)
    for deployment in application.deployments.values() if application else ():
        lines = [line.strip() for line in deployment.message.splitlines() if line.strip()]
        errors = [line for line in lines if "Error" in line]
        if lines:
            return errors[-1] if errors else lines[-1]
    return ""
