"""Tests of a run's folder: new, started, finished, and what a resume says of numbers that change."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskray.platform.job.config import JobConfig
from maskray.platform.job.kinds import progress_of
from maskray.platform.job.resume import changed_numbers
from maskray.platform.runs.run_folder import STATE_FILE, find_folder, finished_mark, make_folder, run_progress


def make(output: Path, steps: int = 5, **resources: object) -> JobConfig:
    source = {"kind": "synthetic", "num_images": 8}
    tree = {"name": "a", "output": str(output), "data": {"train": source, "val": source}, "resources": resources}
    return JobConfig.model_validate(tree | {"train": {"steps": steps, "images_per_batch": 4}})


def test_schedulers_that_try_again_start_or_go_on_or_find_it_finished(tmp_path: Path) -> None:
    job = make(tmp_path)
    assert run_progress(job) == "new"
    folder = make_folder(job)
    assert progress_of(job) == "started"
    (folder / STATE_FILE).write_text(f'{{"finished": "{finished_mark(job)}"}}')
    assert progress_of(job) == "finished"
    assert run_progress(make(tmp_path, steps=9)) == "started", "more steps are asked for"
    assert find_folder(make(tmp_path, steps=9)) == folder
    with pytest.raises(ValueError, match="a run of this name exists already"):
        make_folder(job)


def test_a_resume_says_what_changes_the_numbers(tmp_path: Path) -> None:
    job = make(tmp_path, num_workers=2, cpus_per_worker=2)
    assert changed_numbers(job, job) == []
    assert changed_numbers(job, make(tmp_path, num_workers=2, cpus_per_worker=2.5)) == [], "as many threads"
    (line,) = changed_numbers(job, make(tmp_path, num_workers=1, cpus_per_worker=2))
    assert line.startswith("resources.num_workers was 2 and is 1: ")
    (line,) = changed_numbers(job, make(tmp_path, num_workers=2, cpus_per_worker=4))
    assert line.startswith("resources.cpus_per_worker was 2 and is 4: ")
    (line,) = changed_numbers(job, make(tmp_path, num_workers=2, cpus_per_worker=2, gpus_per_worker=1))
    assert line.startswith("resources.gpus_per_worker was 0 and is 1: ")
