"""Runs a sweep: data once, every trial that has not ended yet by Ray Tune, then the table."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from typing import Any

from rich.console import Console

from maskray.platform.data.manifest import Manifest
from maskray.platform.data.order import training_rows
from maskray.platform.data.preparation import check_source, prepare
from maskray.platform.data.suitability import split_rules
from maskray.platform.files.lock import alone
from maskray.platform.files.storage import write_whole
from maskray.platform.job.data_config import ShardSource
from maskray.platform.job.load import dump_job, load_job
from maskray.platform.job.resume import MAY_CHANGE_IN_SWEEP, check_same_job
from maskray.platform.job.schedule import with_steps
from maskray.platform.job.sweep_config import TRIAL_CPUS, SweepConfig
from maskray.platform.machine.ray_cluster import connect
from maskray.platform.machine.stop_signals import StopRequested, StopSignals
from maskray.platform.machine.terminal import tell
from maskray.platform.registry.tracking import status_after
from maskray.platform.runs.run_folder import JOB_FILE, SWEEP_FILE
from maskray.platform.sweep.parent_run import ParentRun, finish_parent, start_parent
from maskray.platform.sweep.sweep_plan import plan_sweep
from maskray.platform.sweep.table import SweepTable, build_table
from maskray.platform.sweep.table_files import print_table, write_table
from maskray.platform.sweep.trial_progress import SweepProgress
from maskray.platform.sweep.trial_record import OUTCOMES, TrialRecord, TrialState
from maskray.platform.sweep.trials import Trial, sweep_folder

ENDED: tuple[TrialState, ...] = ("finished", "stopped")
TUNE_LOG = "tune.log"
# Ray Tune writes a folder of loggers' files per trial and takes the interrupt for itself unless it is told not to.
TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}


def run_sweep(sweep: SweepConfig) -> SweepTable:
    """Run what is left of a sweep in `<output>/<name>`, write and print its table, and return it.

    The same sweep again goes on where it was: trials that have finished or were stopped by the scheduler are not
    repeated, trials under way resume, failed ones are tried again; variants and seeds may have been added. Raises
    ValueError for a sweep that cannot work, one that another process is running, a trial whose job has changed, and
    trials that failed (the table of the others is written by then); StopRequested at SIGTERM and the interrupt, where
    trials under way keep their last checkpoint.
    """
    plan = plan_sweep(sweep)
    if plan.problems:
        raise ValueError("\n".join(plan.problems))
    _check_sources(plan.trials)
    console = Console(file=sys.stdout)  # this very one: what Ray Tune prints is led elsewhere
    folder = sweep_folder(sweep)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder, "sweep"), StopSignals() as signals:
        write_whole(folder / SWEEP_FILE, dump_job(sweep))
        if any(TrialRecord(trial).state not in ENDED for trial in plan.trials):
            resources = plan.trials[0].job.resources
            connect(resources.address, resources.local_cpus)
            signals.install()
        trials = _share_data(sweep, plan.trials)
        check_trials([TrialRecord(trial) for trial in trials])
        parent = start_parent(sweep, trials[0].job.tracking, folder, partial(tell, console))
        records = [TrialRecord(_tracked(trial, parent.uri)) for trial in trials]
        try:
            _run_trials(sweep, records, parent, console)
            table = build_table(sweep, records)
            write_table(table, folder)
        except BaseException as error:
            begun = [record.run_id for record in records if record.state == "begun"]
            parent.give_up(begun, status_after(error))
            if signals.asked is not None:  # Ray Tune makes an interrupt of its own of it
                raise StopRequested(signals.asked) from error
            raise
        parent.wait(lambda: finish_parent(parent, sweep, table, folder))
        print_table(table, folder, console)
    failed = [record for record in records if record.state == "failed"]
    if failed:
        lines = "\n".join(f"  {record.trial.name}: {record.outcome()['error']}" for record in failed)
        raise ValueError(f"{len(failed)} of {len(records)} trials failed; the same command tries them again\n{lines}")
    return table


def _run_trials(sweep: SweepConfig, records: Sequence[TrialRecord], parent: ParentRun, console: Console) -> None:
    """Run the trials that have not ended, and note which of them the scheduler stopped."""
    for record in records:
        if record.state == "failed":
            record.reopen()
    left = [record for record in records if record.state not in OUTCOMES]
    if len(left) < len(records):
        console.print(f"{len(records) - len(left)} of {len(records)} trials have ended already", highlight=False)
    if not left:
        return
    ended = [record for record in records if record.state in OUTCOMES]
    told = sweep_folder(sweep) / TUNE_LOG
    with SweepProgress(records, sweep.metric, console), told.open("a") as log, redirect_stdout(log):
        lost = _tune(sweep, left, ended, parent.run_id)
    for record in left:
        if record.state in OUTCOMES:
            continue
        if record.trial.name in lost:
            record.close("failed", error=lost[record.trial.name])
            parent.end_child(record.run_id, "FAILED")
        else:
            parent.end_child(record.run_id, "KILLED")
            record.close("stopped", step=record.step(), evaluations=record.evaluations(sweep.metric))


def _tune(
    sweep: SweepConfig, left: Sequence[TrialRecord], ended: Sequence[TrialRecord], parent_id: str
) -> dict[str, str]:
    """Run trials by Ray Tune; returns the errors of those whose process was lost too often, by name."""
    os.environ |= TUNE_ENVIRONMENT
    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.ERROR)  # it misses the files of the loggers that are turned off

    from maskray.platform.sweep.schedulers import build_scheduler
    from maskray.platform.sweep.trial_run import run_trial

    trials = {record.trial.name: record.trial for record in left}
    function = partial(run_trial, sweep=sweep, trials=trials, parent_id=parent_id)
    longest = max(record.trial.job.train.total_steps for record in [*left, *ended])
    results = tune.Tuner(
        tune.with_resources(function, {"CPU": TRIAL_CPUS}),
        param_space={"trial": tune.grid_search(list(trials))},
        tune_config=tune.TuneConfig(
            scheduler=build_scheduler(sweep, longest, ended),
            max_concurrent_trials=sweep.max_concurrent,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=f"{sweep.name}-{secrets.token_hex(4)}",  # Tune's own files, read by nobody afterwards
            storage_path=str(sweep_folder(sweep) / "ray"),
            failure_config=tune.FailureConfig(max_failures=sweep.max_failures),
            verbose=0,
        ),
    ).fit()
    return {
        results[index].config["trial"]: " ".join(str(results[index].error).split())[-300:]
        for index in range(len(results))
        if results[index].error is not None
    }


def _check_sources(trials: Sequence[Trial]) -> None:
    """ValueError where data of a trial cannot be read; each different source is looked at once."""
    seen: list[tuple[str, Any]] = []
    for trial in trials:
        for split in ("train", "val"):
            source = getattr(trial.job.data, split)
            if (split, source) not in seen:
                check_source(source, f"base.data.{split}")
                seen.append((split, source))


def _share_data(sweep: SweepConfig, trials: Sequence[Trial]) -> list[Trial]:
    """The trials with shards in place of their sources, and their length in steps.

    Each different source is drawn and sharded once.
    """
    shared: dict[str, dict[str, Manifest]] = {}
    result = []
    for trial in trials:
        data = trial.job.data
        made_of: list[Any] = [data.train, data.val, data.rows_per_shard, data.max_bad_images]
        rules = split_rules(data, trial.job.model.masks, trial.job.evaluation.iou_types)
        if data.objects_without_masks == "drop":  # what is left out depends on what masks are wanted of
            made_of += [rules[split].masks for split in ("train", "val")]
        text = json.dumps([part.model_dump(mode="json") if hasattr(part, "model_dump") else part for part in made_of])
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        if key not in shared:
            folder = sweep_folder(sweep) / "data" / key
            shared[key] = {
                split: prepare(source, split, folder, data.rows_per_shard, data.max_bad_images, rules[split])
                for split, source in (("train", data.train), ("val", data.val))
            }
        sources = {split: ShardSource(path=manifest.location) for split, manifest in shared[key].items()}
        num_images = len(training_rows(shared[key]["train"], data.skip_images_without_objects))
        job = with_steps(trial.job, num_images)
        result.append(replace(trial, job=job.model_copy(update={"data": data.model_copy(update=sources)})))
    return result


def _tracked(trial: Trial, uri: str) -> Trial:
    """The trial with its run on the server of the sweep."""
    tracking = trial.job.tracking.model_copy(update={"uri": uri})
    return replace(trial, job=trial.job.model_copy(update={"tracking": tracking}))


def check_trials(records: Sequence[TrialRecord]) -> None:
    """ValueError naming the keys in which a trial that was begun or has ended differs from what is asked for now."""
    for record in records:
        if (record.folder / JOB_FILE).is_file():
            check_same_job(load_job(record.folder / JOB_FILE), record.trial.job, MAY_CHANGE_IN_SWEEP)
