"""A schedule in epochs turned into one in steps, once the number of images is known."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from maskray.platform.job.config import JobConfig, first_mistake
from maskray.platform.job.train_config import TrainConfig


def with_steps(job: JobConfig, num_images: int) -> JobConfig:
    """The job with every length of its training in steps: see resolve_schedule."""
    return job.model_copy(update={"train": resolve_schedule(job.train, num_images)})


def resolve_schedule(train: TrainConfig, num_images: int) -> TrainConfig:
    """The same training with every length in steps, for `num_images` images that take part in it.

    An epoch is num_images / images_per_batch steps; each length is rounded to whole steps, at least one, and
    evaluations stay a multiple of checkpoints. What is in steps already is left alone, so that doing it twice changes
    nothing. ValueError where so few images leave no room for the schedule.
    """

    def steps(epochs: float) -> int:
        return max(1, round(epochs * num_images / train.images_per_batch))

    if not train.in_epochs:
        return train
    changes: dict[str, Any] = {}
    if train.epochs is not None:
        changes |= {"epochs": None, "steps": steps(train.epochs)}
    if train.decay_at_epochs:
        changes |= {"decay_at_epochs": [], "decay_at": [steps(epochs) for epochs in train.decay_at_epochs]}
    if train.checkpoint_every_epochs is not None:
        every = steps(train.checkpoint_every_epochs)
        changes |= {"checkpoint_every_epochs": None, "checkpoint_every": every}
        if train.evaluate_every_epochs is not None:
            times = round(train.evaluate_every_epochs / train.checkpoint_every_epochs)
            changes |= {"evaluate_every_epochs": None, "evaluate_every": every * times}
    try:
        return TrainConfig.model_validate(train.model_dump() | changes)
    except ValidationError as error:
        raise ValueError(f"train, in steps for {num_images} images: {first_mistake(error)}") from None
