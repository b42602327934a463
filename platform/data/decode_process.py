"""Decoding in a process apart, which is ended when an image takes more time or memory than any needs.

Run as a module this is that process.

Decoders are C: nothing in the same process can stop one that a hostile file keeps busy, or take back its memory.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
import subprocess
import sys
import threading
from typing import IO

import numpy as np

from maskray.platform.data.decode import Pixels, decode_image

MOST_SECONDS = 10.0  # of a processor, for one image; 50 megapixels take one or two
PIXEL_BYTES = 24  # that decoding, converting, turning and copying hold of a pixel at most
OTHER_BYTES = 256_000_000
NICENESS = 5  # the model next door goes first
_LENGTH = struct.Struct(">q")
_SHAPE = struct.Struct(">qq")


class DecodeProcess:
    """Decodes one image at a time in a process that is started when first needed, and anew after it was ended."""

    def __init__(self, max_pixels: int, most_seconds: float = MOST_SECONDS) -> None:
        self._arguments = [str(max_pixels), str(most_seconds)]
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, data: bytes, seconds: float) -> Pixels:
        """As decode_image; ValueError also for an image that is not decoded within the limits or so many seconds."""
        if self._process is not None and self._process.poll() is not None:
            self.close()  # ended since its last answer
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        ending = threading.Timer(seconds, process.kill)
        ending.start()
        try:
            process.stdin.write(_LENGTH.pack(len(data)) + data)
            process.stdin.flush()
            return _read_answer(process.stdout)
        except (EOFError, OSError):
            self.close()
            raise ValueError("image cannot be decoded: it takes too much time or memory") from None
        finally:
            ending.cancel()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        # What a worker of Ray imports from may have been told to it while it ran.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "maskray.platform.data.decode_process", *self._arguments]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _read_answer(stream: IO[bytes]) -> Pixels:
    height, width = _SHAPE.unpack(_read(stream, _SHAPE.size))
    if width == 0:
        raise ValueError(bytes(_read(stream, height)).decode("utf-8"))
    return np.frombuffer(_read(stream, height * width * 3), np.uint8).reshape(height, width, 3)


def _read(stream: IO[bytes], length: int) -> bytearray:
    data = bytearray(length)
    view, at = memoryview(data), 0
    while at < length:
        read = stream.readinto(view[at:])  # type: ignore[attr-defined]  # of a buffered file
        if not read:
            raise EOFError
        at += read
    return data


def _answer_one(data: bytes, max_pixels: int, answer: IO[bytes]) -> None:
    """Shape and pixels of an image; or the length of a reason, 0, and the reason."""
    try:
        image = decode_image(data, max_pixels)
    except (ValueError, MemoryError) as error:
        reason = (str(error) or "image cannot be decoded: it takes too much memory").encode("utf-8", "replace")
        answer.write(_SHAPE.pack(len(reason), 0) + reason)
    else:
        answer.write(_SHAPE.pack(*image.shape[:2]))
        answer.write(np.ascontiguousarray(image).data)
    answer.flush()


def _limit(max_pixels: int) -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    most = now + OTHER_BYTES + PIXEL_BYTES * max_pixels
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)


def _serve(max_pixels: int, most_seconds: float) -> None:
    """Answer images until the other side is gone."""
    images, answer = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    _limit(max_pixels)
    try:
        while True:
            (length,) = _LENGTH.unpack(_read(images, _LENGTH.size))
            data = bytes(_read(images, length))
            signal.setitimer(signal.ITIMER_PROF, most_seconds)  # its signal ends this process
            _answer_one(data, max_pixels, answer)
            signal.setitimer(signal.ITIMER_PROF, 0)
    except (EOFError, BrokenPipeError):
        pass


if __name__ == "__main__":
    _serve(int(sys.argv[1]), float(sys.argv[2]))
