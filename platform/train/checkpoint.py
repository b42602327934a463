"""Checkpoints on disk: a model folder with the trainer's state, checksums, and metrics once it has been evaluated.

checkpoints/step-000100/
    model.safetensors model.json   a model folder: every command that takes a model takes a checkpoint
    trainer.pt                     optimizer state, seed and configuration: tensors, numbers and text only; where the
                                   model is an average of the weights, those of the last step too
    checkpoint.json                step, and size and SHA-256 of the files above; written last
    metrics.json                   metrics of the evaluation in training, if there was one
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskray.model.config import ModelSpec
from maskray.platform.files.atomic import flush, new_folder, replaced_file
from maskray.platform.files.disk_errors import named_storage_errors
from maskray.platform.files.model_files import SPEC_FILE, WEIGHTS_FILE
from maskray.platform.files.model_folder import read_weights, write_model_files

STATE_FILE = "trainer.pt"
INDEX_FILE = "checkpoint.json"
METRICS_FILE = "metrics.json"
FORMAT = 1
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read back: weights on the CPU and the trainer's state after `step` finished steps."""

    step: int
    weights: dict[str, Tensor]
    state: dict[str, Any]
    config: str


def write_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    spec: ModelSpec,
    state: dict[str, Any],
    config: str,
    check: Callable[[], None] = lambda: None,
) -> Path:
    """Write `folder`/step-NNNNNN under a temporary name, flush it and rename it; returns its path.

    `model` is the bare module; `config` is text kept to tell whether a later run may go on from here. A folder of that
    name is replaced: it is what a run that was cut short left behind. `check` is called before the folder takes its
    name, and raises where the run is another process's by now. StorageError where the disk is full or refuses.
    """
    final = folder / f"step-{step:06d}"
    with named_storage_errors(final), new_folder(final, replace=True) as temporary:
        with named_storage_errors(final, temporary):
            write_model_files(temporary, model, spec)
            torch.save({"format": FORMAT, "step": step, "config": config, **state}, temporary / STATE_FILE)
            files = {name: _describe_file(temporary / name) for name in (WEIGHTS_FILE, SPEC_FILE, STATE_FILE)}
            _write_json(temporary / INDEX_FILE, {"format": FORMAT, "step": step, "files": files})
        for file in temporary.iterdir():
            flush(file)  # before the check: what takes seconds is not to come between it and the name
        check()
    return final


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint whole, after checking its sizes and checksums; nothing in it can run code.

    Raises ValueError of one line where a file is missing, cut short or changed.
    """
    step = verify_checkpoint(path)
    try:
        state = torch.load(path / STATE_FILE, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{path / STATE_FILE}: not a trainer state ({str(error).splitlines()[0]})") from None
    if state.pop("format") != FORMAT or state.pop("step") != step:
        raise ValueError(f"{path / STATE_FILE}: does not belong to {INDEX_FILE} beside it")
    config = state.pop("config")
    return Checkpoint(step, read_weights(path), state, config)


def verify_checkpoint(path: Path) -> int:
    """Check that a checkpoint is complete and unchanged; returns its step.

    Raises ValueError of one line naming the file that is missing, cut short or changed.
    """
    try:
        index = json.loads((path / INDEX_FILE).read_text(encoding="utf-8"))
        step, files = int(index["step"]), dict(index["files"])
        found_format = index["format"]
    except FileNotFoundError:
        raise ValueError(f"{path}: not a complete checkpoint, {INDEX_FILE} is missing") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path / INDEX_FILE}: damaged or cut short") from None
    if found_format != FORMAT:
        raise ValueError(f"{path / INDEX_FILE}: format {found_format!r}, this version reads {FORMAT}")
    for name in (WEIGHTS_FILE, SPEC_FILE, STATE_FILE):
        expected = files.get(name)
        if expected is None or not (path / name).is_file():
            raise ValueError(f"{path}: not a complete checkpoint, {name} is missing")
        size = (path / name).stat().st_size
        if size != expected["bytes"]:
            raise ValueError(f"{path / name}: cut short, {size} of {expected['bytes']} bytes")
        if _sha256(path / name) != expected["sha256"]:
            raise ValueError(f"{path / name}: changed since it was written, its SHA-256 differs")
    return step


def is_complete(path: Path) -> bool:
    """Whether a checkpoint is complete and unchanged.

    A process that has read all of one looks again when size or time of one of its files has changed.
    """
    try:
        return _is_complete(path, tuple(sorted(_stamp(file) for file in path.iterdir())))
    except OSError:
        return False


def _stamp(file: Path) -> tuple[str, int, int, int]:
    stat = file.stat()
    return file.name, stat.st_size, stat.st_mtime_ns, stat.st_ino


@lru_cache(maxsize=64)
def _is_complete(path: Path, stamps: tuple[tuple[str, int, int, int], ...]) -> bool:
    try:
        verify_checkpoint(path)
    except ValueError:
        return False
    return True


def step_of(path: Path) -> int:
    """Finished steps of a checkpoint, from the name of its folder."""
    return int(path.name.removeprefix("step-"))


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders by step, oldest first, complete or not; temporary ones are not among them."""
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def newest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest complete checkpoint, if any, and why each newer one was passed over."""
    passed_over: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            verify_checkpoint(path)
        except ValueError as error:
            passed_over.append(str(error))
            continue
        return path, passed_over
    return None, passed_over


def checkpoint_to_go_on_from(folder: Path) -> tuple[Path | None, list[str]]:
    """As newest_checkpoint; ValueError where there are checkpoints and all are damaged.

    To begin anew in silence would throw away the history of what was trained.
    """
    path, passed_over = newest_checkpoint(folder)
    if path is None and passed_over:
        raise ValueError(
            f"{folder}: no checkpoint is complete, so there is nothing to go on from: {'; '.join(passed_over)}. Bring "
            "one back from a copy; or delete this folder, and --resume trains from step 0 and drops the history"
        )
    return path, passed_over


def write_metrics(path: Path, metrics: dict[str, float]) -> None:
    """Put the metrics of an evaluation beside the checkpoint they belong to; NaN is stored as null."""
    finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    _write_json(path / METRICS_FILE, finite)


def read_metrics(path: Path) -> dict[str, float] | None:
    """The metrics of a checkpoint, None where it was not evaluated; a damaged file is a ValueError."""
    try:
        stored = json.loads((path / METRICS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise ValueError(f"{path / METRICS_FILE}: damaged or cut short") from None
    return {name: math.nan if value is None else float(value) for name, value in stored.items()}


def best_checkpoint(folder: Path, metric: str) -> tuple[Path, float] | None:
    """The complete evaluated checkpoint with the largest metric and its value; the older one of equals; None without.

    One that is damaged, or whose metrics are, is passed over.
    """
    evaluated: list[tuple[float, int, Path]] = []
    for path in list_checkpoints(folder):
        try:
            value = (read_metrics(path) or {}).get(metric, math.nan)
        except ValueError:
            continue
        if math.isfinite(value):
            evaluated.append((-value, step_of(path), path))
    return next(((path, -value) for value, _, path in sorted(evaluated) if is_complete(path)), None)


def prune_checkpoints(folder: Path, keep: int, metric: str) -> list[Path]:
    """Delete what is older than the newest `keep` complete checkpoints, but for the best one; returns what was deleted.

    One that is damaged does not count: nothing is deleted before as many can be gone on from.
    """
    newest_first = list_checkpoints(folder)[::-1]
    complete = (path for path in newest_first if is_complete(path))
    kept = list(islice(complete, keep))
    if len(kept) < keep:
        return []
    best = best_checkpoint(folder, metric)
    doomed = [
        path for path in newest_first[::-1] if step_of(path) < step_of(kept[-1]) and (best is None or path != best[0])
    ]
    for path in doomed:
        # Renamed first: a deletion cut short must not look like a damaged checkpoint.
        hidden = path.with_name(f".{path.name}.deleted")
        shutil.rmtree(hidden, ignore_errors=True)
        path.rename(hidden)
        shutil.rmtree(hidden)
    return doomed


def remove_temporary(folder: Path) -> None:
    """Delete what a writer that was killed left under temporary names; only for when nobody writes."""
    for path in folder.glob(".step-*"):
        shutil.rmtree(path)


def _describe_file(path: Path) -> dict[str, int | str]:
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with replaced_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
