"""Sending a job to a Ray cluster through its job submission service, and following it there."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from maskray.platform.job.kinds import KINDS, AnyJob
from maskray.platform.job.load import dump_job, public_job

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

JOB_FILE = "maskray-job.yaml"
RESUME_KEY = "maskray_job_yaml"  # of the metadata that the cluster keeps of a job
# `maskray` itself is not on the PATH where the package came as a wheel with the job.
ENTRYPOINT = f"python -m maskray.platform.cli.main run {JOB_FILE}"
MOST_UPLOAD_BYTES = 400_000_000  # Ray refuses a working directory above 512 MiB, after having packed it
NOT_SENT = (".git", ".venv", "__pycache__", "outputs", "mlruns", ".mypy_cache", ".ruff_cache", ".pytest_cache")
POLL_SECONDS = 1.0
AGENT_SECONDS = 60.0
LOST_SECONDS = 900.0  # in which the head of a cluster that was lost may be there again
LOST_CODE = 69  # "unavailable" of sysexits.h: how the job ended is not known
STOP_SECONDS = 60  # of `ray job stop`, before it kills: time for a checkpoint, where Ray itself would give 3

Answer = TypeVar("Answer")


class DashboardLostError(ValueError):
    """The dashboard of a job that is followed does not answer any more; the job may go on."""


def submit_job(
    job: AnyJob,
    address: str,
    resume: bool = False,
    working_dir: Path | None = None,
    wheel: Path | None = None,
    if_started: bool = False,
) -> str:
    """Send a job to the cluster whose dashboard is at an address; returns its submission id.

    The job file travels resolved, alone or with the contents of `working_dir`; `wheel` brings maskray to machines that
    do not have it; `resume` and `if_started` are options of the run there. Raises ValueError for a job that cannot work
    there, one that was sent before and has not failed, a refused token and a cluster that does not answer.
    """
    kind = KINDS[job.kind]
    job = kind.move(job, "auto")
    _check_paths(job.output, kind.paths(job), working_dir)
    if wheel is not None and not (wheel.suffix == ".whl" and zipfile.is_zipfile(wheel)):
        raise ValueError(f"--wheel {wheel}: not a wheel file (.whl)")
    text = dump_job(job)
    with readable(address), tempfile.TemporaryDirectory(prefix="maskray-submit-") as folder:
        client = connect(address)
        submission_id = _new_id(client, job.name, text, resume or if_started)
        sent = Path(folder, "working_dir")
        _fill(sent, text, working_dir)
        runtime_env: dict[str, Any] = {"working_dir": str(sent)}
        runtime_env["env_vars"] = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
        options = (" --resume" if resume else "") + (" --resume-if-started" if if_started else "")
        if wheel is not None:
            runtime_env["py_modules"] = [str(_unpack(wheel, Path(folder, "wheel")))]
        _send(
            client,
            entrypoint=ENTRYPOINT + options,
            submission_id=submission_id,
            runtime_env=runtime_env,
            metadata={"maskray_job": job.name, "maskray_job_sha256": _digest(text), **_for_resume(job, text)},
        )
    return submission_id


def follow_job(submission_id: str, address: str) -> int:
    """Print the log of a job as it grows until the job ends; returns its exit code (0 succeeded).

    An interrupt stops the following, not the job. A dashboard that does not answer is waited for, LOST_SECONDS long,
    then it is a DashboardLostError: that is no failure of the job.
    """
    try:
        with readable(address):
            client = connect(address)
            asyncio.run(_print_log(client, submission_id))
            return _exit_code(client, submission_id)
    except KeyboardInterrupt:
        print(f"\n{submission_id} goes on; stop it with: ray job stop {submission_id} --address {address}")
        raise


def connect(address: str) -> JobSubmissionClient:
    """A client of the dashboard at an address, which sends the token of RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH."""
    if "://" not in address:
        address = f"http://{address}"
    from ray.job_submission import JobSubmissionClient

    for chatty in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
        logging.getLogger(f"ray.{chatty}").setLevel(logging.WARNING)
    return JobSubmissionClient(address)


def submission_name(name: str, text: str) -> str:
    """The submission id of a job file: its name and the start of its digest, so that sending it twice is noticed."""
    return f"{name}-{_digest(text)[:10]}"


def _for_resume(job: AnyJob, text: str) -> dict[str, str]:
    """The job itself, to send again; one with a password stays out of what all who see the dashboard may read."""
    return {RESUME_KEY: text} if public_job(job) == text else {}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _new_id(client: JobSubmissionClient, name: str, text: str, resume: bool) -> str:
    """An id that the cluster does not know yet (Ray answers a known one with an internal error).

    What failed or was stopped may be sent again as it is: whether it left a run behind, the run itself will say.
    """
    wanted = submission_name(name, text)
    known = {details.submission_id: details.status for details in client.list_jobs()}
    if not resume:
        tries = [key for key in known if key == wanted or (key and key.startswith(f"{wanted}-again-"))]
        for key in tries:
            status = str(known[key]).rsplit(".", 1)[-1]
            if status not in ("FAILED", "STOPPED"):
                raise ValueError(
                    f"this job was submitted already: {key} is {status}; give it another name, or --resume it"
                )
        return f"{wanted}-again-{len(tries)}" if tries else wanted
    attempts = [key for key in known if key and key.startswith(f"{wanted}-resume-")]
    return f"{wanted}-resume-{len(attempts) + 1}"


def _send(client: JobSubmissionClient, **arguments: Any) -> None:
    """Submit; a cluster that has just started has no agent for jobs yet, which is worth waiting for."""
    deadline = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            client.submit_job(**arguments)
            return
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


def _unpack(wheel: Path, folder: Path) -> Path:
    """The package inside a wheel, as a folder.

    Ray installs a wheel in py_modules by `pip install --target`, which would fetch torch and all other dependencies
    again on every node; the folder of the package alone is enough where they are installed.
    """
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    if not (folder / "maskray").is_dir():
        raise ValueError(f"--wheel {wheel}: holds no package maskray")
    return folder / "maskray"


def _fill(folder: Path, text: str, working_dir: Path | None) -> None:
    """Lay out what the job finds as its working directory."""
    folder.mkdir()
    if working_dir is not None:
        shutil.copytree(working_dir, folder, ignore=shutil.ignore_patterns(*NOT_SENT), dirs_exist_ok=True)
        if (folder / JOB_FILE).exists():
            raise ValueError(f"{working_dir / JOB_FILE}: this name is taken for the job; rename the file")
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if size > MOST_UPLOAD_BYTES:
            raise ValueError(
                f"--working-dir {working_dir}: {size / 1e6:.0f} MB is too much to send with a job; "
                "put data on storage that the cluster sees"
            )
    (folder / JOB_FILE).write_text(text, encoding="utf-8")


def _check_paths(output: str, paths: Iterable[tuple[str, str]], working_dir: Path | None) -> None:
    """Relative paths would start in a temporary folder of one node: outputs would be lost, data not found."""
    if working_dir is not None and not working_dir.is_dir():
        raise ValueError(f"--working-dir {working_dir}: no such folder")
    mistakes = []
    if not _is_absolute(output):
        mistakes.append(f"output: {output!r} is relative; on a cluster name storage that every node sees")
    for key, path in dict.fromkeys(paths):
        if not _is_absolute(path) and not (working_dir is not None and (working_dir / path).exists()):
            mistakes.append(f"{key}: {path!r} is relative and not in the --working-dir that would go along")
    if mistakes:
        raise ValueError("\n".join(mistakes))


def _is_absolute(path: str) -> bool:
    return path.startswith("/") or re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", path) is not None


def ask_patiently(ask: Callable[[], Answer], seconds: float = LOST_SECONDS) -> Answer:
    """What the dashboard answers; it is asked again, which is told once, while it is away for at most `seconds`."""
    import requests

    until: float | None = None
    while True:
        try:
            return ask()
        except (ConnectionError, requests.exceptions.RequestException, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not re.search(r"status code 5\d\d", str(error)):
                raise  # an answer
            if until is None:
                until = time.monotonic() + seconds
                print(f"the dashboard does not answer, waiting up to {seconds:g} s for it", file=sys.stderr, flush=True)
            if time.monotonic() > until:
                raise DashboardLostError(
                    f"the dashboard has not answered for {seconds:g} s ({_first_line(error)}); the job may go on"
                ) from None
        time.sleep(POLL_SECONDS)


async def _print_log(client: JobSubmissionClient, submission_id: str) -> None:
    """Print the log to its end; where the connection breaks, go on after the last character printed."""
    printed = 0
    while True:
        position = 0
        try:
            async for lines in client.tail_job_logs(submission_id):
                position += len(lines)
                if position > printed:
                    sys.stdout.write(lines[-(position - printed) :])
                    sys.stdout.flush()
                    printed = position
        except (RuntimeError, OSError):  # of the web socket: a proxy that cuts idle connections, for one
            pass
        if ask_patiently(lambda: client.get_job_status(submission_id)).is_terminal():
            return
        await asyncio.sleep(POLL_SECONDS)


def _exit_code(client: JobSubmissionClient, submission_id: str) -> int:
    """The exit code of the job's driver; 1 where it failed without one (never started, node lost)."""
    while not (details := ask_patiently(lambda: client.get_job_info(submission_id))).status.is_terminal():
        time.sleep(POLL_SECONDS)
    status = str(details.status).rsplit(".", 1)[-1]
    print(f"{submission_id}: {status}", flush=True)
    if status == "SUCCEEDED":
        return 0
    if details.driver_exit_code is None and details.message:
        print(f"error: {details.message.strip().splitlines()[0]}", file=sys.stderr)
    return details.driver_exit_code or 1


@contextmanager
def readable(address: str) -> Iterator[None]:
    """Turn what goes wrong on the way to a cluster into a ValueError of one line.

    Ray sends a token only where RAY_AUTH_MODE says so, and reads that when it is imported, which is here: a token in
    the environment is meant to be sent.
    """
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        advice = "export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN=<token of the cluster>"
        raise ValueError(f"{address}: {_refusal(str(error))}; {advice}") from error
    except (ConnectionError, requests.exceptions.RequestException) as error:
        raise ValueError(f"{address}: no Ray dashboard answers there ({_first_line(error)})") from error
    except RuntimeError as error:
        raise ValueError(f"{address}: {_first_line(error)}") from error


def _refusal(message: str) -> str:
    """What Ray's authentication error means; its own text is a page long."""
    if "Invalid authentication token" in message:
        return "the cluster does not accept this token"
    if "Missing authentication token" in message:
        return "the cluster wants a token"
    return "RAY_AUTH_MODE is token, but no token was found"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
