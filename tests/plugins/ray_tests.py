"""Ray in tests: clusters of their own whatever else the machine runs, patience, and a marker that cannot be forgotten.

One cluster of four logical CPUs serves all files of a process that ask for `ray_cluster`; its workers have imported
torch already. A file that has a cluster of its own, or whose code starts one, finds none at its beginning.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

# Said once, before any file imports Ray: in one process, clusters with a token and without do not follow each other.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
for name in ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_JOB_CONFIG_JSON_ENV_VAR"):  # of a cluster that is not ours
    os.environ.pop(name, None)
# On busy cores Ray gives up too early on what is slow to start; and what others do with the memory ends no worker.
PATIENCE = {
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_gcs_server_request_timeout_seconds": "300",
    "RAY_health_check_timeout_ms": "120000",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process more in each training: 2 s of a core
    "RAY_worker_niceness": "0",  # as clusters that maskray starts have it
    "RAY_idle_worker_killing_time_threshold_ms": "600000",  # one that waits is asked again: to start another takes 2 s
}
for name, value in PATIENCE.items():
    os.environ.setdefault(name, value)
# How often Ray Train looks at its workers: a worker that reports waits for it.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")

USES_RAY = {"ray_cluster", "start_ray"}
SESSIONS = pytest.StashKey[set[str]]()
shared_is_up = False


@pytest.fixture(scope="module")
def ray_cluster(_own_ray: None) -> None:
    """Joined by this process: four logical CPUs, as a run on one machine has them."""
    global shared_is_up
    if not shared_is_up:
        begin_ray(4)
        shared_is_up = True


@pytest.fixture(scope="session")
def start_ray() -> Callable[[int], None]:
    """Starts a cluster of so many logical CPUs, with what stands in the environment now; it ends with the file."""
    return begin_ray


def begin_ray(num_cpus: int) -> None:
    import ray

    from maskray.platform.machine.ray_cluster import patience

    with patience():
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=False,
            object_store_memory=400_000_000,
            logging_level="ERROR",
            log_to_driver=False,
        )


@pytest.fixture(autouse=True, scope="module")
def _own_ray(request: pytest.FixtureRequest) -> Iterator[None]:
    """No file finds what another one started, unless both asked for the shared cluster."""
    if asks_for_shared(request.node) != shared_is_up:
        end_ray()
    yield
    if not shared_is_up:
        end_ray()


def asks_for_shared(module: pytest.Item | pytest.Collector) -> bool | None:
    """Whether a test of the file asks for it; what is now where no test of the file has to do with Ray."""
    items = [item for item in module.session.items if item.getparent(pytest.Module) is module]
    if any("ray_cluster" in item.fixturenames for item in items):
        return True
    return False if any(item.get_closest_marker("ray") for item in items) else shared_is_up


def end_ray() -> None:
    global shared_is_up
    shared_is_up = False
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        wait_for_streams()
        ray.shutdown()


def wait_for_streams() -> None:
    """Until Ray Data's threads have seen that nobody takes their batches: one that asks Ray for more after its end
    makes Ray end the whole process."""
    deadline = time.monotonic() + 120
    while any(thread.name.startswith(("StreamingExecutor", "iter_threaded")) for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def pytest_sessionfinish() -> None:
    end_ray()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if USES_RAY & set(getattr(item, "fixturenames", ())):
            item.add_marker("ray")


def sessions() -> set[str]:
    """Clusters that this process, or one below it, has started so far: each has a folder."""
    folder = Path(os.environ["RAY_TMPDIR"])
    return {path.name for where in ("ray", "maskray-*/ray") for path in folder.glob(f"{where}/session_*")}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    item.stash[SESSIONS] = sessions()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    try:
        return (yield)
    finally:
        if item.get_closest_marker("ray") is None and sessions() != item.stash[SESSIONS]:
            pytest.fail("this test starts a Ray cluster: give it the marker `ray`", pytrace=False)
