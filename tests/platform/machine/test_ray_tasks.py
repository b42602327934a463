"""Tasks of Ray by the window: every result once, with its place, and arguments taken no faster than tasks end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray

from maskray.platform.machine.ray_tasks import AT_ONCE, run_tasks

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def double(number: int, by: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number * by


def test_each_result_comes_once_with_its_place() -> None:
    assert sorted(run_tasks(double, ((number, 2) for number in range(40)), 0.5)) == [(i, 2 * i) for i in range(40)]
    assert list(run_tasks(double, [], 0.5)) == []


def test_arguments_are_taken_as_tasks_end() -> None:
    taken = 0

    def arguments() -> Iterator[tuple[int, int]]:
        nonlocal taken
        for taken in range(1, 201):
            yield taken, 2

    most = AT_ONCE * ray.cluster_resources()["CPU"]
    for done, _ in enumerate(run_tasks(double, arguments(), 1), start=1):
        assert taken < done + most
    assert done == taken == 200


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="-1 is negative"):
        list(run_tasks(double, [(1, 2), (-1, 2)], 0.5))
