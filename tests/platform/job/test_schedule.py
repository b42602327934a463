"""Epochs to steps: by hand, for any number of images, and once only."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskray.platform.job.config import JobConfig
from maskray.platform.job.schedule import resolve_schedule, with_steps
from maskray.platform.job.train_config import TrainConfig


def config(**keys: Any) -> TrainConfig:
    return TrainConfig.model_validate({"epochs": 12, "images_per_batch": 16} | keys)


def test_by_hand() -> None:
    train = config(decay_at_epochs=[8, 11], checkpoint_every_epochs=0.5, evaluate_every_epochs=2)
    found = resolve_schedule(train, 100)  # 6.25 steps an epoch
    assert (found.steps, found.epochs) == (75, None)
    assert (found.decay_at, found.decay_at_epochs) == ((50, 69), ())  # 68.75
    assert (found.checkpoint_every, found.evaluate_every) == (3, 12)  # 3.125; 4 times that in steps, not 12.5
    assert not found.in_epochs


def test_the_published_schedule_in_epochs_is_that_in_steps() -> None:
    """COCO's 117266 images with objects, 16 a batch: 12.28 epochs are the 90000 steps of the 1x schedule."""
    found = resolve_schedule(config(epochs=12.2798, decay_at_epochs=[8.1865, 10.9154]), 117266)
    assert found.steps == pytest.approx(90000, abs=2)
    assert found.decay_at == pytest.approx((60000, 80000), abs=2)


@given(st.floats(0.01, 300), st.integers(1, 200_000), st.integers(1, 64), st.floats(0.01, 10), st.integers(1, 20))
def test_any_length_gives_whole_steps_of_checkpoints_that_are_evaluated(
    epochs: float, num_images: int, batch: int, every: float, times: int
) -> None:
    train = config(
        epochs=epochs, images_per_batch=batch, checkpoint_every_epochs=every, evaluate_every_epochs=every * times
    )
    found = resolve_schedule(train, num_images)
    assert found.num_steps >= 1
    assert abs(found.num_steps - max(1, epochs * num_images / batch)) <= 0.5
    assert found.evaluate_every == times * found.checkpoint_every
    assert resolve_schedule(found, 7) is found


def test_lengths_in_steps_are_left_alone() -> None:
    train = TrainConfig(steps=10, decay_at=(5,))
    assert resolve_schedule(train, 1000) is train
    mixed = resolve_schedule(config(epochs=None, steps=90, decay_at_epochs=[8]), 100)
    assert (mixed.steps, mixed.decay_at) == (90, (50,))


def test_too_few_images_for_the_schedule_are_one_line() -> None:
    with pytest.raises(ValueError, match=r"in steps for 3 images: decay_at 2 is not before the last step 2$"):
        resolve_schedule(config(decay_at_epochs=[8]), 3)
    with pytest.raises(ValueError, match=r"in steps for 3 images: decay_at must increase, not \[2, 2\]$"):
        resolve_schedule(config(epochs=100, decay_at_epochs=[10, 11]), 3)


def test_a_job_keeps_everything_else() -> None:
    source = {"kind": "synthetic", "num_images": 40}
    train = {"epochs": 2, "images_per_batch": 4}
    job = JobConfig.model_validate({"name": "a", "data": {"train": source, "val": source}, "train": train})
    timed = with_steps(job, 40)
    assert timed.train.total_steps == 20
    assert timed.stream.last_step == 20
    assert timed.model_copy(update={"train": job.train}) == job
