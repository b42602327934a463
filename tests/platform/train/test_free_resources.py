"""Tests of trainings that share a cluster: each waits for what it needs, says for whom, and gives up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from maskray.platform.job.config import ResourceConfig
from maskray.platform.train import free_resources as module
from maskray.platform.train.free_resources import ResourcesBusyError, free_resources, let_next_in

TWO_WORKERS = {"num_workers": 2, "cpus_per_worker": 1.0}


@pytest.fixture(autouse=True)
def _soon(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TELL_SECONDS", 0.5)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.1)


@pytest.fixture
def taken() -> Iterator[PlacementGroup]:
    """Two of the cluster's four CPUs, which another program has."""
    group = placement_group([{"CPU": 1}, {"CPU": 1}])
    ray.get(group.ready())
    yield group
    remove_placement_group(group)


def test_cpus_that_others_have_are_waited_for_and_given_up(taken: PlacementGroup) -> None:
    """Only the total of the cluster was looked at: training began, and waited for ever in silence."""
    told: list[str] = []
    resources = ResourceConfig(**TWO_WORKERS, wait_seconds=2)
    with (
        pytest.raises(ResourcesBusyError, match=r"given up after 2 s .*: 3 CPUs \(1 of them .* wanted, 2 CPUs and 0 "),
        free_resources(resources, "/runs/a", told.append),
    ):
        pytest.fail("it may not begin")
    assert len(told) == 1
    assert told[0].startswith("waiting up to 2 s (resources.wait_seconds): 3 CPUs")
    threading.Timer(1.0, lambda: remove_placement_group(taken)).start()
    with free_resources(ResourceConfig(**TWO_WORKERS, wait_seconds=120), "/runs/a", told.append):
        pass


def test_two_trainings_do_not_start_together_and_take_everything() -> None:
    """Each fits by itself: both had their workers then, and neither a CPU to read data with."""
    order: list[str] = []
    told: list[str] = []

    def second() -> None:
        with free_resources(ResourceConfig(**TWO_WORKERS, wait_seconds=120), "/runs/b", told.append):
            order.append("second")

    with free_resources(ResourceConfig(**TWO_WORKERS), "/runs/a", told.append):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(1.5)
        assert order == []
        assert told == ["waiting up to 120 s (resources.wait_seconds): /runs/a is to start before"]
        group = placement_group([{"CPU": 1}, {"CPU": 1}])
        ray.get(group.ready())
        let_next_in("/runs/a")  # its workers have begun
        with (
            pytest.raises(ResourcesBusyError, match=r"training now: /runs/a \(process \d+ on .*\)"),
            free_resources(ResourceConfig(**TWO_WORKERS, wait_seconds=0.5), "/runs/c", told.append),
        ):
            pytest.fail("it may not begin")
        remove_placement_group(group)
        thread.join(120)
    assert order == ["second"]
