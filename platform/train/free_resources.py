"""Waits until the cluster has free what training takes, one training after the other, so that none waits in silence."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray._private import state
from ray.exceptions import RayError
from ray.experimental import internal_kv

from maskray.platform.job.config import DATA_CPUS, ResourceConfig
from maskray.platform.train.cluster_checks import fits

POLL_SECONDS = 1.0
TELL_SECONDS = 5.0
STALE_SECONDS = 300.0  # without a word of who is about to start, whose process may have been lost
STARTING = b"maskray:starting"  # in the key-value store of the cluster's head: who may take resources now
TRAINING = b"maskray:training:"  # and who has


class ResourcesBusyError(ValueError):
    """Others of the cluster kept what training needs for longer than resources.wait_seconds."""


@contextlib.contextmanager
def free_resources(resources: ResourceConfig, who: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Enter when the CPUs and GPUs of workers and readers are free, and no other training is about to take them.

    Ray Train waits for its workers for ever, and takes them where none is left for Ray Data too, which then waits as
    well. The next training is let in by `let_next_in`, or when the block ends. `tell` gets a line that says who is
    waited for; ResourcesBusyError after resources.wait_seconds.
    """
    begun, told, limit = time.monotonic(), False, f"{resources.wait_seconds:g} s (resources.wait_seconds)"
    try:
        while (busy := _busy(resources, who)) is not None:
            waited = time.monotonic() - begun
            if waited > resources.wait_seconds:
                raise ResourcesBusyError(f"given up after {limit}: {busy}")
            if waited > TELL_SECONDS and not told:
                tell(f"waiting up to {limit}: {busy}")
                told = True
            time.sleep(POLL_SECONDS)
        place = f"process {os.getpid()} on {socket.gethostname()}"
        _put(TRAINING + who.encode(), {"job": _own_job(), "who": f"{who} ({place})"})
        yield
    finally:
        with contextlib.suppress(RayError, RuntimeError):  # a head that is gone has forgotten it
            let_next_in(who)
            internal_kv._internal_kv_del(TRAINING + who.encode())


def let_next_in(who: str) -> None:
    """Say, from any process of the cluster, that the workers of a training have what they need."""
    if _get(STARTING).get("who") == who:
        internal_kv._internal_kv_del(STARTING)


def _busy(resources: ResourceConfig, who: str) -> str | None:
    """Who or what is waited for; None where it is this training's turn and all is free."""
    mine = {"job": _own_job(), "who": who, "time": time.time()}
    first = _get(STARTING)
    if first and first["who"] != who and first["job"] in _living_jobs():
        if time.time() - first["time"] < STALE_SECONDS:
            return f"{first['who']} is to start before"
    elif not first and internal_kv._internal_kv_put(STARTING, json.dumps(mine).encode(), overwrite=False):
        return "another training was faster"
    _put(STARTING, mine)
    free = list(state.available_resources_per_node().values())
    if fits(resources, free):
        return None
    cpus, gpus = (sum(node.get(kind, 0.0) for node in free) for kind in ("CPU", "GPU"))
    wanted = f"{resources.training_cpus:g} CPUs ({DATA_CPUS:g} of them for reading data)"
    if resources.gpus_per_worker > 0:
        wanted += f" and {resources.num_workers * resources.gpus_per_worker:g} GPUs"
    return f"{wanted} are wanted, {cpus:g} CPUs and {gpus:g} GPUs are free; {_others(who)}"


def _others(who: str) -> str:
    """Those who may have the rest."""
    keys = internal_kv._internal_kv_list(TRAINING)
    living = _living_jobs()
    found = [_get(key) for key in keys if key != TRAINING + who.encode()]
    names = [str(one["who"]) for one in found if one and one["job"] in living]
    return f"training now: {', '.join(names)}" if names else "no training of maskray has them"


def _own_job() -> str:
    return str(ray.get_runtime_context().get_job_id())


def _living_jobs() -> set[str]:
    return {str(job["JobID"]) for job in state.jobs() if not job["IsDead"]}


def _put(key: bytes, value: dict[str, Any]) -> None:
    internal_kv._internal_kv_put(key, json.dumps(value).encode())


def _get(key: bytes) -> dict[str, Any]:
    data = internal_kv._internal_kv_get(key)
    return dict(json.loads(data)) if data else {}
