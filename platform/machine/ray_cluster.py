"""Joining a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
LOOPBACK = "127.0.0.1"
NOBODY = f"http://{LOOPBACK}:1"  # where nothing listens
VITAL = ("raylet", "gcs_server")  # of a node, and of a cluster
START_SECONDS = 240.0
ANSWER_SECONDS = 20.0  # in which the head of a cluster that is just starting listens


def starts_cluster(address: str | None = None) -> bool:
    """Whether connect() would start a cluster on this machine, rather than join one or do nothing."""
    import ray

    return not (ray.is_initialized() or address or os.environ.get("RAY_ADDRESS"))


def connect(address: str | None = None, local_cpus: int = 4) -> None:
    """Join the cluster at an address, or in RAY_ADDRESS, or start one on this machine; nothing if already joined.

    A cluster started here is for this user on this machine: it listens at the loopback address, its files are in a
    folder that no one else can enter, and it asks for a token that this process and those it starts know. Serve's own
    ports listen everywhere all the same, and whoever may speak to them may run anything. RAY_AUTH_MODE and a token in
    the environment have it otherwise. Raises ConnectionError where no cluster answers. What workers print goes to Ray's
    log files: their failures come back as errors, and progress is shown by the stages themselves.
    """
    import ray

    if ray.is_initialized():
        return
    for chatty in ("ray.data", "ray.train", "ray.serve", "ray._private.authentication"):  # they tell what they do
        logging.getLogger(chatty).setLevel(logging.ERROR)
    if starts_cluster(address):
        # Ray turns the mode to "token" by itself where it is not set, and would write a token to the home folder.
        if "RAY_AUTH_MODE" not in os.environ and not any(name in os.environ for name in TOKENS):
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        # "local": else Ray would join whatever `ray start` left on this machine, another user's cluster too.
        options: dict[str, Any] = {"address": "local", "num_cpus": local_cpus, "include_dashboard": False}
        options |= {"_node_ip_address": LOOPBACK, "_temp_dir": str(private_folder() / "ray")}
        # Ray gives its workers a niceness of 15: training would starve beside any other program of this machine.
        os.environ.setdefault("RAY_worker_niceness", "0")
        with patience(), loopback(), no_dashboard():
            try:
                ray.init(**options, logging_level=logging.WARNING, log_to_driver=False)
            except Exception as error:
                if "timed out during startup" not in str(error):
                    raise
                raise ConnectionError(f"Ray did not start on this machine within {START_SECONDS:g} s") from error
    else:
        place = address or os.environ["RAY_ADDRESS"]
        _check_answers(place, "" if address else " (RAY_ADDRESS)")
        ray.init(address=place, logging_level=logging.WARNING, log_to_driver=False)


@contextlib.contextmanager
def loopback() -> Iterator[None]:
    """Let ray.init() take the loopback address for that of a node; on Linux it would take one of the network instead.

    Ray's servers that look whether their node has that address listen there alone, among them the one for metrics.
    """
    from ray._private import services

    resolve = services.resolve_ip_for_localhost
    services.resolve_ip_for_localhost = lambda host: host
    try:
        yield
    finally:
        services.resolve_ip_for_localhost = resolve


@contextlib.contextmanager
def no_dashboard() -> Iterator[None]:
    """Let the processes of a cluster that is started meanwhile ask no dashboard about their actors.

    A cluster without one says all the same that it is at port 8265, and so the dashboard of any other cluster there is
    asked, and told the token. It does not know the actors, and Ray Train then ends the workers of a training that goes
    well.
    """
    name = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(name)
    os.environ[name] = NOBODY
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def private_folder() -> Path:
    """A folder of this user alone (0700) below RAY_TMPDIR, or else TMPDIR or /tmp, where Ray would use that itself.

    Ray lets every user write to the folders that it makes, those of its sockets too. It is maskray-UID, the same each
    time, but where that belongs to someone else, a new one.
    """
    parent = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"maskray-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return Path(tempfile.mkdtemp(prefix="maskray-", dir=parent))
    folder.chmod(0o700)
    return folder


def _check_answers(address: str, where: str) -> None:
    """Raise ConnectionError where nobody listens at HOST:PORT for ANSWER_SECONDS; Ray itself would try for many."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # such as auto, of which Ray knows what it means
    until = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
            return
        except (OSError, OverflowError) as error:
            if time.monotonic() > until or isinstance(error, OverflowError):
                raise ConnectionError(f"no Ray cluster answers at {address}{where}: {error}") from None
            time.sleep(0.5)


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Ray gives a node that it starts 30 seconds to appear, too few where other programs keep the cores busy."""
    from ray._private import services

    ask = services.get_node

    def ask_again(gcs_address: str, node_id: str) -> Any:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                return ask(gcs_address, node_id)
            except RuntimeError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    services.get_node = ask_again
    try:
        yield
    finally:
        services.get_node = ask


def lost_part() -> str | None:
    """Which of the processes that a cluster started here cannot do without has ended; None while all are there.

    Ray tells nobody of it: processes of a node whose raylet has ended go on, and may hold their ports for long.
    """
    from ray._private import worker

    node = worker._global_node  # of a cluster that this process has started; without processes where it joined one
    ended = {} if node is None else dict(node.dead_processes())
    return next((kind for kind in VITAL if kind in ended), None)


def leave() -> None:
    """Leave the cluster that connect() joined or started, without Ray's lines about actors that end with it."""
    import ray

    with contextlib.redirect_stdout(None):
        ray.shutdown()
