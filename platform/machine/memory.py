"""How processes give memory back to the machine; glibc alone needs to be told, elsewhere nothing is done."""

from __future__ import annotations

import ctypes
import threading
import time

MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h
LARGE_BYTES = 1 << 20
LARGEST_DYNAMIC_BYTES = 32 << 20  # how far glibc raises the threshold by itself
EVERY_SECONDS = 10.0


def return_large_blocks(at_least_bytes: int = LARGE_BYTES) -> None:
    """Give every block of at least so many bytes back to the machine as soon as it is freed.

    By itself glibc keeps blocks of up to 32 MiB for later, between smaller ones that are in use: a training process on
    a CPU, whose steps differ in size, then holds a good deal more than its tensors. benchmarks/model_torchvision.py
    prints what this saves and what it costs.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, at_least_bytes)


def keep_memory_flat() -> None:
    """Let a thread of this process give back freed memory every ten seconds, some 10 ms of work; glibc alone needs it.

    Measured with batches of one to four images: without it 200 MB more after 240 batches, with it none.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        threading.Thread(target=_trim_often, args=(trim,), name="memory", daemon=True).start()


def _trim_often(trim: ctypes._NamedFuncPointer) -> None:
    while True:
        time.sleep(EVERY_SECONDS)
        trim(0)
