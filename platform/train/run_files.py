"""What a run writes down as it goes: history.jsonl (metrics), events.jsonl (what happened) and failure.json."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskray.platform.files.atomic import replaced_file


@dataclass(frozen=True)
class Failure:
    """A mistake that another try would only repeat: where it was made and one line that says what it is."""

    kind: str
    rank: int
    message: str


class RunFiles:
    """The files of one run folder that training writes and others read while it runs."""

    def __init__(self, run_folder: str | Path, check: Callable[[], None] = lambda: None) -> None:
        """`check` is called before each write, and raises where the run is another process's by now."""
        self.check = check
        self.folder = Path(run_folder)
        self.checkpoints = self.folder / "checkpoints"
        self.history_path = self.folder / "history.jsonl"
        self.events_path = self.folder / "events.jsonl"
        self._failure_path = self.folder / "failure.json"

    def log(self, metrics: dict[str, float], step: int) -> int:
        """Append one line of metrics to history.jsonl and return its time in milliseconds since 1970.

        A number that is not finite is stored as null.
        """
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        milliseconds = int(time.time() * 1000)
        self.check()
        _append(self.history_path, {"step": step, "time": milliseconds / 1000, **finite})
        return milliseconds

    def history(self) -> list[dict[str, Any]]:
        """All lines of history.jsonl, by time."""
        return _read_lines(self.history_path)

    def metric_rows(self) -> list[tuple[int, int, dict[str, float]]]:
        """The history as step, milliseconds since 1970 and metrics; null becomes NaN."""
        return [
            (
                line["step"],
                round(line["time"] * 1000),
                {
                    name: math.nan if value is None else value
                    for name, value in line.items()
                    if name not in ("step", "time")
                },
            )
            for line in self.history()
        ]

    def newest_metrics(self) -> dict[str, Any] | None:
        """The last line of history.jsonl that holds a training loss, read from the end of the file."""
        lines = _read_lines(self.history_path, tail_bytes=16384)
        lines = [line for line in lines if "loss" in line and isinstance(line.get("step"), int)]
        return lines[-1] if lines else None

    def forget_after(self, step: int) -> None:
        """Drop the lines of history.jsonl after `step`: training goes on from there and writes them again."""
        self.check()
        lines = [line for line in self.history() if line["step"] <= step]
        with replaced_file(self.history_path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def note(self, event: str, **details: Any) -> None:
        """Append an event and its details to events.jsonl."""
        self.check()
        _append(self.events_path, {"event": event, "time": round(time.time(), 3), **details})

    def events(self) -> list[dict[str, Any]]:
        """All lines of events.jsonl, by time."""
        return _read_lines(self.events_path)

    def write_failure(self, failure: Failure) -> None:
        """Leave a failure for the launcher and for restarted workers; the first one stays."""
        self.check()
        if self.failure() is None:
            with replaced_file(self._failure_path) as temporary:
                temporary.write_text(json.dumps(vars(failure)) + "\n", encoding="utf-8")

    def failure(self) -> Failure | None:
        """The failure left by a worker, if any; ValueError for a file that none left."""
        try:
            return Failure(**json.loads(self._failure_path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self._failure_path}: no failure of a worker: {error}") from None

    def clear_failure(self) -> None:
        """Forget the failure of an earlier try."""
        self._failure_path.unlink(missing_ok=True)


def _append(path: Path, line: dict[str, Any]) -> None:
    """One write per line, so that lines of several processes do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = (json.dumps(line, allow_nan=False) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _read_lines(path: Path, tail_bytes: int | None = None) -> list[dict[str, Any]]:
    """The complete lines of a JSONL file; a first or last line cut short is left out."""
    try:
        with path.open("rb") as file:
            if tail_bytes is not None:
                file.seek(max(0, path.stat().st_size - tail_bytes))
            data = file.read()
    except FileNotFoundError:
        return []
    lines = []
    for text in data.split(b"\n")[:-1]:
        try:
            line = json.loads(text)
        except ValueError:
            continue  # the end of a line cut by a kill or by the seek
        if isinstance(line, dict):
            lines.append(line)
    return lines
