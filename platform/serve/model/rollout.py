"""Which version each replica shall serve: a new one goes to one replica first, and to all once it answers there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

SILENT_SECONDS = 15.0  # after which a replica that reports no longer is taken for dead
MOST_TRIES = 2  # replicas that may die over a version before it is given up: one may die of something else


@dataclass(frozen=True)
class Target:
    """A version to serve, in a folder that is checked and that every node sees."""

    name: str
    version: str
    folder: str


@dataclass(frozen=True)
class Report:
    """What a replica says: what it serves, none at its start, and the versions it could not load, with reasons."""

    replica: str
    serves: Target | None
    failed: Mapping[str, str]


@dataclass
class _Trial:
    target: Target
    replica: str | None = None
    tries: int = 0


@dataclass
class Rollout:
    """The version that all serve, one that is being tried, and those that failed with the reason.

    `good` is a guess until a replica reports: whoever decides here may be new, and they may be further.
    """

    good: Target
    failed: dict[str, str] = field(default_factory=dict)
    _heard: bool = False
    _trial: _Trial | None = None
    _seen: dict[str, tuple[str | None, float]] = field(default_factory=dict)

    @property
    def wanted(self) -> str:
        """The version that is tried, or else the one that is served."""
        return self._trial.target.version if self._trial else self.good.version

    def offer(self, target: Target) -> None:
        """Try a version, in place of another that is being tried; the one that all serve already ends the trial."""
        self._trial = None if target.version == self.good.version else _Trial(target)

    def fail(self, version: str, reason: str) -> None:
        """Give a version up; the one that was served goes on."""
        self.failed[version] = reason
        if self._trial is not None and self._trial.target.version == version:
            self._trial = None

    def forget(self) -> None:
        """Let versions that failed be tried again: the alias was moved."""
        self.failed.clear()

    def report(self, report: Report, now: float | None = None) -> Target:
        """Take down what a replica says, and tell it what to serve."""
        now = time.monotonic() if now is None else now
        serves = report.serves.version if report.serves else None
        self._seen[report.replica] = (serves, now)
        self._seen = {name: seen for name, seen in self._seen.items() if now - seen[1] < SILENT_SECONDS}
        if report.serves is not None and not self._heard:
            self.good, self._heard = report.serves, True
        trial = self._trial
        if trial is None:
            return self.good
        version = trial.target.version
        if serves == version:
            self.good, self._trial = trial.target, None
            return self.good
        if trial.replica == report.replica and version in report.failed:
            self.fail(version, report.failed[version])
            return self.good
        if trial.replica is not None and trial.replica not in self._seen:
            trial.replica = None
            if trial.tries >= MOST_TRIES:
                self.fail(version, f"{trial.tries} replicas died when they loaded it")
                return self.good
        if trial.replica is None and serves is not None:  # one that starts has nothing to fall back on
            trial.replica = report.replica
            trial.tries += 1
        return trial.target if trial.replica == report.replica else self.good

    def versions(self) -> dict[str, int]:
        """Replicas that serve each version, as they said last."""
        counts: dict[str, int] = {}
        for version, _ in self._seen.values():
            if version is not None:
                counts[version] = counts.get(version, 0) + 1
        return counts
