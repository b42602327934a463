"""Images from the gateway to a replica on the same machine, by a socket of their own: Ray Serve's way is longer.

Serve still starts, watches and replaces the replicas, and takes the images where there is no such line. The sockets lie
in a folder that no other user can enter, so who speaks here is a process of this server: messages are pickles.

A message is its length and (number, arguments) there, (number, failure, outcome) back; arguments None give one up.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import pickle
import struct
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from maskray.platform.job.serve_config import ServeConfig

FOLDER = "MASKRAY_DIRECT_LINES"  # of the environment, where gateway and replicas are on one machine
LOOK_SECONDS = 1.0  # between looks for new replicas
BUFFER_BYTES = 1 << 20
_LENGTH = struct.Struct(">q")

logger = logging.getLogger(__name__)


class NoLine(Exception):
    """No replica can be reached directly at the moment."""


class LineBroken(Exception):
    """The replica ended with an image in it."""


def folder_of_lines(config: ServeConfig) -> str | None:
    """Where replicas listen; None on the cluster of others, and where Serve has to count to scale."""
    return os.environ.get(FOLDER) if config.most_replicas == config.num_replicas else None


async def listen(folder: str, name: str, answer: Callable[..., Awaitable[Any]]) -> asyncio.Server | None:
    """Let `answer` be asked through a socket of a name in a folder; None where it cannot be made, which is logged."""
    path = Path(folder) / name
    try:
        return await asyncio.start_unix_server(_Answering(answer).serve, path, limit=BUFFER_BYTES)
    except OSError as error:  # a path that is too long, a folder that is gone
        logger.warning("no direct line at %s: %s", path, error)
        return None


class _Answering:
    """The end of the replica."""

    def __init__(self, answer: Callable[..., Awaitable[Any]]) -> None:
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a gateway until it ends; what it waits for is given up then."""
        tasks: dict[int, asyncio.Task[None]] = {}
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                number, arguments = await _read(reader)
                if arguments is None:
                    if number in tasks:
                        tasks[number].cancel()
                    continue
                task = tasks[number] = asyncio.create_task(self._answer_one(writer, number, arguments))
                task.add_done_callback(partial(_forget, tasks, number))
        for task in list(tasks.values()):
            task.cancel()
        writer.close()

    async def _answer_one(self, writer: asyncio.StreamWriter, number: int, arguments: tuple[Any, ...]) -> None:
        failure, outcome = None, None
        try:
            outcome = await self._answer(*arguments)
        except Exception as error:
            logger.exception("an image fails")
            failure = f"{type(error).__name__}: {error}"
        _write(writer, (number, failure, outcome))


class DirectLines:
    """The end of the gateway: to each replica that listens in a folder a connection, asked by those who wait least."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._lines: dict[str, _Line] = {}
        self._looked = -LOOK_SECONDS
        self._looking = asyncio.Lock()

    async def ask(self, *arguments: Any) -> Any:
        """The outcome of a replica for arguments.

        Raises NoLine where none listens, LineBroken where it ends meanwhile, and RuntimeError with what it failed of.
        """
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            await self._look()
        lines = [line for line in self._lines.values() if not line.is_broken]
        if not lines:
            raise NoLine
        return await min(lines, key=lambda line: line.waiting).ask(arguments)

    async def _look(self) -> None:
        """Connect to replicas that are new, and forget those that have ended."""
        async with self._looking:
            if time.monotonic() - self._looked < LOOK_SECONDS:
                return
            self._lines = {name: line for name, line in self._lines.items() if not line.is_broken}
            with contextlib.suppress(OSError):
                for name in os.listdir(self._folder):
                    if name not in self._lines:
                        await self._connect(name)
            self._looked = time.monotonic()

    async def _connect(self, name: str) -> None:
        try:
            ends = await asyncio.open_unix_connection(self._folder / name, limit=BUFFER_BYTES)
            self._lines[name] = _Line(*ends)
        except ConnectionRefusedError:  # left behind by one that was killed
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            logger.warning("replica %s cannot be reached directly: %s", name, error)


class _Line:
    """A connection to a replica, and who waits at it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._numbers = itertools.count()
        self._futures: dict[int, asyncio.Future[Any]] = {}
        self.is_broken = False
        self._reading = asyncio.create_task(self._read(reader))

    @property
    def waiting(self) -> int:
        """Questions without an answer so far."""
        return len(self._futures)

    async def ask(self, arguments: tuple[Any, ...]) -> Any:
        """What the replica says."""
        number = next(self._numbers)
        future = self._futures[number] = asyncio.get_running_loop().create_future()
        try:
            _write(self._writer, (number, arguments))
            return await future
        except asyncio.CancelledError:
            if not self.is_broken:
                _write(self._writer, (number, None))
            raise
        finally:
            self._futures.pop(number, None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                number, failure, outcome = await _read(reader)
                future = self._futures.get(number)
                if future is None or future.done():
                    continue
                if failure is None:
                    future.set_result(outcome)
                else:
                    future.set_exception(RuntimeError(failure))
        self.is_broken = True
        self._writer.close()
        for future in self._futures.values():
            if not future.done():
                future.set_exception(LineBroken())


def _forget(tasks: dict[int, asyncio.Task[None]], number: int, _: asyncio.Task[None]) -> None:
    tasks.pop(number, None)


def _write(writer: asyncio.StreamWriter, message: tuple[Any, ...]) -> None:
    packed = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    writer.write(_LENGTH.pack(len(packed)))
    writer.write(packed)


async def _read(reader: asyncio.StreamReader) -> Any:
    """The next message; EOFError at the end."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(length))
