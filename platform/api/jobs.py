"""Jobs in Python: what one is going to do, and to run it, as `maskray check` and `maskray run`."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskray.platform.job.kinds import CheckedJob
    from maskray.platform.job.load import Overrides
    from maskray.platform.runs.summary import RunSummary
    from maskray.platform.sweep.table import SweepTable

Job = str | os.PathLike[str] | Mapping[str, Any]


def check_job(job: Job, overrides: Overrides = ()) -> CheckedJob:
    """What a job is going to do, and whether it can run: see problems and warnings of what comes back. Starts nothing.

    job is the path of a job file, or its keys and values as a dictionary. overrides change keys, as a dictionary
    {"train.steps": 100} or as texts "train.steps=100". ValueError with one line per mistake for a job that is none.
    """
    from maskray.platform.job.kinds import check_any, load_any

    return check_any(load_any(job if isinstance(job, Mapping) else Path(job), overrides))


def run_job(job: Job, overrides: Overrides = (), *, resume: bool = False) -> RunSummary | SweepTable:
    """Run a job to its end on this machine or the cluster it names, telling what it does; job as for check_job.

    What comes back of a training or distillation has metrics (fractions by name), checkpoint (its path, for
    load_model), folder, report and model_uri; that of a sweep is its table. resume continues the interrupted run of
    this name. A Ray cluster that is joined for it is left again, one that the process had joined before is not.
    ValueError of one line per problem where the job cannot run; StopRequested (a KeyboardInterrupt) where it is
    interrupted, after a checkpoint.
    """
    from maskray.platform.job.kinds import check_any, load_any, run_any
    from maskray.platform.machine.proxies import reach_loopback_directly

    checked = check_any(load_any(job if isinstance(job, Mapping) else Path(job), overrides), weights=False)
    if checked.problems:
        raise ValueError("\n".join(checked.problems))
    reach_loopback_directly(os.environ)
    had_joined = _import_ray().is_initialized()
    from maskray.platform.machine.ray_cluster import leave

    try:
        return run_any(checked.job, resume)
    finally:
        if not had_joined:
            leave()


def _import_ray() -> Any:
    """Ray, without its lines in a notebook about ipywidgets, which nothing here needs."""
    logging.getLogger("ray.widgets").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        import ray
        import ray.data
        import ray.train
    return ray
