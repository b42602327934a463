"""The files that take longest begin first, so that workers of xdist end together; the rest keep their order.

Two workers take files as they come (--dist loadfile --no-loadscope-reorder). Those of one cluster stand together, and
those that ask for tracking servers are one worker's: to start a server takes 13 s of a core.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

LONGEST = (
    "tests/platform/distill/test_distill_run.py",
    "tests/platform/sweep/test_sweep_run.py",
    "tests/platform/cli/test_main_stop.py",
    "tests/platform/job/test_submission.py",
    "tests/platform/cli/test_serve.py",
    "tests/platform/serve/cluster/test_alias_watcher.py",
    "tests/platform/serve/attack/test_whole_server.py",
    "tests/platform/train/test_launch.py",
    "tests/platform/runs/test_training.py",
    "tests/platform/runs/test_training_epochs.py",
    "tests/platform/train/test_launch_recipe.py",
    "tests/platform/runs/test_publication.py",
    "tests/test_tutorials.py",
    "tests/test_examples.py",
    "tests/ops/test_cuda_on_cpu.py",
    "tests/test_plugins.py",
    "tests/platform/evaluation/test_evaluate_model.py",
    "tests/platform/data/test_stream.py",
    "tests/platform/data/test_shards.py",
    "tests/platform/serve/cluster/test_gateway.py",
    "tests/platform/serve/cluster/test_server_check.py",
    "tests/platform/cli/test_main.py",
    "tests/platform/registry/test_registration.py",
    "tests/platform/registry/test_promotion.py",
    "tests/platform/serve/web/test_page_browser.py",
    "tests/platform/serve/web/test_page_requests.py",
    "tests/platform/serve/web/test_page_accessibility.py",
)

USE_SERVERS = ("tests/platform/registry/", "tests/platform/runs/test_publication.py")


class SharedServers(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """By file, but for those of USE_SERVERS, which go to one worker together."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "tracking servers" if file.startswith(USE_SERVERS) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> SharedServers | None:
    return SharedServers(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    rank = {str(config.rootpath / path): number for number, path in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(str(item.path), len(rank)))


def pytest_configure(config: pytest.Config) -> None:
    absent = [path for path in LONGEST if not Path(config.rootpath, path).is_file()]
    if absent:
        raise pytest.UsageError(f"{Path(__file__).name} names files that are not there: {absent}")
