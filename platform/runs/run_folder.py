"""The folder of a run as a whole: made for a new run, opened again by a resume, and what it says of how far it came."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from maskray.platform.files.storage import write_whole
from maskray.platform.job.config import JobConfig
from maskray.platform.job.load import dump_job, load_kind
from maskray.platform.job.resume import check_same_job

JOB_FILE = "job.yaml"
STATE_FILE = "run.json"
SWEEP_FILE = "sweep.yaml"  # in place of JOB_FILE, of a sweep


def run_folder(job: JobConfig) -> Path:
    """Where the run of a job lies."""
    return Path(job.output).absolute() / job.name


def make_folder(job: JobConfig) -> Path:
    """The folder of a new run; ValueError where there is one of this name already."""
    folder = run_folder(job)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise ValueError(
            f"{folder}: a run of this name exists already; take another (--set name=...) or go on with it (--resume)"
        ) from None
    write_whole(folder / JOB_FILE, dump_job(job))
    return folder


def find_folder(job: JobConfig) -> Path:
    """The folder of a run to go on with; ValueError where there is none, or one of another job."""
    folder = run_folder(job)
    check_same_job(stored_job(folder, job), job)
    return folder


def open_folder(job: JobConfig, resume: bool) -> Path:
    """The folder of a run, new or to go on with; errors as make_folder and find_folder."""
    return find_folder(job) if resume else make_folder(job)


def stored_job(folder: Path, like: JobConfig) -> JobConfig:
    """The job of a run, of the kind of another, as it was when it last trained; ValueError where there is no run."""
    if not (folder / JOB_FILE).is_file():
        raise ValueError(f"{folder}: no run to resume")
    return load_kind(folder / JOB_FILE, {like.kind: type(like)})


def read_state(folder: Path) -> dict[str, Any]:
    """What a run remembered; nothing where it did not come so far. ValueError for a file that no run wrote."""
    path = folder / STATE_FILE
    return read_object(path) if path.is_file() else {}


def read_object(path: Path) -> dict[str, Any]:
    """An object of a JSON file; ValueError naming the file where it holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: no object of JSON")
    return found


def finished_mark(job: JobConfig) -> str:
    """What a run remembers at its end: of which job it was the end, for one with more steps is not finished."""
    return hashlib.sha256(dump_job(job).encode()).hexdigest()


def run_progress(job: JobConfig) -> Literal["new", "started", "finished"]:
    """How far the run of a job has come, by its folder."""
    folder = run_folder(job)
    if not (folder / JOB_FILE).is_file():
        return "new"
    return "finished" if is_finished(folder, job) else "started"


def is_finished(folder: Path, job: JobConfig) -> bool:
    """Whether the run in a folder has come to the end of a job."""
    return bool(read_state(folder).get("finished") == finished_mark(job))
