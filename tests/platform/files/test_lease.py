"""Tests of leases: one holder at a time among processes, takeover of the dead, and nothing written by who lost it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskray.platform.files.lease import Lease, LeaseHeldError, LeaseLostError, LeaseRecord, LeaseWatch
from maskray.platform.files.lease_store import FolderStore
from maskray.platform.files.process_identity import ProcessIdentity, has_ended, this_process

HOLD = """
import sys, time
from maskray.platform.files.lease import Lease
from maskray.platform.files.lease_store import FolderStore
try:
    lease = Lease(FolderStore(sys.argv[1]), beat_seconds=0.2, expire_seconds=120)
except ValueError as error:
    print("held", error, flush=True)
else:
    print(lease.number, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "lease")


def hold(store: FolderStore) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", HOLD, str(store)], stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def write(store: FolderStore, number: int, process: ProcessIdentity, **changes: object) -> None:
    assert store.create(number, LeaseRecord(process, "2026-01-02 03:04:05 UTC", **changes).pack())  # type: ignore[arg-type]


def test_one_of_many_processes_gets_it_and_the_others_name_it(store: FolderStore) -> None:
    processes = [hold(store) for _ in range(4)]
    try:
        lines = [first_line(process) for process in processes]
        (winner,) = [process for process, line in zip(processes, lines) if line == "1"]
        for line in lines:
            assert line == "1" or (line.startswith("held") and f"held by process {winner.pid} on " in line), lines
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_killed_holder_of_this_machine_is_followed_at_once(store: FolderStore) -> None:
    process = hold(store)
    assert first_line(process) == "1"
    with pytest.raises(LeaseHeldError, match=rf"held by process {process.pid} on .*, since .* UTC; stop that first"):
        Lease(store)
    process.kill()  # not waited for: what is left of it has its number still
    while not has_ended(LeaseRecord.unpack(store.read(1) or b"").process):  # type: ignore[union-attr]
        time.sleep(0.02)
    with Lease(store, expire_seconds=1e6) as lease:
        assert lease.number == 2
        assert store.numbers() == [2]
    process.wait()
    with Lease(store, expire_seconds=1e6) as lease:  # a lease that was given up is followed at once, too
        assert lease.number == 3


def test_a_holder_that_wakes_up_after_it_was_followed_writes_nothing(store: FolderStore) -> None:
    process = hold(store)
    assert first_line(process) == "1"
    watch = LeaseWatch(store, 1)
    watch.check()
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    told: list[str] = []
    with Lease(store, told.append, expire_seconds=1.5, beat_seconds=0.1) as lease:
        assert lease.number == 2
        assert f"process {process.pid} on " in told[0]
        assert "gives no sign" in told[0]
        with pytest.raises(LeaseLostError, match="given it up"):
            watch.check()
        process.send_signal(signal.SIGCONT)
        time.sleep(0.6)  # its beat comes now
        assert store.numbers() == [2]
        lease.check()
    process.kill()
    process.wait()


def test_a_holder_of_another_machine_is_judged_by_its_beats_alone(store: FolderStore) -> None:
    """Not by its clock, nor by whether a process of its number lives here."""
    other = ProcessIdentity("elsewhere", os.getpid(), "another boot", 1)
    write(store, 7, other)
    started = time.monotonic()
    with Lease(store, expire_seconds=0.5, beat_seconds=0.1) as lease:
        assert time.monotonic() - started >= 0.5
        assert lease.number == 8


def test_the_holder_finds_out_that_it_was_followed(store: FolderStore) -> None:
    first = Lease(store, beat_seconds=1000)
    first.check()
    store.delete(1)
    write(store, 2, ProcessIdentity("elsewhere", 12, "another boot", 1))
    with pytest.raises(LeaseLostError, match="the lease was lost to process 12 on elsewhere, since 2026-01-02"):
        first.check()
    first.release()
    assert store.numbers() == [2]


def test_a_holder_that_could_not_beat_for_long_holds_nothing(store: FolderStore) -> None:
    with Lease(store, beat_seconds=1000, expire_seconds=0.1) as lease:
        time.sleep(0.2)
        with pytest.raises(LeaseLostError):
            lease.check()


def test_workers_hear_that_they_are_to_stop_and_end_without_their_holder(store: FolderStore) -> None:
    lease = Lease(store, beat_seconds=0.1)
    watch = LeaseWatch(store, lease.number, expire_seconds=0.5)
    for _ in range(8):  # longer than it takes to expire
        watch.check()
        time.sleep(0.1)
    assert watch.stop() is None
    lease.ask_stop("SIGTERM")
    assert watch.stop() == "SIGTERM"
    lease.release()
    with pytest.raises(LeaseLostError):
        watch.check()
    write(store, 9, this_process())
    orphan = LeaseWatch(store, 9, expire_seconds=0.1)
    orphan.check()
    time.sleep(0.2)
    with pytest.raises(LeaseLostError, match="no sign of process"):
        orphan.check()


def test_what_is_no_record_is_waited_for_and_followed(store: FolderStore) -> None:
    for number, data in enumerate((b"", b"{}", b'{"process": 3}', b"\x00" * 1024), start=1):
        for old in store.numbers():
            store.delete(old)
        store.create(number, data)
        with Lease(store, expire_seconds=0.2, beat_seconds=0.1) as lease:
            assert lease.number == number + 1
        with pytest.raises(LeaseLostError):
            LeaseWatch(store, number).check()


def test_a_number_is_made_once_and_never_again_by_a_beat(store: FolderStore) -> None:
    assert store.create(1, b"one")
    assert not store.create(1, b"two")
    assert store.read(1) == b"one"
    assert store.overwrite(1, b"six")
    assert store.read(1) == b"six"
    store.delete(1)
    assert not store.overwrite(1, b"one")
    assert store.read(1) is None
    assert store.numbers() == []
    assert os.listdir(str(store)) == [], "nothing half made is left"
