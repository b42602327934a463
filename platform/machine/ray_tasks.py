"""Work done by tasks of Ray, of which so many are under way as keep the cluster busy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Result = TypeVar("Result")

AT_ONCE = 2  # one that runs and one that waits, for each that finds a CPU


def run_tasks(
    work: Callable[..., Result], arguments: Iterable[tuple[Any, ...]], num_cpus: float
) -> Iterator[tuple[int, Result]]:
    """(position, result) of the work for each of the arguments, in whatever order; Ray must be connected.

    Arguments are taken as tasks end, so they need not be in memory together. Raises what the work raises.
    """
    import ray

    task = ray.remote(num_cpus=num_cpus)(work)
    most = max(1, int(AT_ONCE * ray.cluster_resources().get("CPU", 1) / num_cpus))
    pending: dict[Any, int] = {}
    for position, given in enumerate(arguments):
        pending[task.remote(*given)] = position
        if len(pending) >= most:
            yield _next(pending)
    while pending:
        yield _next(pending)


def _next(pending: dict[Any, int]) -> tuple[int, Any]:
    import ray

    (done,), _ = ray.wait(list(pending))
    return pending.pop(done), ray.get(done)
