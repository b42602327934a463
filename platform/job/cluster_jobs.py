"""The jobs that a Ray cluster knows: listed, read, stopped, and sent again to go on with their runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskray.platform.job.kinds import load_any
from maskray.platform.job.load import parse_tree
from maskray.platform.job.submission import POLL_SECONDS, RESUME_KEY, STOP_SECONDS, connect, readable, submit_job

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class ClusterJob:
    """A job as the cluster tells of it; times are seconds since 1970, `exit_code` is that of its process."""

    submission_id: str
    name: str
    status: str
    began: float | None
    ended: float | None
    exit_code: int | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def list_jobs(address: str) -> list[ClusterJob]:
    """Jobs of maskray, the newest last; errors of the way there as submit_job's."""
    with readable(address):
        found = [_describe(details) for details in connect(address).list_jobs() if _is_ours(details)]
    return sorted(found, key=lambda job: job.began or 0.0)


def read_log(submission_id: str, address: str) -> str:
    """What a job has printed so far; ValueError where the cluster has no such job of maskray."""
    with _job(submission_id, address) as (client, _):
        return client.get_job_logs(submission_id)


def stop_job(submission_id: str, address: str) -> str:
    """Ask a job to end after a checkpoint, wait for that, and return its status; one that has ended stays as it is.

    What has not ended after STOP_SECONDS is killed by the cluster.
    """
    with _job(submission_id, address) as (client, details):
        if _status(details) not in ENDED:
            client.stop_job(submission_id)
        until = time.monotonic() + 2 * STOP_SECONDS
        while (status := _status(client.get_job_info(submission_id))) not in ENDED:
            if time.monotonic() > until:
                raise ValueError(f"{submission_id}: is {status} still, {2 * STOP_SECONDS} s after it was to stop")
            time.sleep(POLL_SECONDS)
    return status


def resume_job(submission_id: str, address: str, working_dir: Path | None = None, wheel: Path | None = None) -> str:
    """Send a job that has ended again, to go on with its run; returns its new submission id.

    working_dir and wheel as for submit_job: the cluster does not keep them. ValueError for one that has not ended, and
    one that was sent with a password, which the cluster does not keep either.
    """
    with _job(submission_id, address) as (_, details):
        status, text = _status(details), (details.metadata or {}).get(RESUME_KEY)
    if status not in ENDED:
        raise ValueError(f"{submission_id}: is {status}; stop it first")
    if text is None:
        raise ValueError(f"{submission_id}: the cluster does not keep its job; use: maskray submit JOB.yaml --resume")
    return submit_job(load_any(parse_tree(text)), address, True, working_dir, wheel)


@contextmanager
def _job(submission_id: str, address: str) -> Iterator[tuple[JobSubmissionClient, JobDetails]]:
    with readable(address):
        client = connect(address)
        known = {details.submission_id: details for details in client.list_jobs() if _is_ours(details)}
        if submission_id not in known:
            raise ValueError(f"{submission_id}: {address} has no such job of maskray")
        yield client, known[submission_id]


def _is_ours(details: JobDetails) -> bool:
    return details.submission_id is not None and "maskray_job" in (details.metadata or {})


def _status(details: JobDetails) -> str:
    return str(details.status).rsplit(".", 1)[-1]


def _describe(details: JobDetails) -> ClusterJob:
    began, ended = (None if at is None else at / 1000 for at in (details.start_time, details.end_time))
    name = (details.metadata or {})["maskray_job"]
    return ClusterJob(details.submission_id or "", name, _status(details), began, ended, details.driver_exit_code)
