"""What comes to a worker from outside while it trains: its run's lease, wishes of the driver, notice of preemption."""

from __future__ import annotations

import time
from pathlib import Path

from maskray.platform.files.lease import LeaseWatch
from maskray.platform.files.lease_store import lease_store
from maskray.platform.train.context import Wishes

LOOK_SECONDS = 1.0


class WorkerLease:
    """The lease of a run as one of its workers sees it; a run without one is nobody else's."""

    def __init__(self, run_folder: str | Path, number: int | None) -> None:
        self._watch = None if number is None else LeaseWatch(lease_store(run_folder), number)
        self._looked = 0.0
        self._told_preemption = False

    def check(self) -> None:
        """Raise LeaseLostError where another process has the run by now: before each write."""
        if self._watch is not None:
            self._watch.check()

    def stop(self) -> str | None:
        """Why training is to end, if it is."""
        return None if self._watch is None else self._watch.stop()

    def wishes(self) -> Wishes:
        """To stop, where the driver wants it, looked at once a second; to save, once Ray says that a node goes away."""
        stop = False
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            stop = self.stop() is not None
        save = not self._told_preemption and preemption_is_near()
        self._told_preemption |= save
        return Wishes(save, stop)


def preemption_is_near() -> bool:
    """Whether a node with a worker of this group is being drained, as far as this worker was told.

    ray.train.get_preemption_info() gives the same to all workers, and to that end they wait for one another in each
    call; here it goes along with the losses instead.
    """
    from ray.train.v2._internal.execution.context import get_train_context

    return get_train_context().preemption_context.preemption_info is not None
