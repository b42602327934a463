"""Moves an alias from version to version: past a gate where one guards it, one at a time, with the way back kept."""

from __future__ import annotations

import getpass
import json
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Literal, TypedDict

from maskray.platform.job.config import GateConfig, LatencyLimit
from maskray.platform.registry.gate import Comparison, GateRefusedError, Latency, compare_at_gate
from maskray.platform.registry.models import URI, check_names, find_version
from maskray.platform.registry.server_errors import ServerAwayError, readable_errors
from maskray.platform.registry.tracking import Tracking

# Tags of a registered model. MLflow stores each by itself, so that two writers never lose each other's.
MOVE, GUARD, CLAIM = "alias_move", "alias_gate", "alias_claim"
COMPARISON = "comparison"  # of a version
CLAIM_SECONDS = 60.0  # a claim that is older belongs to a process that died
LONGEST_REASON = 1000

Way = Literal["plain", "gate", "without gate", "rollback"]
Measure = Callable[[str, LatencyLimit], Latency]


class Move(TypedDict):
    """One move of an alias, `before` the version that had it; `time` is ISO 8601 in UTC."""

    alias: str
    version: str
    before: str | None
    time: str
    by: str
    way: Way
    reason: str | None


def promote(
    tracking: Tracking,
    name: str,
    version: str,
    alias: str,
    gate: GateConfig | None = None,
    without_gate: str | None = None,
    measure: Measure | None = None,
) -> Comparison | None:
    """Give an alias to a version, past a gate where one is given, and return what the gate found.

    `measure(models:/ URI, limit)` times the version where the gate limits its latency. Once a gate was asked of an
    alias, the alias moves with a gate or `without_gate`, the reason why, which is kept. The comparison is kept with the
    version. Nothing is done where the version has the alias. Raises GateRefusedError, or ValueError where name or
    version does not exist, the alias is guarded or not allowed, or another promotion of it takes its time.
    """
    check_names(name, alias)
    if gate is not None and without_gate is not None:
        raise ValueError("give a gate, or the reason to promote without one, not both")
    _check_reason(without_gate)
    candidate = find_version(tracking, f"{URI}{name}/{version}")
    version = str(candidate.version)  # 3, where 03 was written
    with readable_errors(f"promoting {name} version {version}"):
        client = tracking.client
        if _holder(client, name, alias) == version:
            return None
        latency: Latency | None = None
        if gate is not None and gate.latency is not None:
            assert measure is not None, "a gate with a limit of latency comes with a way to measure it"
            latency = measure(f"{URI}{name}/{version}", gate.latency)
            client.set_model_version_tag(name, version, "latency", json.dumps(latency))
        with _sole_mover(client, name, alias) as check_time:
            before = _holder(client, name, alias)
            if before == version:
                return None
            comparison = None
            if gate is not None:
                holder = None if before is None else client.get_model_version(name, before)
                comparison = compare_at_gate(gate, alias, candidate, holder, latency)
                _keep(client, comparison)
                if not comparison["passed"]:
                    raise GateRefusedError(comparison)
            elif without_gate is None:
                check_guard(tracking, name, alias)
            check_time()
            way: Way = "gate" if gate else "without gate" if without_gate else "plain"
            _move(client, name, _new_move(alias, version, before, way, without_gate))
    return comparison


def rollback(tracking: Tracking, name: str, alias: str, reason: str | None = None) -> Move:
    """Give an alias back to the version that had it before, and return that move; once more goes back further.

    Raises ValueError where no version had it before, or that version is no longer there.
    """
    check_names(name, alias)
    _check_reason(reason)
    tracking.check_server()
    with readable_errors(f"rolling back {name}@{alias}"):
        client = tracking.client
        with _sole_mover(client, name, alias) as check_time:
            present = _holder(client, name, alias)
            earlier = _earlier_holders(alias_moves(tracking, name, alias), present)
            if not earlier:
                raise ValueError(f"{URI}{name}@{alias}: no version is known that had the alias before {present}")
            find_version(tracking, f"{URI}{name}/{earlier[-1]}")
            check_time()
            move = _new_move(alias, earlier[-1], present, "rollback", reason)
            _move(client, name, move)
    return move


def alias_moves(tracking: Tracking, name: str, alias: str | None = None) -> list[Move]:
    """Every move of an alias, or of all aliases of a registered model, the oldest first."""
    with readable_errors(f"reading {name}"):
        tags = tracking.client.get_registered_model(name).tags
    moves = [json.loads(tags[key]) for key in sorted(tags) if key.startswith(f"{MOVE}.")]
    return [move for move in moves if alias is None or move["alias"] == alias]


def comparisons_of(version: Any) -> list[Comparison]:
    """What gates found of MLflow's record of a version, the oldest first."""
    return [json.loads(text) for key, text in sorted(version.tags.items()) if key.startswith(f"{COMPARISON}.")]


def check_guard(tracking: Tracking, name: str, alias: str) -> None:
    """Raise ValueError where an alias is guarded by a gate, for those who come without one."""
    from mlflow.exceptions import MlflowException

    try:
        with readable_errors(f"reading {name}"):
            tags = tracking.client.get_registered_model(name).tags
    except ValueError as error:
        cause = error.__cause__
        if isinstance(cause, MlflowException) and cause.error_code in ("RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED"):
            return  # the first version is still to come; a server with passwords says no more than "permission denied"
        raise
    if f"{GUARD}.{alias}" in tags:
        raise ValueError(
            f"{URI}{name}@{alias} is guarded by a gate: promote with --gate FILE (tracking.gate in a job), or with "
            "--without-gate REASON, which is kept"
        )


@contextmanager
def _sole_mover(client: Any, name: str, alias: str) -> Iterator[Callable[[], None]]:
    """Be the only one who moves an alias, as far as clocks agree within half a minute.

    MLflow sets an alias without comparing what it was. So each mover first writes a claim and then reads those of the
    others: of two at a time at least one sees the other, withdraws and tries again after a while of its own. What is
    yielded is called before the first write: it raises ServerAwayError where the server was so slow that the claim may
    soon be taken for that of a dead process.
    """
    own = f"{CLAIM}.{alias}.{uuid.uuid4().hex}"
    for _ in range(100):
        until = time.monotonic() + CLAIM_SECONDS / 2
        client.set_registered_model_tag(name, own, str(time.time()))
        tags = client.get_registered_model(name).tags
        others = {key: float(tags[key]) for key in tags if key.startswith(f"{CLAIM}.{alias}.") and key != own}
        dead = [key for key, since in others.items() if time.time() - since > CLAIM_SECONDS]
        for key in dead:
            client.delete_registered_model_tag(name, key)
            del others[key]
        if not others:
            break
        client.delete_registered_model_tag(name, own)
        time.sleep(random.uniform(0.1, 1.5))
    else:
        raise ValueError(f"{URI}{name}@{alias}: another promotion has been at work for a minute; try again")

    def check_time() -> None:
        if time.monotonic() > until:
            raise ServerAwayError(f"{URI}{name}@{alias}: the server is too slow to move it safely; try again")

    try:
        yield check_time
    finally:
        # A claim that stays counts for a minute; what came of the move is what has to be told.
        with suppress(ValueError), readable_errors(f"{URI}{name}@{alias}: release the claim"):
            client.delete_registered_model_tag(name, own)


def _move(client: Any, name: str, move: Move) -> None:
    """Write a move down and make it: a process that dies in between leaves a line that rollback sees through."""
    client.set_registered_model_tag(name, f"{MOVE}.{time.time_ns():020d}", json.dumps(move, ensure_ascii=False))
    client.set_registered_model_alias(name, move["alias"], move["version"])


def _earlier_holders(moves: list[Move], present: str | None) -> list[str]:
    """The versions that had the alias before the present one, the latest last.

    A rollback undoes moves. What a move says was before it corrects those before: one that was written down and never
    made, or one that others made by other means.
    """
    holders: list[str] = []
    for move in moves:
        before, version = move["before"], move["version"]
        if before in holders:
            _pop_after(holders, before)
        elif before is not None:
            holders.append(before)
        if move["way"] == "rollback" and version in holders:
            _pop_after(holders, version)
        else:
            holders.append(version)
    if present in holders:
        _pop_after(holders, present)
        holders.pop()
    return holders


def _pop_after(holders: list[str], version: str) -> None:
    while holders[-1] != version:
        holders.pop()


def _keep(client: Any, comparison: Comparison) -> None:
    """Keep a comparison with its version, and that its alias is guarded with the model."""
    name, version, alias = comparison["name"], comparison["version"], comparison["alias"]
    client.set_registered_model_tag(name, f"{GUARD}.{alias}", json.dumps(comparison["gate"]))
    client.set_model_version_tag(name, version, f"{COMPARISON}.{time.time_ns():020d}", json.dumps(comparison))


def _holder(client: Any, name: str, alias: str) -> str | None:
    version = client.get_registered_model(name).aliases.get(alias)
    return None if version is None else str(version)


def _new_move(alias: str, version: str, before: str | None, way: Way, reason: str | None) -> Move:
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    by = os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    return Move(alias=alias, version=version, before=before, time=moment, by=by, way=way, reason=reason)


def _check_reason(reason: str | None) -> None:
    if reason is not None and not 0 < len(reason.strip()) <= LONGEST_REASON:
        raise ValueError(f"a reason has 1 to {LONGEST_REASON} characters")
