"""What runs there are below a folder and how far each came, by what their folders say; no run is disturbed by it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from maskray.platform.files.lease import EXPIRE_SECONDS, Lease, LeaseRecord
from maskray.platform.files.lease_store import lease_store
from maskray.platform.files.lock import alone
from maskray.platform.files.process_identity import has_ended
from maskray.platform.job.config import JobConfig
from maskray.platform.job.distill_config import DistillConfig
from maskray.platform.job.load import load_kind
from maskray.platform.job.sweep_config import SweepConfig
from maskray.platform.runs.run_folder import JOB_FILE, finished_mark, read_state
from maskray.platform.train.run_files import RunFiles

RunState = Literal["running", "finished", "interrupted", "failed", "unreadable"]
SWEEP_FILE = "sweep.yaml"
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

    ValueError where a process is at it (LeaseHeldError), or where it holds what maskray did not make: nothing is
    deleted then.
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
    files = RunFiles(folder)
    newest = files.newest_metrics()
    kind, steps, finished, told = _read_job(folder)
    state: RunState = "finished" if finished else "interrupted"
    if kind == "unknown":
        state = "unreadable"
    elif holder := _holder(folder):
        state, told = "running", holder
    elif not finished and (failure := files.failure()) is not None:
        state, told = "failed", failure.message
    step = None if newest is None else int(newest["step"])
    return RunRecord(name, folder, kind, state, told, step, steps, _changed(folder), _metrics(folder))


def _read_job(folder: Path) -> tuple[str, int | None, bool, str | None]:
    """Kind, steps, whether it has finished, and what is wrong with its job file."""
    is_sweep = (folder / SWEEP_FILE).is_file()
    kinds: dict[str, Any] = {"sweep": SweepConfig} if is_sweep else {"train": JobConfig, "distill": DistillConfig}
    try:
        job = load_kind(folder / (SWEEP_FILE if is_sweep else JOB_FILE), kinds)
        finished = not is_sweep and read_state(folder).get("finished") == finished_mark(job)
    except ValueError as error:
        return "unknown", None, False, str(error).splitlines()[0]
    steps = job.train.steps if isinstance(job, JobConfig) else None
    if is_sweep:
        inner = list(_run_folders(folder))
        ended = sum(any((one / f"{outcome}.json").is_file() for outcome in ("finished", "stopped")) for one in inner)
        return job.kind, None, (folder / "table.md").is_file() and ended == len(inner) > 0, f"{ended} trials ended"
    return job.kind, steps, finished, None


def _holder(folder: Path) -> str | None:
    """The process that is at a run, as far as can be known from here."""
    store = lease_store(folder)
    number = max(store.numbers(), default=0)
    data = store.read(number) if number else None
    record = None if data is None else LeaseRecord.unpack(data)
    if record is None or record.released or has_ended(record.process):
        return None
    beat = (folder / "lease" / f"{number:06d}").stat().st_mtime
    return record.holder if time.time() - beat < EXPIRE_SECONDS else None


def _changed(folder: Path) -> float:
    names = (JOB_FILE, SWEEP_FILE, "run.json", "history.jsonl", "events.jsonl", "failure.json", "table.md")
    return max(path.stat().st_mtime for path in (folder / name for name in names) if path.is_file())


def _metrics(folder: Path) -> dict[str, float]:
    try:
        found: dict[str, float] = json.loads((folder / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found


def _foreign(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in OURS or path.name.startswith("."):
            continue
        if _is_run(path):
            yield from _foreign(path)
        else:
            yield path


@contextmanager
def _held(record: RunRecord, tell: Callable[[str], None]) -> Iterator[None]:
    """The run and all that belong to it, held so that none of them runs."""
    inner = list(_run_folders(record.folder))
    for one in inner:
        if (holder := _holder(one)) is not None:
            raise ValueError(f"{one}: held by {holder}; stop that first, or wait for its end")
    if record.kind == "sweep":
        with alone(record.folder, "sweep"):
            yield
    else:
        with Lease(lease_store(record.folder), tell):
            yield
