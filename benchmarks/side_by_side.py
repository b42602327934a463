"""What the programs about operators share: timing ours and theirs by turns, and a line that says what came of it.

Ours and theirs run in one process by turns, so that whatever else the machine does hits both. Metrics are medians in
milliseconds; the ratio is their time over ours. The floor is the time that the bytes an operator must move take at the
rate of a plain copy on this machine, or its operations at the rate of a matrix product there (an addition and a
multiplication counted as one), whichever is more; beside it stands our time over the floor.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torchvision

Call = Callable[[], object]


class Machine(NamedTuple):
    """What this machine does in a millisecond, measured."""

    copied_bytes: float  # read and written
    operations: float

    def floor(self, moved_bytes: float, operations: float = 0.0) -> float:
        """Milliseconds below which nothing that moves and computes so much can come."""
        return max(moved_bytes / self.copied_bytes, operations / self.operations)


def parse_arguments(description: str | None) -> argparse.Namespace:
    """Repeats, threads (one table for each) and device, as given on the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of the CPU; one table for each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    arguments = parser.parse_args()
    if arguments.device != "cpu":
        arguments.threads = arguments.threads[:1]
    return arguments


def medians(calls: Sequence[Call], repeats: int, device: str = "cpu") -> list[float]:
    """Median milliseconds of each function, called by turns; one round before that is not counted."""
    times: list[list[float]] = [[] for _ in calls]
    for round_number in range(repeats + 1):
        for record, call in zip(times, calls, strict=True):
            start = time.perf_counter()
            call()
            if device != "cpu":
                torch.cuda.synchronize()
            if round_number:
                record.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(record) for record in times]


def start_table(threads: int, device: str) -> Machine:
    """Set the threads, measure the machine and print the head of a table."""
    torch.set_num_threads(threads)
    source = torch.randn(16_000_000, device=device)
    target = torch.empty_like(source)
    square = torch.randn(1024, 1024, device=device)
    copy, product = medians([lambda: target.copy_(source), lambda: square @ square], 10, device)
    machine = Machine(2 * source.nbytes / copy, 1024**3 / product)
    where = torch.cuda.get_device_name() if device != "cpu" else f"CPU, {threads} thread(s)"
    print(
        f"\n{where}, torch {torch.__version__}, torchvision {torchvision.__version__}; "
        f"copies {machine.copied_bytes / 1e6:.1f} GB/s, {machine.operations / 1e6:.0f} G operations/s"
    )
    print(f"{'case':52} {'ours ms':>9} {'theirs ms':>10} {'ratio':>7} {'floor ms':>9} {'/ floor':>8}")
    return machine


def report(
    case: str, calls: Sequence[Call], repeats: int, *, goal: float | None, floor: float, device: str = "cpu"
) -> None:
    """Time (ours, theirs) and print one line: both, their ratio, the floor in milliseconds, and the goal if any."""
    ours, theirs = medians(calls, repeats, device)
    verdict = "" if goal is None else f"  goal {goal:g}x {'reached' if theirs / ours >= goal else 'not reached'}"
    print(
        f"{case:52} {ours:9.3f} {theirs:10.3f} {theirs / ours:6.1f}x {floor:9.3f} {ours / floor:8.1f}{verdict}",
        flush=True,
    )
