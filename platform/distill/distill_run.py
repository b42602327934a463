"""Runs a distillation: a teacher, its predictions, the labels made of them, and a student; each stage gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskray.platform.data.preparation import check_source
from maskray.platform.data.unlabelled import check_unlabelled
from maskray.platform.distill.distill_data import Images, prepare_images
from maskray.platform.distill.distill_plan import plan_distillation, weights_of_distillation
from maskray.platform.distill.given_teacher import check_teacher, find_teacher
from maskray.platform.distill.labelling import join_labels, make_labels
from maskray.platform.distill.leaks import NOT_COMPARED, check_leaks
from maskray.platform.distill.prediction import Teacher, predict_unlabelled
from maskray.platform.distill.pseudo_labels import ANNOTATIONS, PROVENANCE
from maskray.platform.distill.stages import student_job, teacher_job
from maskray.platform.evaluation.row_prediction import decide_engine
from maskray.platform.files.lock import alone
from maskray.platform.files.model_files import SPEC_FILE, WEIGHTS_FILE
from maskray.platform.files.model_folder import read_model_spec
from maskray.platform.files.storage import write_whole
from maskray.platform.inference.engine import TORCH, Engine
from maskray.platform.job.config import JobConfig
from maskray.platform.job.distill_config import DistillConfig
from maskray.platform.job.load import dump_job, public_job
from maskray.platform.machine.ray_cluster import connect
from maskray.platform.machine.stop_signals import StopRequested, StopSignals
from maskray.platform.registry.models import sha256_of
from maskray.platform.registry.tracking import RunStatus, Tracking, status_after
from maskray.platform.runs.open_run import OpenRun
from maskray.platform.runs.publication import check_publication
from maskray.platform.runs.run_folder import JOB_FILE, finished_mark, open_folder, read_state
from maskray.platform.runs.summary import RunSummary
from maskray.platform.runs.training import Parent, run_training

LABELS, PREDICTIONS = "labels", "predictions"


@dataclass
class _Run(OpenRun):
    """A distillation on its way."""

    job: DistillConfig


def run_distillation(job: DistillConfig, resume: bool = False) -> RunSummary:
    """Run a distillation in the folder `<output>/<name>`; returns what came of the student.

    The folder gets teacher/ and student/, which are runs, labels/ (a COCO data set and distillation.json), predictions/
    and data/. On the tracking server each stage is a run of its own below that of the whole, with the tag `stage`.
    `resume` goes on in the stage where it was, with the same numbers as if it had not been stopped. ValueError as
    run_training, where an unlabelled image is in data.val, and where the teacher cannot label what is to be learned;
    StopRequested at SIGTERM and SIGINT, in training after a checkpoint, in prediction after what is in files already.
    """
    _check(job, resume)
    folder = open_folder(job, resume)
    run = _Run(job, folder, Tracking(job.tracking, job.output), resume, read_state(folder))
    with alone(folder, "distillation"), StopSignals() as signals:
        try:
            connect(job.resources.address, job.resources.local_cpus)
            signals.install()
            with run.stage("data"):
                images = prepare_images(job, run)
        except BaseException as error:
            if not resume:
                shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, StopRequested):
                error.detail, error.resumable = " before training", resume
            raise
        _start_tracking(run)
        try:
            summary = _run_stages(run, images)
            run.publish(lambda: _publish(run, summary))
            run.remember(finished=finished_mark(job))
        except BaseException as error:
            _give_up(run, run.state["run_id"], status_after(error))
            raise
    run.tell(f"    labels  {folder / LABELS / ANNOTATIONS}; how they were chosen: {PROVENANCE} beside it")
    return summary


def _check(job: DistillConfig, resume: bool) -> None:
    """Everything that can be known to be wrong before a folder is made."""
    check_source(job.data.train, "data.train")
    check_source(job.data.val, "data.val")
    check_unlabelled(job.distill.unlabelled, "distill.unlabelled")
    plan = plan_distillation(job)
    if plan.problems:
        raise ValueError("\n".join(plan.problems))
    if NOT_COMPARED in plan.warnings:
        check_leaks(job)
    if not resume:
        weights_of_distillation(job)
    check_publication(job.evaluation, job.data.val, Tracking(job.tracking, job.output), resume)


def _run_stages(run: _Run, images: Images) -> RunSummary:
    job, folder = run.job, run.folder
    teacher = _find_teacher(run, images)
    predictions, labels = folder / PREDICTIONS, folder / LABELS
    if not run.state.get("predicted"):
        with run.stage("predict"), _stage_run(run, "predict"):
            predict_unlabelled(teacher, images.unlabelled, images.rows, job.resources, predictions)
        run.remember(predicted=True)
    with run.stage("label"):
        if not labels.is_dir():
            with _stage_run(run, "label") as run_id:
                make_labels(job, images, run.state["teacher"], predictions, labels)
                run.publish(lambda: _publish_labels(run, run_id))
        both = join_labels(images, labels, folder / "data" / "shards" / "both")
    _tell_labels(run)
    with run.stage("student"):
        summary = _train(run, student_job(job, folder, both.location, run.tracking.uri))
    write_whole(folder / JOB_FILE, dump_job(job))  # what may change on a resume is taken up now, and not before
    return summary


def _find_teacher(run: _Run, images: Images) -> Teacher:
    """The teacher, trained first where none is given; one that has changed since the run began is refused."""
    job, folder = run.job, run.folder
    if "teacher" not in run.state:
        if job.distill.teacher is None:
            with run.stage("teacher"):
                trained = _train(run, teacher_job(job, folder, images.people.location, run.tracking.uri))
            place = str(trained.checkpoint.resolve().relative_to(folder.resolve()))
        else:
            place = find_teacher(job.distill.teacher, run.tracking, folder / "teacher_model")
        source = job.distill.teacher or "trained first on data.train"
        run.remember(teacher={"source": source, "folder": place, "sha256": _digests(folder / place)})
    known = run.state["teacher"]
    model = folder / known["folder"]
    check_teacher(str(model), job.model, images.people.labels)
    if _digests(model) != known["sha256"]:
        raise ValueError(f"{model}: not the teacher that this run began with (SHA-256); give the run a new name")
    if "precision" not in run.state:
        run.remember(precision=decide_engine(read_model_spec(model).model, job.resources).precision)
    return Teacher(str(model), job.distill.tta, Engine(TORCH.runtime, run.state["precision"]))


def _digests(model: Path) -> dict[str, str]:
    """SHA-256 of the files of a model, by name."""
    files = [model] if model.is_file() else [model / WEIGHTS_FILE, model / SPEC_FILE]
    return {file.name: sha256_of(file) for file in files}


def _train(run: _Run, training: JobConfig) -> RunSummary:
    """Train as a run in its own folder, from its beginning or from where it was."""
    folder = run.folder / training.name
    resume = (folder / JOB_FILE).is_file()
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)  # killed before it had a job
    parent = Parent(run.state["run_id"], _tags(run, training.name))
    return run_training(training, resume, parent)


def _tags(run: _Run, stage: str) -> dict[str, str]:
    return {"distillation": run.job.name, "stage": stage}


def _start_tracking(run: _Run) -> None:
    """Create the run of the whole on the tracking server, or take it up again."""
    if "run_id" in run.state:
        run.publish(lambda: run.tracking.resume_run(run.state["run_id"]))
        return
    run_id = run.publish(lambda: run.tracking.start_group(run.job.name, _tags(run, "(all)")))
    run.remember(run_id=run_id)
    run.publish(lambda: run.tracking.log_text(run_id, public_job(run.job), JOB_FILE))


@contextmanager
def _stage_run(run: _Run, stage: str) -> Iterator[str]:
    """The run on the tracking server of a stage that trains nothing."""
    key = f"{stage}_run_id"
    if key in run.state:
        run.publish(lambda: run.tracking.resume_run(run.state[key]))
    else:
        parent = run.state["run_id"]
        run.remember(**{key: run.publish(lambda: run.tracking.start_group(stage, _tags(run, stage), parent))})
    try:
        yield run.state[key]
    except BaseException as error:
        _give_up(run, run.state[key], status_after(error))
        raise
    run.publish(lambda: run.tracking.finish_run(run.state[key]))


def _give_up(run: _Run, run_id: str, status: RunStatus) -> None:
    """Leave the status of what failed on the server, unless that is what it failed of."""
    try:
        run.tracking.check_server()
        run.tracking.finish_run(run_id, status)
    except ValueError as error:
        run.tell(f"not on the tracking server: the end of run {run_id}: {error}")


def _provenance(run: _Run) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((run.folder / LABELS / PROVENANCE).read_text(encoding="utf-8"))
    return told


def _tell_labels(run: _Run) -> None:
    told = _provenance(run)
    images = told["unlabelled"]["images"]
    run.tell(f"  {told['labels']} labels in {images} images")
    for one in told["classes"]:
        if not one["enough_found"]:
            run.tell(f"  {one['name']}: all {one['labels']} detections are labels, fewer than people annotate")


def _publish_labels(run: _Run, run_id: str) -> None:
    told = _provenance(run)
    run.tracking.log_artifact(run_id, run.folder / LABELS / PROVENANCE)
    counts = {"labels": told["labels"], "images": told["unlabelled"]["images"]}
    run.tracking.log_changed_metrics(run_id, counts, 0)


def _publish(run: _Run, summary: RunSummary) -> None:
    """Metrics of teacher and student side by side, and the end of the run."""
    found = {f"student/{name}": value for name, value in summary.metrics.items() if value > -1}
    of_teacher = run.folder / "teacher" / "evaluation" / "metrics.json"
    if of_teacher.is_file():
        metrics = json.loads(of_teacher.read_text(encoding="utf-8"))
        found |= {f"teacher/{name}": value for name, value in metrics.items() if value > -1}
    run.tracking.log_changed_metrics(run.state["run_id"], found, 0)
    run.tracking.log_artifact(run.state["run_id"], run.folder / LABELS / PROVENANCE)
    run.tracking.finish_run(run.state["run_id"])
