"""From a job to what is run: prepare data, train, evaluate, register, check the server; one folder for one run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.train import UserCallback
from rich.console import Console

from maskray.model.config import ModelSpec
from maskray.platform.data.manifest import Manifest
from maskray.platform.data.preparation import check_source
from maskray.platform.evaluation.evaluate import evaluate_model
from maskray.platform.evaluation.report import EvaluatedModel
from maskray.platform.evaluation.row_prediction import decide_engine
from maskray.platform.evaluation.submission import check_submission
from maskray.platform.files.lease import Lease, LeaseLostError
from maskray.platform.files.lease_store import lease_store
from maskray.platform.files.storage import write_whole
from maskray.platform.job.config import JobConfig
from maskray.platform.job.load import dump_job, public_job
from maskray.platform.job.plan import plan_job
from maskray.platform.job.resume import changed_numbers
from maskray.platform.machine.ray_cluster import connect
from maskray.platform.machine.stop_signals import StopRequested, StopSignals
from maskray.platform.machine.terminal import tell
from maskray.platform.registry.registration import register_model
from maskray.platform.registry.tracking import RunStatus, Tracking, status_after
from maskray.platform.runs.open_run import OpenRun
from maskray.platform.runs.publication import (
    check_publication,
    collect_evidence,
    promote_version,
    publish_evaluation,
    publish_metrics,
)
from maskray.platform.runs.run_data import in_steps, prepare_data
from maskray.platform.runs.run_folder import JOB_FILE, finished_mark, open_folder, read_state, stored_job
from maskray.platform.runs.starting_weights import explain_weights, start_weights
from maskray.platform.runs.summary import RunSummary, print_summary
from maskray.platform.runs.validation import ShardValidation
from maskray.platform.train.launch import train
from maskray.platform.train.run_files import RunFiles


@dataclass
class _Run(OpenRun):
    """A training run; `ready` is the job with its length in steps and where its weights are, once both are known."""

    lease: Lease = field(kw_only=True)
    signals: StopSignals = field(kw_only=True)
    callbacks: Sequence[UserCallback] = ()
    ready: JobConfig | None = None

    def remember(self, **values: Any) -> None:
        """Keep what a resumed run must know, while the folder is this process's."""
        self.lease.check()
        super().remember(**values)


@dataclass(frozen=True)
class Parent:
    """The run on the tracking server that a run belongs to, and tags of the run that say how it belongs."""

    run_id: str
    tags: Mapping[str, str]


def run_training(
    job: JobConfig, resume: bool = False, parent: Parent | None = None, callbacks: Sequence[UserCallback] = ()
) -> RunSummary:
    """Run a job from its data to a registered model in the folder `<output>/<name>`, and print what came of it.

    A run that failed in preparing its data leaves nothing behind; a later failure keeps all that was written, and
    `resume` goes on from there. Raises ValueError where the name is taken, the job differs from the one resumed, data
    or weights are not there, training diverges, or a metric is below evaluation.expect (everything is written by then);
    LeaseHeldError where another process is at this run, LeaseLostError where one has taken it over; StopRequested at
    SIGTERM and SIGINT, in training after a checkpoint of the step it was at.
    A trial of a sweep has a `parent`, and `callbacks` that Ray Train calls at each checkpoint.
    """
    with StopSignals() as signals:
        _check(job, resume)
        with _opened(job, resume, signals) as run:
            run.callbacks = callbacks
            return _run_stages(run, parent)


@contextmanager
def _opened(job: JobConfig, resume: bool, signals: StopSignals) -> Iterator[_Run]:
    """The folder of a new run, made, or of the one to resume, and its lease, held meanwhile."""
    folder = open_folder(job, resume)
    console = Console()
    with Lease(lease_store(folder), lambda line: tell(console, line)) as lease:
        tracking = Tracking(job.tracking, job.output)
        yield _Run(job, folder, tracking, resume, read_state(folder), console=console, lease=lease, signals=signals)


def _run_stages(run: _Run, parent: Parent | None) -> RunSummary:
    """All of a run whose folder is open."""
    job, resume = run.job, run.resume
    for line in changed_numbers(stored_job(run.folder, job), job):
        run.tell(f"note: {line}")
    try:
        connect(job.resources.address, job.resources.local_cpus)
        run.signals.install()
        with run.stage("data"):
            manifests = prepare_data(job, run.folder / "data", run.tell)
            timed = in_steps(job, manifests["train"], run.tell)
            if job.evaluation.submission:
                check_submission(manifests["val"])
        labels = manifests["train"].labels
        run.ready, taken = start_weights(timed, labels, run.tracking, run.folder, resume, run.tell)
    except LeaseLostError:
        raise
    except BaseException as error:
        if not resume:
            shutil.rmtree(run.folder, ignore_errors=True)
        if isinstance(error, StopRequested):
            error.detail, error.resumable = " before training", resume
        raise
    run_id = _start_tracking(run, manifests, parent)
    try:
        if taken:
            run.publish(lambda: run.tracking.log_text(run_id, taken, "initial_weights.txt"))
        summary = _train_and_register(run, run_id, manifests)
        run.publish(lambda: run.tracking.finish_run(run_id))
        run.remember(finished=finished_mark(job))
    except LeaseLostError:
        raise  # what its folder and the server say is another process's by now
    except BaseException as error:
        _tell_failure(run, run_id, status_after(error))
        raise
    print_summary(summary, run.console)
    return summary


def _tell_failure(run: _Run, run_id: str, status: RunStatus) -> None:
    """Leave metrics and status of a run that failed on the server, unless that is what it failed of."""
    try:
        run.tracking.check_server()
        publish_metrics(RunFiles(run.folder), run.tracking, run_id)
        run.tracking.finish_run(run_id, status)
    except ValueError as error:
        run.tell(
            f"not on the tracking server: the run's end, and metrics that {run.folder} keeps for --resume: {error}"
        )


def _check(job: JobConfig, resume: bool) -> None:
    """Everything that can be known to be wrong before a folder is made."""
    check_source(job.data.train, "data.train")
    check_source(job.data.val, "data.val")
    problems = plan_job(job).problems
    if problems:
        raise ValueError("\n".join(problems))
    if not resume:
        explain_weights(job)
    check_publication(job.evaluation, job.data.val, Tracking(job.tracking, job.output), resume)


def _start_tracking(run: _Run, manifests: Mapping[str, Manifest], parent: Parent | None) -> str:
    run_id = run.state.get("run_id")
    if run_id is None:
        digests = {split: manifest.digest for split, manifest in manifests.items()}
        run_id = run.tracking.start_run(
            run.job, digests, parent.tags if parent else None, parent.run_id if parent else None
        )
        run.remember(run_id=run_id)
    else:
        run.tracking.resume_run(run_id)
    return str(run_id)


def _train_and_register(run: _Run, run_id: str, manifests: Mapping[str, Manifest]) -> RunSummary:
    """Train the job, whose length is in steps by now, and what follows."""
    job, ready, val = run.job, run.ready, manifests["val"]
    assert ready is not None
    spec = ModelSpec(model=job.model, input=job.input, labels=val.labels)
    engine = decide_engine(job.model, job.resources)
    with run.stage("training"):
        trained = train(
            ready,
            manifests["train"].location,
            str(run.folder),
            tracking={"uri": run.tracking.uri, "run_id": run_id},
            validate=ShardValidation(val.location, spec, job.evaluation.iou_types, engine),
            resume=run.resume,
            callbacks=run.callbacks,
            lease=run.lease,
            signals=run.signals,
        )
    run.lease.check()
    write_whole(run.folder / JOB_FILE, dump_job(job))  # what may change on a resume is taken up now, and not before
    out = run.folder / "evaluation"
    with run.stage("evaluation"):
        record = RunFiles(run.folder)
        steps = ready.train.num_steps
        if trained.early_stop is not None:
            steps = trained.step
            run.tell(f"  training ended early, after step {steps}: --resume with a larger train.patience goes on")
        training = f"{steps} steps of {job.train.images_per_batch} images"
        model = EvaluatedModel(trained.best, job.name, training, public_job(job), engine)
        submission = run.folder / "submission" if job.evaluation.submission else None
        metrics = evaluate_model(model, val, job.evaluation, job.resources, out, record.history(), submission)
        run.publish(lambda: publish_metrics(record, run.tracking, run_id))
        run.publish(lambda: publish_evaluation(run.tracking, run_id, out, metrics, trained.step))
    report = Path(out / "report.html")
    summary = RunSummary(job.name, run.folder, Path(trained.best), metrics, report, run.seconds, submission=submission)
    _check_expected(job.evaluation.expect, metrics)
    if job.tracking.register_as is not None:
        with run.stage("registration"):
            summary.model_uri = _register(run, run_id, summary, manifests)
    if job.serve.check_after_training:
        with run.stage("serving check"):
            summary.served_image = _check_server(run, trained.best, val)
    return summary


def _check_expected(expected: Mapping[str, float], metrics: Mapping[str, float]) -> None:
    for name, least in expected.items():
        if name not in metrics:
            raise ValueError(f"evaluation.expect: no metric {name!r}; there are {', '.join(sorted(metrics))}")
        if not metrics[name] >= least:
            raise ValueError(f"{name} is {metrics[name]:.3f}, below the {least:g} of evaluation.expect")


def _register(run: _Run, run_id: str, summary: RunSummary, manifests: Mapping[str, Manifest]) -> str:
    """Register the model and give it its alias, each once, however often the run is resumed."""
    config = run.job.tracking
    name, alias = str(config.register_as), config.alias
    evidence = collect_evidence(public_job(run.job), run.job.data.val, manifests, summary.report)
    checkpoint = summary.checkpoint.name
    # None yet, or one of another name, or of fewer steps, of a job resumed with this one.
    if run.state.get("register_as") != name or run.state.get("checkpoint", checkpoint) != checkpoint:
        folder, metrics = summary.checkpoint, summary.metrics
        version = run.publish(lambda: register_model(run.tracking, run_id, name, folder, metrics, evidence))
        run.remember(register_as=name, version=version, alias=None, checkpoint=checkpoint)
    version = str(run.state["version"])
    if alias is not None and run.state.get("alias") != alias:
        run.publish(lambda: promote_version(run.tracking, name, version, alias, config.gate))
        run.remember(alias=alias)
    return f"models:/{name}/{version}"


def _check_server(run: _Run, folder: str, val: Manifest) -> Path:
    """Deploy the model, send it one image over HTTP, and compare with what evaluation found."""
    from maskray.platform.serve.cluster.server_check import check_server

    results = json.loads((run.folder / "evaluation" / "results.json").read_text(encoding="utf-8"))
    return check_server(folder, run.job.serve, val, results, run.folder / "served.png")
