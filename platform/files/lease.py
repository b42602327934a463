"""A lease on a folder: one process holds it, says that it lives, and is told apart from who held it before.

The number of a lease grows with each holder (a fencing token): who works for a holder checks before each write that
the number is still there. The record of a number is made once, overwritten by its holder with each beat, and deleted
by who takes over; four operations that a store must have, see LeaseStore.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from maskray.platform.files.lease_store import LeaseStore
from maskray.platform.files.process_identity import ProcessIdentity, has_ended, this_process

BEAT_SECONDS = 3.0
# Longer than attributes of files and folders are kept by NFS, whose word may be 60 s old.
EXPIRE_SECONDS = 90.0
RECORD_BYTES = 1024  # of every record, so that it is overwritten in one write and never cut


class LeaseHeldError(ValueError):
    """Another process holds the lease."""


class LeaseLostError(ValueError):
    """The lease was taken over, released, or its holder gives no sign: nothing may be written any more."""


@dataclass(frozen=True)
class LeaseRecord:
    """What a holder says of itself; `stop` is why those that work for it are to end, if they are."""

    process: ProcessIdentity
    since: str
    beat: int = 0
    stop: str | None = None
    released: bool = False

    def pack(self) -> bytes:
        """As bytes, always as many."""
        data = json.dumps(asdict(self)).encode()
        assert len(data) < RECORD_BYTES
        return data.ljust(RECORD_BYTES - 1) + b"\n"

    @classmethod
    def unpack(cls, data: bytes) -> LeaseRecord | None:
        """From bytes; None where they are not a record."""
        try:
            tree = json.loads(data)
            return cls(**tree | {"process": ProcessIdentity(**tree["process"])})
        except (ValueError, TypeError, KeyError):
            return None

    @property
    def holder(self) -> str:
        """Who it is, for people."""
        return f"process {self.process.pid} on {self.process.host}, since {self.since}"


def holder_of(store: LeaseStore) -> str | None:
    """Who holds a lease, for people: what can be known at once, by a look that changes nothing.

    Who takes it over looks longer, and compares no clocks of two machines (Lease).
    """
    number = max(store.numbers(), default=0)
    data = store.read(number) if number else None
    record = None if data is None else LeaseRecord.unpack(data)
    if record is None or record.released or has_ended(record.process):
        return None
    age = store.age_seconds(number)
    return record.holder if age is not None and age < EXPIRE_SECONDS else None


class Lease:
    """Held by this process from its making to `release`, or to the end of a `with`; a thread beats meanwhile."""

    def __init__(
        self,
        store: LeaseStore,
        tell: Callable[[str], None] = lambda line: None,
        expire_seconds: float = EXPIRE_SECONDS,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        """Take the lease; LeaseHeldError, after a few beats at most, names the process that has it and lives.

        A holder of this machine whose process has ended is followed at once, one of another machine when its record
        has stood still for `expire_seconds`, which is told by `tell`; clocks of two machines are never compared.
        """
        self._store, self._expire_seconds, self._beat_seconds = store, expire_seconds, beat_seconds
        self._record = LeaseRecord(this_process(), datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"))
        self._lock, self._over = threading.Lock(), threading.Event()
        self.number = self._take(tell)
        self._beaten = time.monotonic()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def check(self) -> None:
        """Raise LeaseLostError where another process has taken over, or could have."""
        if time.monotonic() - self._beaten > self._expire_seconds or self._store.read(self.number) is None:
            raise LeaseLostError(f"{self._store}: the lease was lost{self._taken_by()}; this process ends")

    def ask_stop(self, reason: str) -> None:
        """Tell those that work for this holder to end."""
        self._write(stop=reason)

    def release(self) -> None:
        """Give it up."""
        if not self._over.is_set():
            self._over.set()
            self._write(released=True)
            self._thread.join()

    def _take(self, tell: Callable[[str], None]) -> int:
        while True:
            numbers = self._store.numbers()
            newest = max(numbers, default=0)
            if newest:
                self._outlive(newest, tell)
            mine = newest + 1
            if not self._store.create(mine, self._record.pack()):
                continue  # another process was faster
            if max(self._store.numbers()) != mine:  # and was followed by another one since
                self._store.delete(mine)
                continue
            for number in numbers:
                self._store.delete(number)
            return mine

    def _outlive(self, number: int, tell: Callable[[str], None]) -> None:
        """Return when the holder of a number is known to be gone."""
        first = self._store.read(number)
        record = None if first is None else LeaseRecord.unpack(first)
        if first is None or (record is not None and (record.released or has_ended(record.process))):
            return
        who = "an unknown process" if record is None else record.holder
        until, told = time.monotonic() + self._expire_seconds, False
        quiet = time.monotonic() + 4 * self._beat_seconds
        while time.monotonic() < until:
            now = self._store.read(number)
            if now is None:
                return
            if now != first:
                raise LeaseHeldError(f"{self._store}: held by {who}; stop that first, or wait for its end")
            if not told and time.monotonic() > quiet:
                tell(f"{self._store}: {who} gives no sign; it is taken over after {self._expire_seconds:g} s of that")
                told = True
            time.sleep(min(0.5, self._beat_seconds / 4))

    def _beat(self) -> None:
        while not self._over.wait(self._beat_seconds):
            if time.monotonic() - self._beaten > self._expire_seconds:
                return  # too late: another process may have it
            self._write(beat=self._record.beat + 1)

    def _write(self, **changes: object) -> None:
        with self._lock:
            self._record = replace(self._record, **changes)  # type: ignore[arg-type]
            try:
                written = self._store.overwrite(self.number, self._record.pack())
            except OSError:
                return  # storage that is away may come back in time
            if written:
                self._beaten = time.monotonic()

    def _taken_by(self) -> str:
        newest = max(self._store.numbers(), default=0)
        data = self._store.read(newest) if newest > self.number else None
        record = None if data is None else LeaseRecord.unpack(data)
        return "" if record is None else f" to {record.holder}"


class LeaseWatch:
    """What a process that works for a holder knows of its lease."""

    def __init__(self, store: LeaseStore, number: int, expire_seconds: float = EXPIRE_SECONDS) -> None:
        self._store, self._number, self._expire_seconds = store, number, expire_seconds
        self._seen: tuple[float, bytes] | None = None

    def check(self) -> None:
        """Raise LeaseLostError unless the holder holds it and lives: to be called before each write."""
        self.stop()

    def stop(self) -> str | None:
        """Why the holder wants this process to end, if it does; LeaseLostError as of check."""
        data = self._store.read(self._number)
        record = None if data is None else LeaseRecord.unpack(data)
        if data is None or record is None or record.released:
            raise LeaseLostError(f"{self._store}: the process that this worker belongs to has given it up")
        now = time.monotonic()
        if self._seen is None or self._seen[1] != data:
            self._seen = now, data
        elif now - self._seen[0] > self._expire_seconds:
            raise LeaseLostError(f"{self._store}: no sign of {record.holder} for {self._expire_seconds:g} s")
        return record.stop
