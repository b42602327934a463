"""The gate before an alias: what a version must show beside the version that holds the alias now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypedDict

from maskray.platform.job.config import GateConfig

# Two metrics may differ by so much and count as equal, as margins are decimal numbers and metrics binary ones.
ROUNDING = 1e-9


class Check(TypedDict):
    """One thing that the gate asks; `least` or `most` is what `candidate` was held against, `holder` may be unknown."""

    name: str
    candidate: float | None
    holder: float | None
    least: float | None
    most: float | None
    passed: bool


class Latency(TypedDict):
    """Seconds of the median image, and the machine and images it was measured with."""

    seconds: float
    measured: str


class Comparison(TypedDict):
    """What a gate found: kept with the version whether it passed or not; `refusals` are whole sentences."""

    time: str
    name: str
    version: str
    alias: str
    holder: str | None
    passed: bool
    refusals: list[str]
    checks: list[Check]
    latency: Latency | None
    evaluation_set: str | None
    evaluation_digest: str | None
    gate: dict[str, Any]


class GateRefusedError(ValueError):
    """A version did not pass the gate before an alias; the comparison is stored with it."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        name, version, alias = comparison["name"], comparison["version"], comparison["alias"]
        reasons = "; ".join(comparison["refusals"])
        super().__init__(f"{name} version {version} does not get alias {alias}, the gate refuses: {reasons}")


def compare_at_gate(gate: GateConfig, alias: str, candidate: Any, holder: Any, latency: Latency | None) -> Comparison:
    """Hold a version against the one that has the alias (none where there is no holder yet) and against the limits.

    Both are MLflow's records of versions that maskray registered. `latency` is needed where the gate limits it.
    Metrics are compared only where both versions were evaluated on the same data, by digest and number of images.
    """
    refusals = _other_data(gate, candidate, holder)
    checks = [] if refusals else _metric_checks(gate, candidate, holder)
    checks += _limits(gate, candidate, latency)
    refusals += [_sentence(check) for check in checks if not check["passed"]]
    return Comparison(
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        name=candidate.name,
        version=str(candidate.version),
        alias=alias,
        holder=None if holder is None else str(holder.version),
        passed=not refusals,
        refusals=refusals,
        checks=checks,
        latency=latency,
        evaluation_set=candidate.tags.get("evaluation_set"),
        evaluation_digest=candidate.tags.get("evaluation_digest"),
        gate=gate.model_dump(mode="json"),
    )


def _other_data(gate: GateConfig, candidate: Any, holder: Any) -> list[str]:
    """Why metrics cannot be compared: at most one reason."""
    named = candidate.tags.get("evaluation_set")
    if named != gate.evaluation_set:
        return [f"it was evaluated on {named or 'no set that is known'}, the gate asks for {gate.evaluation_set}"]
    if holder is None:
        return []
    for key in ("evaluation_digest", "evaluated_images"):
        ours, theirs = candidate.tags.get(key), holder.tags.get(key)
        if ours is None or ours != theirs:
            return [
                f"its metrics are of other data than those of version {holder.version}, which has the alias "
                f"({key}: {_short(ours)} and {_short(theirs)})"
            ]
    return []


def _metric_checks(gate: GateConfig, candidate: Any, holder: Any) -> list[Check]:
    ours = _metrics(candidate)
    theirs = {} if holder is None else _metrics(holder)
    checks = []
    for name, margin in gate.metrics.items():
        value, other = ours.get(name), theirs.get(name)
        least = None if other is None else other - margin
        known = value is not None and (holder is None or other is not None)
        passed = known and (least is None or value is None or value >= least - ROUNDING)
        checks.append(Check(name=name, candidate=value, holder=other, least=least, most=None, passed=passed))
    return checks


def _limits(gate: GateConfig, candidate: Any, latency: Latency | None) -> list[Check]:
    limits: dict[str, tuple[float | None, float]] = {}
    if gate.latency is not None:
        assert latency is not None, "measured before the comparison"
        limits["latency, seconds"] = (latency["seconds"], gate.latency.seconds)
    if gate.max_bytes is not None:
        size = candidate.tags.get("size_bytes")
        limits["weights, bytes"] = (None if size is None else int(size), gate.max_bytes)
    return [
        Check(
            name=name, candidate=value, holder=None, least=None, most=most, passed=value is not None and value <= most
        )
        for name, (value, most) in limits.items()
    ]


def _metrics(version: Any) -> dict[str, float | None]:
    """Metrics of a version; COCO's -1 stands for one that is not defined."""
    stored: Mapping[str, float | None] = json.loads(version.tags.get("metrics", "{}"))
    return {name: None if value is None or value < 0 else value for name, value in stored.items()}


def _sentence(check: Check) -> str:
    name, value = check["name"], check["candidate"]
    if value is None:
        return f"{name} of the version is not known"
    if check["most"] is not None:
        return f"{name} is {shown(value)}, more than {shown(check['most'])}"
    if check["least"] is None:
        return f"{name} of the version that has the alias is not known"
    least, holder = shown(check["least"]), shown(check["holder"])
    return f"{name} is {shown(value)}, below {least} (the {holder} of the holder less the margin)"


def shown(value: float | None) -> str:
    """A metric as people read it; a dash for one that is not known."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10000 else f"{value:.6g}"


def _short(digest: str | None) -> str:
    return "unknown" if digest is None else digest[:12]
