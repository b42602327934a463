"""What runs there are below a folder and how far each came, by what their folders say; no run is disturbed by it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from maskray.platform.files.lease import Lease, LeaseHeldError, holder_of
from maskray.platform.files.lease_store import lease_store
from maskray.platform.files.lock import alone, is_held
from maskray.platform.job.config import JobConfig
from maskray.platform.job.distill_config import DistillConfig
from maskray.platform.job.load import load_kind
from maskray.platform.job.sweep_config import SweepConfig
from maskray.platform.runs.run_folder import JOB_FILE, STATE_FILE, SWEEP_FILE, is_finished, read_object
from maskray.platform.train.run_files import RunFiles

RunState = Literal["running", "finished", "interrupted", "failed", "unreadable"]
# What maskray writes into the folder of a run, of a distillation and of a sweep. Runs below them are recognised.
OURS = {
    "job.yaml", "run.json", "history.jsonl", "events.jsonl", "failure.json", "lease", "checkpoints", "data",
    "evaluation", "proposals", "submission", "served.png", "initial_weights", "ray", "teacher_model", "predictions",
    "labels", "sweep.yaml", "sweep.json", "table.md", "table.html", "table.csv", "tune.log", "lock",
    "finished.json", "stopped.json", "failed.json",
}  # fmt: skip


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder tells of it.

    `name` is the way from the folder of runs, SWEEP/TRIAL for a trial. `told` is who runs it, why it failed or what
    cannot be read. `step` of `steps` is how far training came, None where it is not known. `changed` is the last sign
    of it, in seconds since 1970. `metrics` are fractions by name, once it was evaluated.
    """

    name: str
    folder: Path
    kind: str
    state: RunState
    told: str | None
    step: int | None
    steps: int | None
    changed: float
    metrics: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"folder": str(self.folder)}


def list_runs(output: Path) -> list[RunRecord]:
    """All runs, sweeps and distillations below a folder with what belongs to them, the newest sign last.

    ValueError where there is no such folder.
    """
    if not output.is_dir():
        raise ValueError(f"{output}: no folder of runs")
    tops = [sorted(_below(folder, folder.name), key=lambda one: one.name) for folder in _run_folders(output)]
    tops.sort(key=lambda records: max(record.changed for record in records))
    return [record for records in tops for record in records]


def find_run(output: Path, name: str) -> RunRecord:
    """The run of a name below a folder; ValueError where there is none."""
    folder = output / name
    # Not by the path alone: `..` or an absolute name would lead out of the folder.
    if all(part not in ("", ".", "..") for part in name.split("/")) and _is_run(folder):
        return _read(folder, name)
    raise ValueError(f"{folder}: no run (there is no {JOB_FILE} or {SWEEP_FILE} in it)")


def delete_run(record: RunRecord, tell: Callable[[str], None] = lambda line: None) -> int:
    """Delete the folder of a run and return the bytes that it had; its runs on the tracking server and versions stay.

    Nothing is deleted where a process is at it, a LeaseHeldError, or where it holds files or folders of other names
    than a run has, a ValueError.
    """
    foreign = sorted(str(path.relative_to(record.folder)) for path in _foreign(record.folder))
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise ValueError(
            f"{record.folder}: holds {', '.join(foreign[:3])}{more}, which no run wrote; move it away first"
        )
    with _held(record, tell):
        size = sum(path.lstat().st_size for path in record.folder.rglob("*") if not path.is_dir())
        going = record.folder.with_name(f".{record.folder.name}.deleted")
        if going.exists():  # what an earlier deletion did not come to
            shutil.rmtree(going)
        record.folder.rename(going)  # a run that is half there is none
    shutil.rmtree(going)
    return size


def _run_folders(output: Path) -> Iterator[Path]:
    for folder in sorted(output.iterdir()):
        if not folder.name.startswith(".") and _is_run(folder):
            yield folder


def _is_run(folder: Path) -> bool:
    is_folder = folder.is_dir() and not folder.is_symlink()
    return is_folder and any((folder / name).is_file() for name in (JOB_FILE, SWEEP_FILE))


def _below(folder: Path, name: str) -> list[RunRecord]:
    """A run, and those that belong to it: trials of a sweep, teacher and student."""
    return [_read(folder, name), *(_read(inner, f"{name}/{inner.name}") for inner in _run_folders(folder))]


def _read(folder: Path, name: str) -> RunRecord:
    """A run whatever lies in its folder: one that cannot be read hides no other."""
    try:
        return _read_sound(folder, name)
    except (OSError, ValueError) as error:
        told = next(iter(str(error).splitlines()), type(error).__name__)
        step = None if isinstance(error, OSError) else _step(folder)
        return RunRecord(name, folder, "unknown", "unreadable", told, step, None, _changed(folder), {})


def _read_sound(folder: Path, name: str) -> RunRecord:
    job = _read_job(folder)
    told = None
    if isinstance(job, SweepConfig):
        finished, told = _sweep_progress(folder)
    else:
        finished = is_finished(folder, job)
    state: RunState = "finished" if finished else "interrupted"
    if holder := _holder(folder):
        state, told = "running", holder
    elif not finished and (failure := RunFiles(folder).failure()) is not None:
        state, told = "failed", str(failure.message)
    steps = job.train.steps if isinstance(job, JobConfig) else None
    return RunRecord(name, folder, job.kind, state, told, _step(folder), steps, _changed(folder), _metrics(folder))


def _read_job(folder: Path) -> JobConfig | SweepConfig:
    """Of a distillation too, whose configuration is one of training."""
    sweep = folder / SWEEP_FILE
    if sweep.is_file():
        return load_kind(sweep, {"sweep": SweepConfig})
    kinds: dict[str, type[JobConfig]] = {"train": JobConfig, "distill": DistillConfig}
    return load_kind(folder / JOB_FILE, kinds)


def _sweep_progress(folder: Path) -> tuple[bool, str]:
    """Whether all trials that were begun have ended and stand in the table, and how many have."""
    trials = list(_run_folders(folder))
    ended = sum(any((trial / f"{outcome}.json").is_file() for outcome in ("finished", "stopped")) for trial in trials)
    return (folder / "table.md").is_file() and ended == len(trials) > 0, f"{ended} trials ended"


def _holder(folder: Path) -> str | None:
    """Who is at a run, a sweep or a distillation, as far as can be known from here."""
    return holder_of(lease_store(folder)) or ("another process" if is_held(folder) else None)


def _step(folder: Path) -> int | None:
    newest = RunFiles(folder).newest_metrics()
    return None if newest is None else newest["step"]


def _changed(folder: Path) -> float:
    names = (JOB_FILE, SWEEP_FILE, STATE_FILE, "history.jsonl", "events.jsonl", "failure.json", "table.md")
    found = (folder / name for name in names)
    return max((path.stat().st_mtime for path in found if path.is_file()), default=0.0)


def _metrics(folder: Path) -> dict[str, float]:
    path = folder / "evaluation" / "metrics.json"
    found = read_object(path) if path.is_file() else {}
    if not all(isinstance(value, int | float) for value in found.values()):
        raise ValueError(f"{path}: a figure is no number")
    return found


def _foreign(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in OURS or path.name.endswith((".partial", ".deleted")):  # what a kill left behind
            continue
        if _is_run(path):
            yield from _foreign(path)
        else:
            yield path


@contextmanager
def _held(record: RunRecord, tell: Callable[[str], None]) -> Iterator[None]:
    """The run and all that belong to it, held so that none of them runs."""
    for one in (record.folder, *_run_folders(record.folder)):
        if (holder := _holder(one)) is not None:
            raise LeaseHeldError(f"{one}: held by {holder}; stop that first, or wait for its end")
    with Lease(lease_store(record.folder), tell), alone(record.folder, record.kind):
        yield
