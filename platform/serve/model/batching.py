"""Which waiting images are computed together: those of like size, as many as came while the last batch computed.

The rule: as soon as the model is free, the image that has waited longest is taken, and with it others that the
network sees in the same padded size, in the order in which they came, up to max_batch_size together. Images of other
sizes wait for a batch of their own, so no image is padded to the size of another. None starves: every batch begins
with the oldest, so an image waits for no more batches than there were images before it. An idle model starts at
once, with one image, unless it is told to wait for more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class DeadlinePassed(Exception):
    """Nobody waits for this image any longer."""


@dataclass(eq=False)
class _Waiting(Generic[Item, Outcome]):
    item: Item
    group: Hashable
    expires: float
    future: asyncio.Future[Outcome]


class Batcher(Generic[Item, Outcome]):
    """Gathers what is submitted in one event loop into batches, and computes one batch at a time in an executor."""

    def __init__(
        self,
        compute: Callable[[list[Item]], Sequence[Outcome]],
        executor: Executor,
        max_batch_size: int,
        wait_seconds: float = 0.0,
    ) -> None:
        """compute takes a batch, all of one group, and gives an outcome for each in the same order."""
        self._compute = compute
        self._executor = executor
        self._max_batch_size = max_batch_size
        self._wait_seconds = wait_seconds
        self._waiting: list[_Waiting[Item, Outcome]] = []
        self._task: asyncio.Task[None] | None = None
        self._began: float | None = None

    @property
    def running_seconds(self) -> float:
        """How long the batch in work has been running; 0 where there is none."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    @property
    def is_busy(self) -> bool:
        """Whether what is submitted now has to wait."""
        return self._began is not None or bool(self._waiting)

    async def submit(self, item: Item, group: Hashable, timeout_seconds: float) -> Outcome:
        """The outcome of an item, computed with others of its group.

        Raises DeadlinePassed where it was not begun in time, and what `compute` raised. A caller that is cancelled
        takes its item away with it, if it is not in work already.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        entry = _Waiting(item, group, time.monotonic() + timeout_seconds, future)
        self._waiting.append(entry)
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        try:
            return await future
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    async def _work(self) -> None:
        try:
            while self._waiting:
                if self._wait_seconds and len(self._waiting) < self._max_batch_size:
                    await asyncio.sleep(self._wait_seconds)
                batch = self._take()
                if batch:
                    await self._run(batch)
        finally:
            self._task = None

    def _take(self) -> list[_Waiting[Item, Outcome]]:
        """The next batch; entries past their deadline are told so and left out."""
        now = time.monotonic()
        for entry in [entry for entry in self._waiting if entry.expires <= now]:
            self._waiting.remove(entry)
            if not entry.future.done():
                entry.future.set_exception(DeadlinePassed())
        if not self._waiting:
            return []
        group = self._waiting[0].group
        batch = [entry for entry in self._waiting if entry.group == group][: self._max_batch_size]
        self._waiting = [entry for entry in self._waiting if entry not in batch]
        return batch

    async def _run(self, batch: list[_Waiting[Item, Outcome]]) -> None:
        self._began = time.monotonic()
        try:
            items = [entry.item for entry in batch]
            outcomes = await asyncio.get_running_loop().run_in_executor(self._executor, self._compute, items)
        except Exception as error:
            for entry in batch:
                if not entry.future.done():
                    entry.future.set_exception(error)
        else:
            for entry, outcome in zip(batch, outcomes, strict=True):
                if not entry.future.done():
                    entry.future.set_result(outcome)
        finally:
            self._began = None
