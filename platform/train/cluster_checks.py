"""Checks before training starts: what would otherwise wait in silence is told at once."""

from __future__ import annotations

import secrets
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from maskray.platform.job.config import DATA_CPUS, ResourceConfig


def check_resources(resources: ResourceConfig, nodes: list[dict[str, float]]) -> None:
    """Raise ValueError unless the workers fit on the nodes and some node keeps DATA_CPUS for Ray Data.

    `nodes` are the logical resources of each node, as {"CPU": 4.0, "GPU": 1.0}.
    """
    cpus = sum(node.get("CPU", 0.0) for node in nodes)
    gpus = sum(node.get("GPU", 0.0) for node in nodes)
    needed_gpus = resources.num_workers * resources.gpus_per_worker
    if needed_gpus > gpus:
        raise ValueError(
            f"resources.num_workers {resources.num_workers} x gpus_per_worker {resources.gpus_per_worker:g} needs "
            f"{needed_gpus:g} GPUs, the cluster has {gpus:g}"
        )
    needed_cpus = resources.training_cpus
    if needed_cpus > cpus:
        raise ValueError(
            f"resources.num_workers {resources.num_workers} x cpus_per_worker {resources.cpus_per_worker:g} + "
            f"{DATA_CPUS:g} for reading data needs {needed_cpus:g} CPUs, the cluster has {cpus:g}: lower them, "
            "or raise resources.local_cpus (logical CPUs may be more than the machine has)"
        )
    if not fits(resources, nodes):
        have = ", ".join(f"{node.get('CPU', 0.0):g}" for node in nodes)
        raise ValueError(
            f"resources.num_workers {resources.num_workers} do not fit on nodes of {have} CPUs with {DATA_CPUS:g} CPU "
            "left on one of them for reading data"
        )


def fits(resources: ResourceConfig, nodes: list[dict[str, float]]) -> bool:
    """Whether there is place for all workers, and DATA_CPUS on one of the nodes beside them."""
    return any(_num_places(resources, nodes, reserved) >= resources.num_workers for reserved in range(len(nodes)))


def check_shared_folder(run_folder: Path) -> None:
    """Raise ValueError naming the nodes that do not see `run_folder`; only a cluster of several nodes is asked."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return
    marker = run_folder / f".seen-{secrets.token_hex(8)}"
    marker.touch()
    try:
        answers = {
            node["NodeManagerAddress"]: _sees.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(str(marker))
            for node in nodes
        }
        blind = [address for address, answer in answers.items() if not ray.get(answer, timeout=120)]
    finally:
        marker.unlink()
    if blind:
        raise ValueError(
            f"output: {run_folder} is not seen by node {', '.join(blind)}; use a folder that all nodes share"
        )


def node_resources() -> list[dict[str, float]]:
    """Logical resources of every living node of the connected cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@ray.remote(num_cpus=0)
def _sees(path: str) -> bool:
    return Path(path).exists()


def _num_places(resources: ResourceConfig, nodes: list[dict[str, float]], reserved: int) -> int:
    """How many workers fit when node `reserved` keeps DATA_CPUS."""
    places = 0
    for index, node in enumerate(nodes):
        cpus = node.get("CPU", 0.0) - (DATA_CPUS if index == reserved else 0.0)
        # Ray counts in units of 1/10000.
        here = int((max(cpus, 0.0) + 1e-6) / resources.cpus_per_worker)
        if resources.gpus_per_worker > 0:
            here = min(here, int((node.get("GPU", 0.0) + 1e-6) / resources.gpus_per_worker))
        places += here
    return places
