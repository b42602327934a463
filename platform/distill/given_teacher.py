"""A teacher that is there already: found, and looked at whether it can label what the student is to learn."""

from __future__ import annotations

from pathlib import Path

from maskray.model.config import LabelMap, ModelConfig
from maskray.platform.data.preparation import labels_known_early
from maskray.platform.evaluation.row_prediction import check_labels
from maskray.platform.files.model_folder import read_model_spec
from maskray.platform.job.distill_config import DistillConfig
from maskray.platform.job.load import load_job
from maskray.platform.job.plan import COUNTED_BYTES
from maskray.platform.registry.models import resolve_model
from maskray.platform.registry.tracking import Tracking
from maskray.platform.runs.run_folder import JOB_FILE
from maskray.platform.train.checkpoint import best_checkpoint, newest_checkpoint
from maskray.platform.train.run_files import RunFiles


def find_teacher(source: str, tracking: Tracking, cache: Path | None = None) -> str:
    """Absolute path of the model that a run's folder, a model folder or file, or a models:/ URI means.

    Of a run it is the best checkpoint, or the newest where none was evaluated. ValueError where there is none.
    """
    folder = Path(source)
    if not (folder / JOB_FILE).is_file():
        return resolve_model(source, tracking, cache)
    checkpoints = RunFiles(folder).checkpoints
    best = best_checkpoint(checkpoints, load_job(folder / JOB_FILE).train.best_metric)
    path = best[0] if best is not None else newest_checkpoint(checkpoints)[0]
    if path is None:
        raise ValueError(f"{source}: a run without a complete checkpoint")
    return resolve_model(str(path))


def check_teacher(folder: str, model: ModelConfig, labels: LabelMap | None) -> None:
    """Raise ValueError where a teacher has not the heads of the student, or other classes than the data.

    labels are those of the data, None where they are not known yet.
    """
    spec = read_model_spec(folder)
    for head, wanted, has in (
        ("masks", model.masks, spec.model.masks),
        ("keypoints", model.keypoints, spec.model.keypoints),
    ):
        if wanted and not has:
            raise ValueError(f"distill.teacher: {folder} finds no {head}, and model.{head} is true")
    if labels is not None:
        check_labels(f"distill.teacher: {folder}", spec.labels, labels, "data.train")


def explain_teacher(job: DistillConfig) -> str:
    """What the given teacher of a job is, as one line; ValueError where it is not there or cannot label for it."""
    assert job.distill.teacher is not None
    folder = find_teacher(job.distill.teacher, Tracking(job.tracking, job.output))
    check_teacher(folder, job.model, labels_known_early(job.data.train, COUNTED_BYTES))
    spec = read_model_spec(folder)
    return f"{folder}: {spec.model.backbone.name}, {spec.labels.num_classes} classes"
