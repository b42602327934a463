"""What benchmarks/serving.py does to a server besides timing it: a soak with broken requests, and a killed replica."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx

HEADERS = {"Content-Type": "application/octet-stream"}
RSS_SECONDS = 5.0


def soak(url: str, images: list[bytes], minutes: float) -> None:
    """Good and broken requests mixed; what the client did not earn, and the memory of the server's processes."""
    kinds = requests_of(images)
    counts: Counter[str] = Counter()
    unearned: list[str] = []
    until = time.monotonic() + 60 * minutes

    def work(offset: int) -> None:
        with httpx.Client(base_url=url, timeout=300) as client:
            for name, wanted, arguments in itertools.islice(itertools.cycle(kinds), offset, None):
                if time.monotonic() > until:
                    return
                try:
                    answer = client.request(**{"method": "POST", "url": "/v1/predict"} | arguments)
                    status = answer.status_code
                except httpx.HTTPError as error:
                    status = repr(error)
                counts[name] += 1
                if status != wanted:
                    unearned.append(f"{name}: {status}, not {wanted}")

    memory = run_watched(work, until)
    print(f"soak of {minutes:g} minutes: {sum(counts.values())} requests, {len(unearned)} answers not earned")
    print(f"  {', '.join(f'{name} {number}' for name, number in sorted(counts.items()))}")
    for line in sorted(set(unearned))[:10]:
        print(f"  {line} ({unearned.count(line)} times)")
    for name, samples in memory.items():
        ends = [len(samples) * sixth // 6 for sixth in range(7)]
        middles = [statistics.median(samples[start:end] or samples) for start, end in itertools.pairwise(ends)]
        print(f"  memory of {name}: {samples[0]:.0f} MiB at the start, {samples[-1]:.0f} at the end; medians of the "
              f"sixths of the time {' '.join(f'{middle:.0f}' for middle in middles)}", flush=True)  # fmt: skip


def run_watched(work: Callable[[int], None], until: float) -> dict[str, list[float]]:
    """Four clients at work, and MiB of each process of the server, every five seconds."""
    memory: dict[str, list[float]] = {}
    with concurrent.futures.ThreadPoolExecutor(4) as clients:
        working = [clients.submit(work, 3 * number) for number in range(4)]
        while time.monotonic() < until:
            for name, pid in processes().items():
                memory.setdefault(name, []).append(rss_mib(pid))
            time.sleep(RSS_SECONDS)
        for done in working:
            done.result()
    return memory


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


def requests_of(images: list[bytes]) -> list[tuple[str, int, dict]]:
    """(kind, status that it earns, arguments of httpx) of requests as people and programs send them."""
    import base64

    good = [("good", 200, {"content": data, "headers": HEADERS}) for data in images]
    first = images[0]
    text = base64.b64encode(first).decode()
    others = [
        ("cut off", 422, {"content": first[: len(first) // 2], "headers": HEADERS}),
        ("text", 415, {"content": b"just some text", "headers": HEADERS}),
        ("empty", 422, {"content": b"", "headers": HEADERS}),
        ("too large", 413, {"content": bytes(21_000_000), "headers": HEADERS}),
        ("unknown option", 422, {"content": first, "headers": HEADERS, "params": {"threshold": 1}}),
        ("drawn", 200, {"content": first, "headers": HEADERS, "params": {"format": "png"}}),
        ("tensors", 200, {"content": first, "headers": HEADERS, "params": {"format": "binary"}}),
        ("list, one broken", 200, {"json": {"images": [text, "AAAA"]}}),
        ("form", 200, {"files": {"image": first}}),
        ("bad JSON", 422, {"content": b"{", "headers": {"Content-Type": "application/json"}}),
        ("no such path", 404, {"method": "GET", "url": "/v2/predict"}),
        ("model", 200, {"method": "GET", "url": "/v1/model"}),
        ("metrics", 200, {"method": "GET", "url": "/metrics"}),
    ]
    mixed = itertools.zip_longest(good, others, others[::-1])
    return [request for requests in mixed for request in requests if request is not None]


def rss_mib(pid: int) -> float:
    """Resident memory that a process shares with nobody, as the kernel counts it."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))) / 1024


def wait_until(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing came for too long"
        time.sleep(0.02)
