"""A run on its way: its folder, what is done of it already, and how long each stage took."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from maskray.platform.files.storage import write_whole
from maskray.platform.job.config import JobConfig
from maskray.platform.machine.terminal import escape, tell
from maskray.platform.registry.server_errors import wait_for_server
from maskray.platform.registry.tracking import Tracking
from maskray.platform.runs.run_folder import STATE_FILE

Result = TypeVar("Result")


@dataclass
class OpenRun:
    """A run in its folder; `job` is as it was written, `state` what a resumed run must know."""

    job: JobConfig
    folder: Path
    tracking: Tracking
    resume: bool
    state: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    console: Console = field(default_factory=Console)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Tell that a stage begins, and take its time."""
        self.console.print(f"[bold]{escape(name)}[/]", soft_wrap=True)
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 1)

    def remember(self, **values: Any) -> None:
        """Keep what a resumed run must know."""
        self.state |= values
        write_whole(self.folder / STATE_FILE, json.dumps(self.state, indent=1))

    def publish(self, work: Callable[[], Result]) -> Result:
        """Do what needs the tracking server, and wait for it as long as the job allows."""
        return wait_for_server(work, self.job.tracking.wait_seconds, self.tell)

    def tell(self, line: str) -> None:
        """Print one line as it is."""
        tell(self.console, line)
