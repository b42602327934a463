"""What is known of each trial, from the files it leaves in its run folder: nothing else has to survive a crash."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from maskray.platform.sweep.trials import Trial

if TYPE_CHECKING:
    from maskray.platform.train.run_files import RunFiles

TrialState = Literal["new", "begun", "finished", "stopped", "failed"]
OUTCOMES: tuple[TrialState, ...] = ("finished", "stopped", "failed")
MATCHES = Path("evaluation", "matches.npz")


@dataclass(frozen=True)
class TrialRecord:
    """The folder of one trial; `finished` has its metrics, `stopped` the step at which the scheduler ended it."""

    trial: Trial

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.trial.job.output, self.trial.name)

    @property
    def state(self) -> TrialState:
        """How far the trial is."""
        for outcome in OUTCOMES:
            if self._path(outcome).is_file():
                return outcome
        return "begun" if (self.folder / "job.yaml").is_file() else "new"

    @property
    def matches(self) -> Path:
        """Matches of every evaluated image, of a finished trial."""
        return self.folder / MATCHES

    @property
    def run_id(self) -> str | None:
        """Its run on the tracking server, once it has one."""
        path = self.folder / "run.json"
        return _read(path).get("run_id") if path.is_file() else None

    def outcome(self) -> dict[str, Any]:
        """What was kept of a trial that has ended; ValueError naming the file where it cannot be read."""
        return _read(self._path(self.state))

    def metrics(self) -> dict[str, float]:
        """COCO metrics of a finished trial by name, as fractions."""
        found: dict[str, float] = self.outcome()["figures"]
        return found

    def close(self, state: TrialState, **content: Any) -> None:
        """Write how the trial ended; from then on it is not run again, unless it failed."""
        from maskray.platform.files.storage import write_whole  # `maskray check` has no need of pyarrow

        self.folder.mkdir(parents=True, exist_ok=True)  # it may have failed before it had one
        write_whole(self._path(state), json.dumps({"label": self.trial.label, **content}, indent=1))

    def reopen(self) -> None:
        """Forget a failure, to try again; a folder in which no run was begun goes with it."""
        self._path("failed").unlink(missing_ok=True)
        if self.state == "new":
            shutil.rmtree(self.folder, ignore_errors=True)

    def step(self) -> int:
        """Steps trained so far."""
        metrics = self._history().newest_metrics() if self.folder.is_dir() else None
        return int(metrics["step"]) if metrics else 0

    def evaluations(self, metric: str) -> list[tuple[int, float]]:
        """(step, value) of a metric at each evaluation in training."""
        lines = self._history().history() if self.folder.is_dir() else []
        return [(line["step"], line[f"val/{metric}"]) for line in lines if line.get(f"val/{metric}") is not None]

    def _history(self) -> RunFiles:
        from maskray.platform.train.run_files import RunFiles

        return RunFiles(self.folder)

    def _path(self, state: TrialState) -> Path:
        return self.folder / f"trial-{state}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable: {error}") from None
    return content
