"""Data distillation: a training job, and the unlabelled images whose labels a teacher gives."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from maskray.model.config import Config, Positive
from maskray.platform.job.config import JobConfig
from maskray.platform.job.data_config import UnlabelledSource
from maskray.platform.job.tta_config import TTAConfig


class DistillationConfig(Config):
    """What a teacher labels, from which views, and how much of it a batch has (Radosavovic et al. 2018)."""

    unlabelled: UnlabelledSource = Field(description="Images to be labelled; annotations of theirs are not looked at.")
    teacher: str | None = Field(
        None,
        description="Folder of a run, model folder or models:/NAME@alias; none trains one first, as the job says, on "
        "data.train.",
    )
    tta: TTAConfig = Field(TTAConfig(), description="Views from which a label is made.")
    labelled_per_batch: Positive | None = Field(
        None, description="Images of every batch that are of data.train; none is six of ten, rounded."
    )
    same_names: Literal["refuse", "allow"] = Field(
        "refuse",
        description="Whether an unlabelled image that has its file name in common with one of data.val or data.train "
        "is taken for the same; allow: only where their bytes are.",
    )


class DistillConfig(JobConfig):
    """A teacher's labels for unlabelled images, and a student trained on them and on data.train together.

    All keys of a training job are the student's, and the teacher's where it is trained first.
    """

    kind: Literal["distill"] = Field("distill", description="distill: a training job with labels of a teacher.")  # type: ignore[assignment]  # a training job is what it is, and more
    distill: DistillationConfig = Field(description="The teacher, and what its labels are used for.")

    @property
    def labelled_per_batch(self) -> int:
        """Images of every batch of the student that are of data.train."""
        size = self.train.images_per_batch
        return self.distill.labelled_per_batch or min(max(round(0.6 * size), 1), size - 1)

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.data.labelled_per_batch is not None:
            raise ValueError("data.labelled_per_batch: of a distill job it is distill.labelled_per_batch")
        size = self.train.images_per_batch
        if size < 2:
            raise ValueError("train.images_per_batch 1 has no room for images of both kinds: take at least 2")
        if self.labelled_per_batch >= size:
            raise ValueError(
                f"distill.labelled_per_batch {self.labelled_per_batch} leaves no image of train.images_per_batch "
                f"{size} for those that the teacher labels"
            )
        return self
