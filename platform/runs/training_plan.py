"""What a training is going to do and what it starts from, as far as its files tell; only who has such files waits."""

from __future__ import annotations

from maskray.platform.job.config import JobConfig
from maskray.platform.job.data_config import CocoSource, FilesSource
from maskray.platform.job.plan import Plan, plan_job


def plan_training(job: JobConfig, new: bool = True) -> Plan:
    """The plan of a job, and what its annotation files tell where it names some; new as of plan_job."""
    if not any(isinstance(source, CocoSource | FilesSource) for source in (job.data.train, job.data.val)):
        return plan_job(job, new=new)
    from maskray.platform.runs.data_check import plan_with_data  # numpy and pyarrow: only who has annotation files

    return plan_with_data(job, new=new)


def weights_of_training(job: JobConfig) -> list[tuple[str, str]]:
    """What is taken of train.initial_weights, as rows; none where there are none."""
    if job.train.initial_weights is None:
        return []
    from maskray.platform.runs.starting_weights import explain_weights

    taken = explain_weights(job)
    return [] if taken is None else taken.lines()
