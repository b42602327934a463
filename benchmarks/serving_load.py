"""What benchmarks/serving.py does to a server besides timing it: a replica is killed under load."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable

import httpx

HEADERS = {"Content-Type": "application/octet-stream"}


def processes() -> dict[str, int]:
    """Name and process id of gateway and replicas."""
    from ray import serve

    found = {}
    for deployment in ("Gateway", "Replica"):
        handle = serve.get_deployment_handle(deployment, "maskray")
        for number, pid in enumerate(sorted(handle.broadcast("process_id").results(timeout_s=60))):
            found[f"{deployment.lower()} {number}"] = pid
    return found


def kill(url: str, images: list[bytes], num_replicas: int) -> None:
    """Eight clients without a pause; a replica is killed after ten answers each."""
    statuses: Counter[object] = Counter()
    ended = threading.Event()

    def work() -> None:
        with httpx.Client(base_url=url, timeout=300) as client:
            for data in itertools.cycle(images):
                if ended.is_set():
                    return
                try:
                    statuses[client.post("/v1/predict", content=data, headers=HEADERS).status_code] += 1
                except httpx.HTTPError as error:
                    statuses[repr(error)] += 1

    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        working = [clients.submit(work) for _ in range(8)]
        wait_until(lambda: sum(statuses.values()) >= 80)
        before = sum(statuses.values())
        victim = next(pid for name, pid in processes().items() if name.startswith("replica"))
        os.kill(victim, signal.SIGKILL)
        began = time.monotonic()
        wait_until(lambda: sum(statuses.values()) > before + 8)
        gap = time.monotonic() - began
        wait_until(lambda: sum(statuses.values()) >= before + 160)
        ended.set()
        for done in working:
            done.result()
    answers = f"{dict(statuses)}; {gap:.1f} s until the next eight answers"
    print(f"killed one of {num_replicas} replicas under load: {answers}", flush=True)


def wait_until(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing came for too long"
        time.sleep(0.02)
