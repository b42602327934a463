"""What a soak has shown: answers that nobody earned, kills that were not got over, memory that grows."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

BACK_SECONDS = 20.0  # in which a killed part is replaced, or the server has ended with a line
YOUNG_SECONDS = 60.0  # of a process, in which its memory may grow as it likes
GROWTH, GROWTH_MIB = 1.25, 64.0  # what is level: both must be passed to be growth


@dataclass(frozen=True)
class Answer:
    """A request from `began` to `ended` (seconds of one clock); `status` None where the connection failed."""

    kind: str
    began: float
    ended: float
    status: int | None
    allowed: frozenset[int]
    told: str = ""


@dataclass(frozen=True)
class Kill:
    """Of a process at `at`; `back` when the server answered again, or had ended with the line `line` and was restarted.

    `listens` where connections end with the process.
    """

    title: str
    at: float
    back: float
    listens: bool
    line: str | None = None


def unearned(answers: Iterable[Answer], kills: Sequence[Kill]) -> Counter[str]:
    """What clients got that they did not earn, by kind; a cut connection is earned while what listened is dead."""
    found: Counter[str] = Counter()
    for answer in answers:
        if answer.status in answer.allowed:
            continue
        cut = any(kill.listens and answer.began <= kill.back and answer.ended >= kill.at for kill in kills)
        if not (answer.status is None and cut):
            found[f"{answer.kind}: {answer.status or answer.told}, not {sorted(answer.allowed)}"] += 1
    return found


def slow_returns(kills: Iterable[Kill]) -> list[str]:
    return [
        f"{kill.title}: {kill.back - kill.at:.1f} s until the server answered again"
        for kill in kills
        if kill.back - kill.at > BACK_SECONDS
    ]


def growing(memory: Mapping[tuple[str, int], Sequence[tuple[float, float]]]) -> list[str]:
    """Of (seconds, MiB) of each process, by title and id: those whose last quarter has more than their second."""
    found = []
    for (title, process), samples in memory.items():
        grown = [mib for at, mib in samples if at - samples[0][0] > YOUNG_SECONDS]
        if len(grown) < 8:
            continue
        quarter = len(grown) // 4
        before, after = statistics.median(grown[quarter : 2 * quarter]), statistics.median(grown[-quarter:])
        if after > GROWTH * before and after > before + GROWTH_MIB:
            found.append(f"{title} ({process}): {before:.0f} MiB, then {after:.0f}")
    return found
