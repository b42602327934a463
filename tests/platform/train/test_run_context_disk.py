"""Tests of training on a disk that fills up or refuses: it ends at once, by name, and what was there stays whole."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from maskray.model.config import ModelSpec
from maskray.model.structures import Batch
from maskray.platform.files.disk_errors import StorageError, check_free_space
from maskray.platform.job.config import JobConfig
from maskray.platform.job.resume import training_config
from maskray.platform.train.checkpoint import list_checkpoints, verify_checkpoint
from maskray.platform.train.context import SharedError
from maskray.platform.train.run_context import RunContext
from maskray.platform.train.run_files import RunFiles
from maskray.platform.train.stages import training_stages
from maskray.platform.train.worker import build_trainer

FULL = """
import sys
from pathlib import Path
import torch
from torch import nn
from maskray.model.config import Category, InputConfig, LabelMap, ModelConfig, ModelSpec
from maskray.platform.train.checkpoint import write_checkpoint
torch.set_num_threads(1)
model = nn.Linear(700, 700)  # 2 MB
spec = ModelSpec(model=ModelConfig(), input=InputConfig(), labels=LabelMap(categories=(Category(id=1, name="a"),)))
for step in range(1, 40):
    try:
        write_checkpoint(Path(sys.argv[1]), step, model, spec, {"again": dict(model.state_dict())}, "{}")
    except ValueError as error:
        print(type(error).__name__, error)
        break
"""


@pytest.fixture
def run(tmp_path: Path, make_spec: Callable[[JobConfig], ModelSpec], make_job: Callable[..., JobConfig],
        make_batches: Callable[..., Callable[[int], Iterator[Batch]]]) -> Callable[..., None]:  # fmt: skip
    """Trains the tiny job by itself in `tmp_path`."""

    def run(**train: Any) -> None:
        job = make_job(**train)
        context = RunContext(job, make_spec(job), RunFiles(tmp_path), training_config(job, "abc"))
        (stage,) = training_stages(job.train, job.model)
        trainer, start_step = build_trainer(context, stage, None)
        trainer.run(make_batches(), start_step)

    return run


def test_a_full_disk_is_named_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    """On a file system of 20 MB of its own. Writers of tensors said `unexpected pos 25808256 vs 25808144`."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("needs root, to mount a small file system")
    program = 'mount -t tmpfs -o size=20m none "$1" && "$2" -c "$3" "$1/checkpoints"; ls -A "$1/checkpoints"; df "$1"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", program, "sh", str(tmp_path), sys.executable, FULL],
        capture_output=True,
        text=True,
        timeout=600,
    )
    first, *names = done.stdout.splitlines()
    assert first.startswith("StorageError "), done.stdout + done.stderr
    assert first.endswith("no space left on device"), first
    failed = int(first.split("/step-")[1][:6])
    kept = [name for name in names if name.startswith(("step-", "."))]
    assert kept == [f"step-{step:06d}" for step in range(1, failed)]


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may become larger than 100 kB."""
    before, heard = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, heard)


def test_a_checkpoint_that_cannot_be_written_ends_all_ranks_by_name(
    run: Callable[..., None], tmp_path: Path, small_files: None
) -> None:
    with pytest.raises(SharedError, match=r"checkpoints/step-000002: file too large$"):
        run(steps=4, checkpoint_every=2)
    assert list_checkpoints(tmp_path / "checkpoints") == []
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_history_that_cannot_be_written_ends_training_with_the_next_step(
    run: Callable[..., None], tmp_path: Path
) -> None:
    run(steps=2, checkpoint_every=1, keep_checkpoints=9)
    (tmp_path / "history.jsonl").unlink()
    (tmp_path / "history.jsonl").symlink_to("/dev/full")
    with pytest.raises(SharedError, match="no space left on device"):
        run(steps=30, checkpoint_every=30)
    for path in list_checkpoints(tmp_path / "checkpoints"):
        verify_checkpoint(path)


def test_space_is_looked_at_before_training(tmp_path: Path) -> None:
    check_free_space(tmp_path, 1000, "a little")
    with pytest.raises(StorageError, match=r"GB are free, 1000000\.00 GB are needed: much"):
        check_free_space(tmp_path, 10**15, "much")
