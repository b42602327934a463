"""What a distillation is going to do, worked out from its file: its stages, their images, and what cannot work."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from maskray.platform.distill.stages import student_job, teacher_job
from maskray.platform.job.data_config import CocoSource, ShardSource, SyntheticSource
from maskray.platform.job.distill_config import DistillConfig
from maskray.platform.job.plan import Plan, PlanRows, job_rows, plan_job, resume_row
from maskray.platform.runs.training_plan import plan_training, weights_of_training

# Lists of images and shards up to this size are compared in some seconds; larger ones are left to the run.
COMPARED_BYTES = 64_000_000


@dataclass(frozen=True)
class DistillPlan:
    """What a distillation is going to do; `problems` stop it, `warnings` only deserve a look.

    teacher is None where one is there already. unlabelled_images is None where they are not known yet; views is how
    often each is looked at, and view_cost the pixels of all views as a multiple of those of one at input.shorter_edge.
    """

    folder: str
    teacher: Plan | None
    student: Plan
    labelled_images: int | None
    unlabelled_images: int | None
    views: int
    view_cost: float
    labelled_per_batch: int
    problems: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        teacher = None if self.teacher is None else self.teacher.as_dict()
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {"teacher": teacher, "student": self.student.as_dict()}


def plan_distillation(job: DistillConfig) -> DistillPlan:
    """Work out what a distillation does; reads at most the small files that it names, and the names of images."""
    folder = Path(job.output) / job.name
    problems: list[str] = []
    warnings: list[str] = []
    unlabelled = _count_unlabelled(job, problems, warnings)
    _look_for_leaks(job, problems, warnings)
    teacher = plan_training(teacher_job(job, folder), new=False)
    people = teacher.train_images
    both = None if people is None or unlabelled is None else people + unlabelled
    student = plan_job(student_job(job, folder), new=False, counted={"train": both, "val": teacher.val_images})
    student = replace(student, train_images=both)
    if job.resources.address is None and folder.exists():
        warnings.append(f"{folder} exists: a new run needs another name, an old one --resume")
    if people is not None and people < job.labelled_per_batch:
        problems.append(f"distill.labelled_per_batch {job.labelled_per_batch} is more than the {people} images")
    others = job.train.images_per_batch - job.labelled_per_batch
    if unlabelled is not None and unlabelled < others:
        problems.append(f"distill.unlabelled: {others} of every batch are of its images, and there are {unlabelled}")
    if job.distill.teacher is not None:
        if not job.distill.teacher.startswith("models:/") and not Path(job.distill.teacher).exists():
            warnings.append(f"distill.teacher: no {job.distill.teacher} on this machine")
        small = f"train.images_per_batch {job.train.images_per_batch} is more than the {people} images"
        teacher = replace(teacher, problems=tuple(problem for problem in teacher.problems if problem != small))
    return DistillPlan(
        folder=str(folder),
        teacher=teacher if job.distill.teacher is None else None,
        student=student,
        labelled_images=people,
        unlabelled_images=unlabelled,
        views=job.distill.tta.num_views,
        view_cost=_view_cost(job),
        labelled_per_batch=job.labelled_per_batch,
        problems=tuple(dict.fromkeys([*teacher.problems, *student.problems, *problems])),
        warnings=tuple(dict.fromkeys([*teacher.warnings, *student.warnings, *warnings])),
    )


def distill_rows(job: DistillConfig, plan: DistillPlan) -> PlanRows:
    """The plan for the terminal: the stages, then the training of the student, whose settings are the teacher's too."""
    unlabelled, size = _count(plan.unlabelled_images), job.train.images_per_batch
    of_teacher = f"{job.distill.teacher}, as it is"
    if plan.teacher is not None:
        steps, people = _count(plan.teacher.steps), _count(plan.labelled_images)
        of_teacher = f"trained first: {steps} steps x {size} images of data.train ({people})"
    stages = [
        ("folder", plan.folder),
        ("1 teacher", of_teacher),
        ("2 predict", f"{unlabelled} unlabelled images x {plan.views} views, in all {plan.view_cost:.3g} times the "
                      f"pixels of one view at {job.input.shorter_edge}"),
        ("3 label", "of each class as many in an image as data.train has"),
        ("4 student", f"{_count(plan.student.steps)} steps x {size} images: {plan.labelled_per_batch} of data.train "
                      f"and {size - plan.labelled_per_batch} of the teacher's in every batch"),
    ]  # fmt: skip
    student = student_job(job, Path(plan.folder))
    return [("stages", stages), ("student", [*job_rows(student, plan.student), resume_row(plan.student.may_change)])]


def weights_of_distillation(job: DistillConfig) -> list[tuple[str, str]]:
    """What is taken of train.initial_weights, and what the teacher is, where one is there already; reads headers."""
    rows = weights_of_training(job)
    if job.distill.teacher is not None:
        from maskray.platform.distill.given_teacher import explain_teacher

        rows.append(("teacher", explain_teacher(job)))
    return rows


def _count_unlabelled(job: DistillConfig, problems: list[str], warnings: list[str]) -> int | None:
    """Images to be labelled, when that is cheap to know; what is not there is a warning: the cluster may see it."""
    source = job.distill.unlabelled
    if isinstance(source, SyntheticSource):
        return source.num_images
    from maskray.platform.data.manifest import read_manifest
    from maskray.platform.data.same_pictures import pictures_known_early

    try:
        if isinstance(source, ShardSource):
            there = "://" not in source.path and Path(source.path).is_dir()
            return read_manifest(source.path).num_images if there else None
        path = source.annotations if isinstance(source, CocoSource) else source.path
        if not Path(path).exists():
            warnings.append(f"distill.unlabelled: no {path} on this machine")
        found = pictures_known_early(source, COMPARED_BYTES)
    except ValueError as error:
        problems.append(f"distill.unlabelled: {error}")
        return None
    return None if found is None else len(found)


def _look_for_leaks(job: DistillConfig, problems: list[str], warnings: list[str]) -> None:
    """Tell pictures that are in data.val too, as far as they are small enough to be looked at in a plan."""
    if isinstance(job.distill.unlabelled, SyntheticSource) or isinstance(job.data.val, SyntheticSource):
        return
    from maskray.platform.distill.leaks import NotComparedError, check_leaks

    try:
        check_leaks(job, COMPARED_BYTES)
    except NotComparedError as error:
        warnings.append(str(error))
    except ValueError as error:
        problems.append(str(error))


def _view_cost(job: DistillConfig) -> float:
    tta = job.distill.tta
    return sum((scale / job.input.shorter_edge) ** 2 for scale in tta.scales) * (1 + tta.flip)


def _count(number: int | None) -> str:
    return "number not known yet" if number is None else f"{number}"
