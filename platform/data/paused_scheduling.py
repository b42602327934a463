"""Keeps Ray Data's scheduling loop from taking a core of the process that trains."""

from __future__ import annotations

import time
from typing import Any

from ray.data._internal.execution.execution_callback import ExecutionCallback

PAUSE_SECONDS = 0.02


class PausedScheduling(ExecutionCallback):  # the base class that DataContext.custom_execution_callback_classes asks for
    """Rest after each round of the loop.

    While enough is read ahead, a finished task stays ready and is not taken. The loop then waits for nothing and turns
    as fast as it can: measured, as much CPU time as the training thread beside it.
    """

    def on_execution_step(self, executor: Any) -> None:
        """Let other threads work; a round that takes what is ready takes all of it, so few rounds are enough."""
        time.sleep(PAUSE_SECONDS)
