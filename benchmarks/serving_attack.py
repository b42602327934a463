"""What an attack costs a server and its neighbours: seconds until it is answered, memory of gateway and replica.

    python benchmarks/serving_attack.py MODEL [--rounds 3]

A real `maskray serve`; a neighbour asks for one small image after another all the time. Each attack is made by turns
with a pause of the same length, so both see the same machine. A line each: what the attack was answered, after how
long, by how much memory of its gateway and its replicas grew at most, and the neighbour's median and longest wait
during the attack and in the pause before it.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "plugins"))
from hostile_requests import JSON, OPAQUE, Request, encode, hostile, noise, slow_body
from server_process import GATEWAY, MODEL, children_of, running
from soak_model import drawn

from maskray.platform.serve.http.api_keys import add_key

PAUSE_SECONDS = 5.0
Attack = Callable[[str], object]


class Neighbour:
    """One image after another; `waits` are (when it began, seconds) of each answer."""

    def __init__(self, url: str, image: bytes) -> None:
        self.waits: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(url, image))
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; returns when the last answer is there."""
        self._ended.set()
        self._thread.join()

    def _ask(self, url: str, image: bytes) -> None:
        with httpx.Client(timeout=120) as client:
            while not self._ended.wait(0.05):
                began = time.monotonic()
                answer = client.post(f"{url}/v1/predict", content=image, headers=OPAQUE | KEY)
                assert answer.status_code == 200, answer.text
                self.waits.append((began, time.monotonic() - began))

    def wait_past(self, moment: float) -> None:
        """Wait until an image is answered that was sent after this."""
        while not self.waits or self.waits[-1][0] <= moment:
            time.sleep(0.05)

    def during(self, began: float, ended: float) -> list[float]:
        """Seconds of each request of which a part was within these."""
        return [seconds for at, seconds in self.waits if at + seconds >= began and at <= ended]


KEY: dict[str, str] = {}


def attacks(image: bytes) -> dict[str, Attack]:
    found: dict[str, Attack] = {}
    for request in hostile(image):
        if request.kind in ("bomb", "many scans", "deep JSON", "many objects"):
            found[request.kind] = lambda url, request=request: send(url, request)
    lists = b'{"images":[' + b"[]," * 8_600_000 + b"[]]}"
    found["26 MB of {}"] = lambda url: post(url, b'{"images":[' + b"{}," * 8_600_000 + b"{}]}", JSON)
    found["26 MB of []"] = lambda url: post(url, lists, JSON)
    large = encode(noise(5000, 4080), "JPEG", quality=92)[:19_900_000]
    found[f"image of {len(large) / 1e6:.1f} MB"] = lambda url: post(url, large, OPAQUE)
    found["32 slow bodies"] = lambda url: together(32, lambda: slow_body(url, 15, KEY["Authorization"]))
    found["400 wrong keys"] = lambda url: together(8, lambda: wrong_keys(url, image, 50))
    return found


def send(url: str, request: Request) -> int:
    headers = KEY | request.arguments["headers"]
    arguments = request.arguments | {"url": url + request.arguments["url"], "headers": headers}
    with httpx.Client(timeout=120) as client:
        return client.request(**arguments).status_code


def post(url: str, data: bytes, headers: dict[str, str]) -> int:
    return httpx.post(f"{url}/v1/predict", content=data, headers=KEY | headers, timeout=120).status_code


def wrong_keys(url: str, image: bytes, number: int) -> int:
    headers = OPAQUE | {"Authorization": "Bearer maskray.neighbour.wrong"}
    with httpx.Client(timeout=120) as client:
        return {
            client.post(f"{url}/v1/predict", content=image, headers=headers).status_code for _ in range(number)
        }.pop()


def together(number: int, attack: Callable[[], object]) -> object:
    outcomes: list[object] = []
    threads = [threading.Thread(target=lambda: outcomes.append(attack())) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(set(outcomes), key=outcomes.count)


class Memory:
    """The most private MiB of processes while the block runs, less what they had before."""

    def __init__(self, processes: list[int]) -> None:
        self._processes = processes
        self.grown = 0.0
        self._ended = threading.Event()

    def __enter__(self) -> Memory:
        self._before = self._now()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.grown = max(self.grown, self._now() - self._before)

    def _now(self) -> float:
        kib = 0
        for process in self._processes:
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                    kib += int(line.split()[1]) if line.startswith(("Private_Clean", "Private_Dirty")) else 0
        return kib / 1024


def measure(url: str, parent: int, image: bytes, rounds: int) -> None:
    processes = [child for child, title in children_of(parent).items() if GATEWAY in title or MODEL in title]
    neighbour = Neighbour(url, image)
    time.sleep(PAUSE_SECONDS)
    try:
        for name, attack in attacks(image).items():
            rows = []
            for _ in range(rounds):
                time.sleep(PAUSE_SECONDS)
                with Memory(processes) as memory:
                    began = time.monotonic()
                    outcome = attack(url)
                    ended = time.monotonic()
                    neighbour.wait_past(ended)
                before = neighbour.during(began - PAUSE_SECONDS, began)
                during = neighbour.during(began, neighbour.waits[-1][0])
                rows.append((ended - began, memory.grown, *spread(before), *spread(during)))
            seconds, grown, calm, calm_most, wait, most = (statistics.median(column) for column in zip(*rows))
            waits = f"{1e3 * wait:5.0f} ms, {1e3 * most:5.0f} at most; before {1e3 * calm:5.0f}, {1e3 * calm_most:5.0f}"
            print(f"{name:20s} {outcome}  {seconds:6.2f} s  +{grown:4.0f} MiB   neighbour {waits}", flush=True)
    finally:
        neighbour.stop()


def spread(seconds: list[float]) -> tuple[float, float]:
    return statistics.median(seconds), max(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        KEY["Authorization"] = f"Bearer {add_key(Path(folder) / 'keys', 'neighbour')}"
        arguments = [options.model, "--set", "max_connections_per_client=400", "--api-keys", str(Path(folder) / "keys")]
        with running(*arguments) as (server, url):
            measure(url, server.pid, drawn()[0], options.rounds)
            server.terminate()
            server.wait(120)


if __name__ == "__main__":
    main()
