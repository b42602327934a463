"""Tests of distributed training that is given up, and of what is said then."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.data.shards import write_shards
from maskray.platform.data.synthetic.dataset import synthesize
from maskray.platform.job.config import JobConfig
from maskray.platform.train.launch import TrainingInterruptedError, train
from maskray.platform.train.run_files import RunFiles


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> str:
    """A running Ray and eight synthetic images as shards."""
    folder = tmp_path_factory.mktemp("data")
    paths = synthesize(folder, num_images=8, seed=1, height=64, width=96, max_objects=3)
    manifest = write_shards(read_dataset(paths.annotations, paths.images), str(paths.images), str(folder / "shards"), 4)
    return manifest.location


def test_training_that_is_given_up_names_the_cause_first_and_counts_its_starts(
    make_job: Callable[..., JobConfig], shards: str, tmp_path: Path
) -> None:
    """The setting was printed for the count of restarts, and Ray's advice for the cause."""
    record = RunFiles(tmp_path)

    def kill() -> None:
        for number in (1, 2):
            while len(starts := [event for event in record.events() if event["event"] == "start"]) < number:
                time.sleep(0.05)
            os.kill(starts[-1]["workers"][0]["pid"], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    job = make_job(steps=5000, checkpoint_every=5000, resources={"num_workers": 1, "max_failures": 1})
    with pytest.raises(TrainingInterruptedError) as caught:
        train(job, shards, str(tmp_path))
    message = str(caught.value)
    assert message.startswith("training was given up: "), message
    assert "died" in message[:120], message
    assert message.endswith("Workers began 2 times (resources.max_failures 1); the run can be resumed")


def test_a_folder_that_refuses_ends_training_without_a_restart(
    make_job: Callable[..., JobConfig], shards: str, tmp_path: Path
) -> None:
    """A full disk was tried four times in silence."""
    record = RunFiles(tmp_path)
    record.checkpoints.write_text("a file where the folder should be")
    job = make_job(steps=2, resources={"num_workers": 2, "max_failures": 3}, images_per_batch=2)
    with pytest.raises((ValueError, OSError)) as caught:
        train(job, shards, str(tmp_path))
    assert "checkpoints" in str(caught.value)
    assert [event["event"] for event in record.events()].count("start") <= 1
