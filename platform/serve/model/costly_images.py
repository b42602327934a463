"""Images that may take long to decode: they go to a process that can be ended, and only so many wait for it.

Those of cameras are decoded with their batch, in the process of the model, which costs nothing more. Whatever is
large, packed in unusual ways or of a format with many of them is decoded beside the model, which goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from maskray.platform.data.decode import Pixels
from maskray.platform.data.decode_process import DecodeProcess
from maskray.platform.data.image_header import read_header
from maskray.platform.serve.http.responses import FailedImage
from maskray.platform.serve.model.batching import DeadlinePassed


class CannotDecode(Exception):
    """An image is refused, with the outcome that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.outcome = FailedImage(status, message)


class CostlyImages:
    """Decodes what is not cheap, one at a time in the order in which they came."""

    def __init__(self, max_pixels: int, most_waiting: int) -> None:
        self._process = DecodeProcess(max_pixels)
        self._threads = ThreadPoolExecutor(1, "decode")
        self._most_waiting = most_waiting
        self._waiting = 0

    async def decode(self, data: bytes, seconds: float) -> tuple[Pixels | None, float]:
        """The pixels of an image, none of one that is cheap and decoded later, and the seconds that it took.

        Raises CannotDecode for one that is broken or takes too much (422), or where too many wait (503), and
        DeadlinePassed where it was not begun in time.
        """
        try:
            if read_header(data).is_cheap:
                return None, 0.0
        except ValueError as error:
            raise CannotDecode(422, str(error)) from None
        if self._waiting >= self._most_waiting:
            raise CannotDecode(503, "the server is busy with images that take long to decode, try again in a moment")
        self._waiting += 1
        try:
            until = time.monotonic() + seconds
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._decode, data, until)
        except ValueError as error:
            raise CannotDecode(422, str(error)) from None
        finally:
            self._waiting -= 1

    def _decode(self, data: bytes, until: float) -> tuple[Pixels, float]:
        began = time.monotonic()
        if began >= until:
            raise DeadlinePassed
        return self._process.decode(data, until - began), time.monotonic() - began
