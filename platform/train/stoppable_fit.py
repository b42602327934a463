"""Waits for Ray Train in a way that leaves signals to us: the first makes the workers write a checkpoint and end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from maskray.platform.files.lease import Lease
from maskray.platform.machine.stop_signals import StopRequested, StopSignals
from maskray.platform.train.checkpoint import list_checkpoints, step_of
from maskray.platform.train.run_files import RunFiles

POLL_SECONDS = 0.2
GRACE_SECONDS = 30.0  # what Kubernetes and most others give a process after SIGTERM


def fit_until_stopped(fit: Callable[[], Any], record: RunFiles, lease: Lease, signals: StopSignals) -> Any:
    """Call `fit` and return what it returns; at a signal, have the workers stop and raise StopRequested.

    It is called in another thread: in the main one Ray Train would take SIGINT, throw training away and exit with 1.
    Workers that do not answer in GRACE_SECONDS are left to end with this process, which is to end then without asking
    anything of Ray. Raises what `fit` raises, and LeaseLostError where another process has taken over meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():  # where no signal comes, as in a trial of a sweep
        result = fit()
        lease.check()
        return result
    results: list[Any] = []
    raised: list[BaseException] = []

    def call() -> None:
        try:
            results.append(fit())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call, name="fit", daemon=True)
    with signals.waiting():
        thread.start()
        while thread.is_alive() and signals.asked is None:
            thread.join(POLL_SECONDS)
        if signals.asked is not None:
            before = len(record.events())
            lease.ask_stop(signals.asked.name)
            thread.join(GRACE_SECONDS)
            lease.check()
            raise _stopped(StopRequested(signals.asked), record, before)
    lease.check()
    if raised:
        raise raised[0]
    return results[0]


def _stopped(stop: StopRequested, record: RunFiles, before: int) -> StopRequested:
    """The same with what became of the last steps, by the events since the first `before`."""
    written = [event["step"] for event in record.events()[before:] if event["event"] == "checkpoint"]
    newest = record.newest_metrics()
    done = 0 if newest is None else int(newest["step"])
    kept = list_checkpoints(record.checkpoints)
    last = step_of(kept[-1]) if kept else 0
    if written or (kept and last >= done):
        stop.detail = f" after step {last}, whose checkpoint is written"
    elif kept:
        stop.detail = f" near step {done}; the workers wrote no checkpoint in time, the last is of step {last}"
    else:
        stop.detail = f" near step {done}; the workers wrote no checkpoint in time, and there is none yet"
    return stop
