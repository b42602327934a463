"""`maskray serve` as a process of its own, and the processes below it: for tests of the whole server."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

PROGRAM = [sys.executable, "-m", "maskray.platform.cli.main"]
# Without what tests are told of Ray's authentication: people are told nothing of it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
ENVIRONMENT["COLUMNS"] = "120"
ENVIRONMENT.pop("RAY_memory_monitor_refresh_ms", None)  # which tests set to 0
CONTROLLER = "ServeController"
GATEWAY, WATCHER, MODEL = (f"ServeReplica:maskray:{name}" for name in ("Gateway", "AliasWatcher", "Replica"))


@contextlib.contextmanager
def running(*arguments: Any, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server and its URL; killed where the test has not ended it."""
    command = [*PROGRAM, "serve", *map(str, arguments), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT | variables
    ) as server:
        try:
            yield server, read_url(server)
        finally:
            if server.poll() is None:
                server.kill()


@contextlib.contextmanager
def connections(url: str, number: int) -> Iterator[None]:
    """So many open connections that have been answered once."""
    place = httpx.URL(url)
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            client = stack.enter_context(socket.create_connection((place.host, place.port), timeout=300))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert client.recv(1000)
        yield


def wait_for_answer(url: str, is_alive: Callable[[], bool], seconds: float) -> bool:
    """Whether anybody answers there before the time is over or the server ends."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and is_alive():
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/healthz", timeout=60).status_code == 200
        time.sleep(0.1)
    return False


def read_url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        if match := re.match(r"(http://\S+) answers", line):
            return match[1]
    raise AssertionError(process.stderr.read())


def children_of(process_id: int) -> dict[int, str]:
    """Processes below a process, by id, with the titles that Ray gives them."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(path.name)] = (parent, (path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    below = {process_id}
    while more := {child for child, (parent, _) in found.items() if parent in below} - below:
        below |= more
    return {child: found[child][1] for child in below - {process_id}}


def find_child(process_id: int, title: str) -> int | None:
    """The process below a process that bears a title such as GATEWAY, if there is one."""
    return next((child for child, words in children_of(process_id).items() if title in words), None)


def listeners(process_id: int) -> set[str]:
    """Where a process listens by TCP: ADDRESS:PORT, IPv4 as it is written, of IPv6 the mapped ones too."""
    sockets = set()
    for path in Path(f"/proc/{process_id}/fd").iterdir():
        with contextlib.suppress(OSError):  # it has been closed meanwhile
            sockets.add(os.readlink(path))
    places = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process_id}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                address, _, port = fields[1].partition(":")
                words = [bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8)]
                place = ipaddress.ip_address(b"".join(words))
                places.add(f"{getattr(place, 'ipv4_mapped', None) or place}:{int(port, 16)}")
    return places
