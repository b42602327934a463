"""Work on the rows of a data set by Ray Data actors that each hold a model, results in whatever order they come."""

from __future__ import annotations

import logging
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import torch

from maskray.platform.job.config import ResourceConfig

logger = logging.getLogger(__name__)
BLOCKS_PER_ACTOR = 64
STALL_SECONDS = 120  # without progress Ray Data would wait half an hour before it says so

Work = Callable[[list[int]], Any]


class _Actor:
    """Runs in an actor of Ray Data: the work, opened once, and batches of row indices through it."""

    def __init__(self, open_work: Callable[[], Work], threads: int) -> None:
        torch.set_num_threads(threads)
        self._error, self._work = "", None
        try:
            self._work = open_work()
        except ValueError as mistake:
            self._error = str(mistake)

    def __call__(self, table: Any) -> Any:
        (entry,) = table.to_pylist()
        result, error = None, self._error
        try:
            if self._work is not None:
                result = self._work(entry["rows"])
        except ValueError as mistake:  # of the data: told by the driver in one line, not by Ray Data in forty
            error = str(mistake)
        # Pickled by our own actor for our own driver, never read from a file.
        packed = pa.array([pickle.dumps(result)], pa.large_binary())
        return pa.table({"result": packed, "error": [error]})


def run_actors(open_work: Callable[[], Work], batches: list[list[int]], resources: ResourceConfig) -> Iterator[Any]:
    """What the work makes of each batch of rows, in whatever order; each actor opens it once, so it must be picklable.

    At most resources.num_evaluators actors with the CPUs and GPUs of a worker on the cluster that this process has
    joined, fewer where it has no room. A ValueError of the work is raised here; so is one where no actor fits.
    """
    import ray.data

    if not batches:
        return
    size = min(num_actors(resources, ray.cluster_resources()), len(batches))
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = STALL_SECONDS
    with ray.data.DataContext.current(context):
        # Some blocks for every actor, whatever the size of the data set.
        step = max(1, len(batches) // (BLOCKS_PER_ACTOR * size))
        tables = [pa.table({"rows": batches[start : start + step]}) for start in range(0, len(batches), step)]
        dataset = ray.data.from_arrow(tables).map_batches(
            _Actor,
            fn_constructor_args=(open_work, resources.threads),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=resources.cpus_per_worker,
            num_gpus=resources.gpus_per_worker or None,
        )
        found = iter(dataset.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0))
    for table in found:
        if error := table["error"][0].as_py():
            raise ValueError(error)
        yield pickle.loads(table["result"][0].as_py())


def num_actors(resources: ResourceConfig, cluster: dict[str, float]) -> int:
    """How many of the wanted actors fit; ValueError where none does."""
    fit = math.floor(cluster.get("CPU", 0.0) / resources.cpus_per_worker)
    if resources.gpus_per_worker > 0:
        fit = min(fit, math.floor(cluster.get("GPU", 0.0) / resources.gpus_per_worker))
    if fit < 1:
        raise ValueError(
            f"evaluation needs {resources.cpus_per_worker:g} CPUs and {resources.gpus_per_worker:g} GPUs "
            f"(resources.cpus_per_worker, gpus_per_worker), the cluster has {cluster.get('CPU', 0.0):g} and "
            f"{cluster.get('GPU', 0.0):g}"
        )
    if fit < resources.num_evaluators:
        logger.warning("the cluster has room for %d of %d evaluators", fit, resources.num_evaluators)
    return min(fit, resources.num_evaluators)
