"""A real `maskray serve` at four times what it can answer, attacked, while each of its processes is killed in turn.

    PYTHONPATH=tests/plugins python tests/platform/serve/attack/soak.py --seconds 1800 [--images FOLDER] [--model MODEL]

Half of what arrives are images as they are, the rest is of hostile_requests.py. Ends with 1 where an answer was not
earned, a killed part was not replaced in 20 s (nor the server ended with a line), or memory grows. Without a model one
of random weights is served, by its alias of a registry, which is moved between two versions meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from hostile_requests import Request, requests_of, sent, slow_body
from server_process import CONTROLLER, GATEWAY, MODEL, WATCHER, children_of, find_child, running
from soak_model import serve_by_alias
from soak_verdict import BACK_SECONDS, Answer, Kill, growing, slow_returns, unearned

from maskray.platform.machine.progress_bar import track

OVERLOAD = 4
CLIENTS = 96
SLOW_CLIENTS = 32
MOST_OF_CLIENT = 400
CAPACITY_SECONDS = 20.0
RSS_SECONDS = 5.0
# Those that the server gets over come first; with a part of FATAL, or what it needs, it ends, and is started again.
LASTING = (
    MODEL, GATEWAY, WATCHER, CONTROLLER, "decode_process", "ray::ProxyActor", "dashboard/dashboard.py",
    "log_monitor.py", "autoscaler/_private/monitor.py",
)  # fmt: skip
FATAL = ("ray::DashboardAgent", "ray::RuntimeEnvAgent", "gcs/gcs_server", "raylet/raylet --")


class Servers:
    """The server of the moment: `url` changes where one has ended and the next has been started."""

    def __init__(self, arguments: list[str], variables: dict[str, str]) -> None:
        self._arguments, self._variables = arguments, variables
        self._stack = contextlib.ExitStack()
        self.start()

    def start(self) -> None:
        self._stack.close()
        limit = f"max_connections_per_client={MOST_OF_CLIENT}"
        self.process, self.url = self._stack.enter_context(
            running(*self._arguments, "--set", limit, "--set", "poll_alias_seconds=1", **self._variables)
        )

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(300)
        self._stack.close()
        return code


class Load:
    """Clients that send at a rate, whatever the answers, until the end; what they got is in `answers`."""

    def __init__(self, servers: Servers, requests: list[Request], rate: float) -> None:
        self.answers: list[Answer] = []
        self.late = 0
        self._servers, self._requests, self._rate = servers, requests, rate
        self._numbers, self._lock = itertools.count(), threading.Lock()
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(CLIENTS)]
        self._threads += [threading.Thread(target=self._send_slowly) for _ in range(SLOW_CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def wait_for_image(self, at: float, process: subprocess.Popen[str]) -> float | None:
        """When an image was answered that was sent after `at`; None where the server ends, or ten minutes pass."""
        until = at + 600
        while process.poll() is None and time.monotonic() < until:
            for answer in self.answers[-500:]:
                if answer.kind == "image" and answer.status == 200 and answer.began > at:
                    return answer.ended
            time.sleep(0.05)
        process.kill()
        process.wait()
        return None

    def _send(self) -> None:
        with httpx.Client(timeout=150) as client:
            while not self._ended.is_set():
                with self._lock:
                    number = next(self._numbers)
                wait = self._began + number / self._rate - time.monotonic()
                self.late += wait < -1
                if self._ended.wait(max(wait, 0)):
                    return
                self.answers.append(ask(client, self._servers.url, self._requests[number % len(self._requests)]))

    def _send_slowly(self) -> None:
        while not self._ended.wait(1.0):
            began, status, told = time.monotonic(), None, ""
            try:
                status = slow_body(self._servers.url, 90)
            except OSError as error:
                told = repr(error)
            # Cut off, told that it is too slow, or that the server is full; 0 is a server that waits for ever.
            allowed = frozenset({408, 503, None})
            self.answers.append(Answer("slow body", began, time.monotonic(), status, allowed, told))


def ask(client: httpx.Client, url: str, request: Request) -> Answer:
    began = time.monotonic()
    try:
        answer = client.request(**request.arguments | {"url": url + request.arguments["url"]})
    except httpx.HTTPError as error:
        return Answer(request.kind, began, time.monotonic(), None, request.allowed, repr(error))
    told = ""
    status: int | None = answer.status_code
    if status == 503 and "retry-after" not in answer.headers:
        status, told = None, "503 without Retry-After"
    return Answer(request.kind, began, time.monotonic(), status, request.allowed, told)


def capacity(url: str, images: list[bytes]) -> float:
    """Images that eight clients without a pause get answered in a second."""
    until = time.monotonic() + CAPACITY_SECONDS
    counts = [0] * 8

    def work(number: int) -> None:
        with httpx.Client(base_url=url, timeout=150) as client:
            for data in itertools.cycle(images):
                if time.monotonic() > until:
                    return
                counts[number] += client.request(**sent(data)).status_code == 200

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / CAPACITY_SECONDS


def kill(servers: Servers, load: Load, title: str) -> Kill | None:
    """Kill a process and wait until an image is answered, or the server has ended and the next is there."""
    victim = find_child(servers.process.pid, title)
    if victim is None:
        return None
    at = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    if title in FATAL:
        with contextlib.suppress(subprocess.TimeoutExpired):
            servers.process.wait(BACK_SECONDS)
    back = load.wait_for_image(at, servers.process)
    if back is not None:
        return Kill(title, at, back, title == GATEWAY)
    ended = time.monotonic()
    assert servers.process.stderr is not None
    line = f"{servers.process.returncode}: {servers.process.stderr.read().strip()}"
    servers.start()
    return Kill(title, at, time.monotonic(), True, f"{line} ({ended - at:.1f} s)")


def watch_memory(servers: Servers, memory: dict[tuple[str, int], list[tuple[float, float]]]) -> None:
    names = {GATEWAY: "gateway", MODEL: "replica", WATCHER: "alias watcher", CONTROLLER: "controller"}
    names |= {"raylet/raylet --": "raylet", "gcs/gcs_server": "gcs"}
    found = {process: names[title] for process, words in children_of(servers.process.pid).items() for title in names
             if title in words and "raylet/main" not in words}  # fmt: skip
    for process, name in {**found, servers.process.pid: "maskray serve"}.items():
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            private = (int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))
            memory.setdefault((name, process), []).append((time.monotonic(), sum(private) / 1024))


def schedule(seconds: float) -> Iterator[tuple[float, str]]:
    """(seconds from the start, title): the lasting parts in rounds, one a minute or sooner, then the others."""
    ending = min(60.0, seconds / 10)
    last = ending * len(FATAL)
    each = min(60.0, max((seconds - last) / len(LASTING), 10.0))
    for number, title in enumerate(itertools.cycle(LASTING)):
        if (number + 1) * each > seconds - last:
            break
        yield (number + 1) * each, title
    for number, title in enumerate(FATAL):
        yield seconds - last + ending * number, title


def ticks(seconds: float) -> Iterator[float]:
    """Seconds that have passed, every RSS_SECONDS and at once where one is overdue, until the time is over."""
    began = time.monotonic()
    for step in range(int(seconds / RSS_SECONDS)):
        time.sleep(max(began + step * RSS_SECONDS - time.monotonic(), 0))
        yield time.monotonic() - began


def told(kill: Kill | None) -> str:
    return "not there" if kill is None else f"{kill.line or 'answers again'}, {kill.back - kill.at:.1f} s"


def run(servers: Servers, images: list[bytes], seconds: float) -> list[str]:
    rate = capacity(servers.url, images)
    print(f"capacity {rate:.1f} images/s; {OVERLOAD} times as many requests are sent for {seconds:.0f} s", flush=True)
    memory: dict[tuple[str, int], list[tuple[float, float]]] = {}
    load, kills, plan = Load(servers, requests_of(images), OVERLOAD * rate), [], list(schedule(seconds))
    try:
        for passed in track(ticks(seconds), int(seconds / RSS_SECONDS), "soak"):
            watch_memory(servers, memory)
            if plan and passed > plan[0][0]:
                title = plan.pop(0)[1]
                done = kill(servers, load, title)
                kills += [] if done is None else [done]
                print(f"{passed:6.0f} s  {title}: {told(done)}", file=sys.stderr, flush=True)
    finally:
        load.stop()
    return report(load, kills, memory)


def report(load: Load, kills: list[Kill], memory: dict[tuple[str, int], Any]) -> list[str]:
    statuses = Counter(str(answer.status) for answer in load.answers)
    print(f"{len(load.answers)} requests, {load.late} of them sent late: {dict(statuses)}")
    for title in dict.fromkeys(one.title for one in kills):
        seconds = [one.back - one.at for one in kills if one.title == title]
        lines = {one.line for one in kills if one.title == title and one.line}
        print(f"  killed {title}: {len(seconds)} times, back after {statistics.median(seconds):.1f} s (median), "
              f"{max(seconds):.1f} s (longest){''.join(f'; ended with {line}' for line in lines)}")  # fmt: skip
    for (name, process), samples in memory.items():
        values = [mib for _, mib in samples]
        print(f"  memory of {name} ({process}): {values[0]:.0f} MiB at first, {max(values):.0f} at most, "
              f"{values[-1]:.0f} at last, {samples[-1][0] - samples[0][0]:.0f} s")  # fmt: skip
    found = [f"not earned: {line} ({number} times)" for line, number in unearned(load.answers, kills).most_common()]
    found += [f"late: {line}" for line in slow_returns(one for one in kills if one.line is None)]
    found += [f"not one line: {one.line}" for one in kills if one.line and not ends_well(one.line)]
    return found + [f"memory grows: {line}" for line in growing(memory)]


def ends_well(line: str) -> bool:
    return line.startswith("1: error: ") and "\n" not in line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--images", type=Path, help="folder of JPEGs; without one they are drawn")
    parser.add_argument("--model", help="as for maskray serve; without one two small models of random weights")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, serve_by_alias(Path(folder), options) as served:
        arguments, variables, images = served
        servers = Servers(arguments, variables)
        found = run(servers, images, options.seconds)
        code = servers.stop()
        found += [f"ended with {code} after SIGTERM"] if code else []
    print("\n".join(found) or "no answer that was not earned, all came back, memory is level")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
