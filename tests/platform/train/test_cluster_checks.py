"""Tests of the arithmetic of logical CPUs and GPUs that keeps training from waiting in silence."""

from __future__ import annotations

from typing import Any

import pytest

from maskray.platform.job.config import ResourceConfig
from maskray.platform.train.cluster_checks import check_resources


@pytest.mark.parametrize(
    ("resources", "cpus"),
    [
        ({"num_workers": 2, "cpus_per_worker": 1.0}, [3]),
        ({"num_workers": 2, "cpus_per_worker": 0.5}, [2]),
        ({"num_workers": 4, "cpus_per_worker": 1.0}, [2.5, 3]),  # 2 + 2, one CPU left on the second
        ({"num_workers": 3, "cpus_per_worker": 0.1}, [1.3]),  # binary fractions do not add up
    ],
)
def test_fits(resources: dict[str, Any], cpus: list[float]) -> None:
    check_resources(ResourceConfig(**resources), [{"CPU": cpu} for cpu in cpus])


@pytest.mark.parametrize(
    ("resources", "cpus", "message"),
    [
        (
            {"num_workers": 2, "cpus_per_worker": 1.0},
            [2],
            r"num_workers 2 x cpus_per_worker 1 \+ 1 .* needs 3 CPUs.* 2",
        ),
        ({"num_workers": 1, "cpus_per_worker": 4.0}, [4], "needs 5 CPUs"),
        ({"num_workers": 4, "cpus_per_worker": 1.0}, [2.5, 2.5], "do not fit on nodes of 2.5, 2.5 CPUs"),
        ({"num_workers": 1, "cpus_per_worker": 2.0}, [1, 1, 1], "do not fit"),
        ({"num_workers": 2, "gpus_per_worker": 1.0}, [8], "needs 2 GPUs, the cluster has 0"),
    ],
)
def test_does_not_fit(resources: dict[str, Any], cpus: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_resources(ResourceConfig(**resources), [{"CPU": cpu} for cpu in cpus])


def test_gpus_are_counted_per_node() -> None:
    resources = ResourceConfig(num_workers=2, gpus_per_worker=1.0)
    check_resources(resources, [{"CPU": 2, "GPU": 1}, {"CPU": 2, "GPU": 1}])
    with pytest.raises(ValueError, match="do not fit"):
        check_resources(resources, [{"CPU": 1, "GPU": 2}, {"CPU": 2}])
