"""Which precision pays on this machine: layers of a detector timed once in float32 and in bfloat16, and remembered.

bfloat16 takes a third of the time on a processor that multiplies it, and half as much again on one that has to imitate
it, so no rule of thumb will do. What is measured here is the one answer to `inference.precision: auto`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from maskray.platform.machine.environment import processor_name

Precision = Literal["float32", "bfloat16"]

PAYS = 1.2  # times as fast as float32: for less, answers that differ a little are not worth it
REPEATS = 7


@dataclass(frozen=True)
class Measurement:
    """Seconds of the same layers in each precision, medians of turns, on a processor or GPU of this name."""

    processor: str
    float32: float
    bfloat16: float

    @property
    def ratio(self) -> float:
        """How many times as fast bfloat16 is as float32."""
        return self.float32 / self.bfloat16

    @property
    def precision(self) -> Precision:
        """The one that pays."""
        return "bfloat16" if self.ratio >= PAYS else "float32"

    def __str__(self) -> str:
        return f"{self.precision}; bfloat16 is {self.ratio:.2f} times as fast as float32 on {self.processor}"


@cache
def measured_precision(device: str = "cpu") -> Measurement:
    """What pays on this device (cpu or cuda): measured the first time that this user asks here, some seconds.

    It stands in maskray/precision.json of the user's cache folder, by processor and version of torch; remove the file
    to have it measured again. A cache that cannot be read or written only costs the time.
    """
    known = remembered_precision() if device == "cpu" else None
    if known is not None:
        return known
    measurement = measure_precision(device)
    if device == "cpu":
        with suppress(OSError):
            _remember(measurement)
    return measurement


def remembered_precision() -> Measurement | None:
    """What was measured on this processor before, without torch and at once; None where nothing was."""
    try:
        entry = json.loads(_file().read_text(encoding="utf-8"))[_key()]
        measurement = Measurement(processor_name(), float(entry["float32"]), float(entry["bfloat16"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return measurement if min(measurement.float32, measurement.bfloat16) > 0 else None


def measure_precision(device: str = "cpu") -> Measurement:
    """Time convolutions as a detector has them, in both precisions by turns, on a device.

    On a CPU in a thread of its own that computes alone and is timed by what it gets of the processor: so other
    programs on the same cores hardly change the ratio.
    """
    if device != "cpu":
        import torch

        return Measurement(torch.cuda.get_device_name(), *_measure(device, time.perf_counter))
    with ThreadPoolExecutor(1) as thread:
        return Measurement(processor_name(), *thread.submit(_measure_alone).result())


def _measure_alone() -> tuple[float, float]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measure("cpu", time.thread_time)
    finally:
        torch.set_num_threads(before)  # threads that begin later take it over


def _measure(device: str, clock: Callable[[], float]) -> tuple[float, float]:
    """Seconds in float32 and in bfloat16."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]), torch.device(device):
        layers = nn.Sequential(
            nn.Conv2d(256, 64, 1),  # a bottleneck
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 256, 1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),  # of the pyramid, the RPN and the mask head
        )
        layers.eval().to(memory_format=torch.channels_last)
        maps = torch.ones(1, 256, 48, 64).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def seconds(bfloat16: bool) -> float:
        began = clock()
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            layers(maps)
        if device != "cpu":
            torch.cuda.synchronize()
        return clock() - began

    turns = [(seconds(False), seconds(True)) for _ in range(REPEATS + 1)][1:]  # the first one compiles kernels
    return statistics.median(turn[0] for turn in turns), statistics.median(turn[1] for turn in turns)


def _remember(measurement: Measurement) -> None:
    file = _file()
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        entries = {}
    entry = {"float32": measurement.float32, "bfloat16": measurement.bfloat16}
    file.parent.mkdir(parents=True, exist_ok=True)
    # In place: of two that write at once one may be lost or the file broken, and then it is measured again.
    known = entries if isinstance(entries, dict) else {}
    file.write_text(json.dumps({**known, _key(): entry}, indent=1), encoding="utf-8")


def _key() -> str:
    return f"{processor_name()}, torch {importlib.metadata.version('torch')}"


def _file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maskray" / "precision.json"
