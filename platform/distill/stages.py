"""The stages of a distillation as jobs of their own: the teacher's training, and the student's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskray.platform.job.config import JobConfig
from maskray.platform.job.data_config import ShardSource
from maskray.platform.job.distill_config import DistillConfig
from maskray.platform.job.load import validate_tree

TEACHER, STUDENT = "teacher", "student"
NOT_OF_THE_TEACHER: dict[str, dict[str, Any]] = {
    "evaluation": {"tta": None, "expect": {}, "submission": False, "paper_row": None},
    "tracking": {"register_as": None, "alias": None, "gate": None},
    "serve": {"check_after_training": False},
}


def teacher_job(job: DistillConfig, folder: Path, people: str | None = None, uri: str | None = None) -> JobConfig:
    """The job that trains the teacher as a run below the folder: on data.train alone, from whose figures nothing
    follows. people are the shards of data.train, once they are written; uri is the tracking server of the whole."""
    tree = _training_tree(job, TEACHER, folder, uri)
    for group, changes in NOT_OF_THE_TEACHER.items():
        tree[group] |= changes
    if people is not None:
        tree["data"]["train"] = ShardSource(path=people).model_dump()
    return validate_tree(JobConfig, tree)


def student_job(job: DistillConfig, folder: Path, both: str | None = None, uri: str | None = None) -> JobConfig:
    """The job that trains the student as a run below the folder. both are the shards in two parts, once there."""
    tree = _training_tree(job, STUDENT, folder, uri)
    tree["data"]["labelled_per_batch"] = job.labelled_per_batch
    if both is not None:
        tree["data"]["train"] = ShardSource(path=both).model_dump()
    return validate_tree(JobConfig, tree)


def _training_tree(job: DistillConfig, name: str, folder: Path, uri: str | None) -> dict[str, Any]:
    tree = job.model_dump(exclude={"distill"}) | {"name": name, "kind": "train", "output": str(folder)}
    if uri is not None:
        tree["tracking"]["uri"] = uri
    return tree
