"""Whole sweeps on a real Ray cluster: killed and gone on with, trials that fail, trials that are stopped early."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from maskray.platform.job.config import TrackingConfig
from maskray.platform.job.kinds import load_any
from maskray.platform.registry.tracking import Tracking
from maskray.platform.sweep.parent_run import read_parent
from maskray.platform.sweep.trial_record import TrialRecord
from maskray.platform.sweep.trials import list_trials
from maskray.platform.train.run_files import RunFiles

DEADLINE_SECONDS = 1800


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "maskray.platform.cli.main", *arguments]


def records_of(path: Path) -> dict[str, TrialRecord]:
    return {trial.name: TrialRecord(trial) for trial in list_trials(load_any(path))}


def wait_until(condition: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert process.poll() is None, f"the sweep ended early: {process.communicate()}"
        assert time.monotonic() < deadline, "the sweep does not get there"
        time.sleep(0.2)


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(DEADLINE_SECONDS * 3)
def test_killed_sweep_goes_on_repeats_nothing_and_stops_what_cannot_learn(tree, tmp_path):
    """kill -9 in the second trial; the same command resumes it, and stops it by what the first had reached.

    Its learning rate is next to nothing, and ASHA judges after 40 steps. The third trial diverges.
    """
    tree["variants"] = {
        "learns": {"train.steps": 42},
        "stands still": {"train.base_lr": 1e-12, "model.roi_op.name": "roi_pool", "model.roi_op.reduction": "max"},
        "too fast": {"train.base_lr": 1e30, "train.warmup_steps": 0},
    }
    train = {"steps": 200, "evaluate_every": 40, "checkpoint_every": 4, "clip_gradient_norm": 10.0, "base_lr": 0.05}
    tree["base"]["train"] |= train | {"images_per_batch": 4, "reference_images_per_batch": 4}
    tree |= {"seeds": [1], "metric": "bbox/AR100"}
    tree["scheduler"] = {"name": "asha", "grace_steps": 40, "reduction_factor": 2}
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(tree))
    learns, still, fast = records_of(path).values()
    process = subprocess.Popen(
        command("run", str(path)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        wait_until(lambda: learns.state == "finished" and still.step() >= 5, process)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert (still.state, fast.state) == ("begun", "new")
    kept = learns.outcome()
    tree["base"]["resources"]["local_cpus"] = 5
    path.write_text(yaml.safe_dump(tree | {"max_concurrent": 2}))
    again = subprocess.run(
        command("run", str(path)), capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert again.returncode == 1, again.stdout + again.stderr
    assert "1 of 3 trials have ended already" in again.stdout
    assert "1 of 3 trials failed" in again.stderr
    assert "too-fast-seed-1" in again.stderr
    assert (learns.outcome(), learns.state) == (kept, "finished")
    starts = [event["step"] for event in RunFiles(still.folder).events() if event["event"] == "start"]
    assert len(starts) >= 2
    assert starts[-1] >= 4, "the killed trial began anew"
    assert (still.state, fast.state) == ("stopped", "failed")
    assert 40 <= still.step() < 200
    check_tracking(tmp_path / "tiny", [learns, still, fast])
    assert "1 failed" in (tmp_path / "tiny" / "table.md").read_text()
    assert "1 stopped" in (tmp_path / "tiny" / "table.md").read_text()
    del tree["variants"]["too fast"]
    path.write_text(yaml.safe_dump(tree))
    check_nothing_is_repeated(path, [learns, still])


def check_nothing_is_repeated(path: Path, records: list[TrialRecord]) -> None:
    """The sweep once more, whose trials have all finished or been stopped, trains no step."""
    histories = {file: file.read_bytes() for record in records for file in record.folder.glob("*.jsonl")}
    assert len(histories) >= len(records)
    whole = subprocess.run(
        command("run", str(path)), capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert f"{len(records)} of {len(records)} trials have ended already" in whole.stdout
    assert {file: file.read_bytes() for file in histories} == histories


def check_tracking(folder: Path, records: list[TrialRecord]) -> None:
    """One parent run with the table, and one nested run for each trial however often it was started."""
    run_id, uri = read_parent(folder)
    client = Tracking(TrackingConfig(uri=uri)).client
    parent = client.get_run(run_id)
    found = client.search_runs([parent.info.experiment_id], filter_string=f"tags.mlflow.parentRunId = '{run_id}'")
    assert {run.info.run_id for run in found} == {record.run_id for record in records}
    tags = {run.data.tags["mlflow.runName"]: run.data.tags for run in found}
    assert tags["stands-still-seed-1"]["variant"] == "stands still"
    assert tags["stands-still-seed-1"]["model.roi_op.name"] == "roi_pool"
    assert {item.path for item in client.list_artifacts(run_id)} >= {
        "table.html",
        "table.md",
        "table.csv",
        "sweep.yaml",
    }
    assert parent.info.status == "FAILED"  # a trial is missing
    compare = subprocess.run(
        command("sweep", "open", str(folder), "--server", "http://127.0.0.1:5000"),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert compare.stdout.startswith("http://127.0.0.1:5000/#/metric?runs=")
    assert str(records[0].run_id) in compare.stdout
    assert {run.data.tags["variant"]: run.info.status for run in found} == {
        "learns": "FINISHED",
        "stands still": "KILLED",
        "too fast": "FAILED",
    }


@pytest.mark.slow
def test_a_sweep_that_runs_already_is_left_alone(tree, tmp_path):
    import fcntl

    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(tree))
    (tmp_path / "tiny").mkdir()
    with (tmp_path / "tiny" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = subprocess.run(
            command("run", str(path)), capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
        )
    assert found.returncode == 1
    assert "another process is running this sweep" in found.stderr
    assert not (tmp_path / "tiny" / "sweep.yaml").exists()


def test_a_trial_that_has_changed_is_refused(tree, tmp_path):
    """Metrics of another job must not stand in the table under the same name."""
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(tree))
    record = next(iter(records_of(path).values()))
    record.folder.mkdir(parents=True)
    from maskray.platform.job.load import dump_job
    from maskray.platform.sweep.sweep_run import check_trials

    (record.folder / "job.yaml").write_text(dump_job(record.trial.job))
    check_trials([record])
    tree["base"]["train"]["base_lr"] = 0.5
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ValueError, match=f"cannot resume {record.trial.name} with another train"):
        check_trials([next(iter(records_of(path).values()))])


@pytest.mark.parametrize("arguments", [["table"], ["open"]])
def test_folders_that_are_no_sweep_are_told(tmp_path, arguments):
    found = subprocess.run(
        command("sweep", *arguments, str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert found.returncode == 1
    assert "no sweep" in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_evaluations_of_earlier_trials_reach_the_scheduler(make_sweep):
    """After a restart ASHA knows what trials of the first process had reached."""
    from maskray.platform.sweep.schedulers import build_scheduler

    records = [TrialRecord(trial) for trial in list_trials(make_sweep(variants={}, seeds=[1, 2, 3]))]
    for record, value in zip(records, (0.1, 0.5)):
        record.folder.mkdir(parents=True)
        (record.folder / "history.jsonl").write_text(json.dumps({"step": 2, "val/segm/AP": value}) + "\n")
    for name in ("asha", "median"):
        sweep = make_sweep(scheduler={"name": name, "grace_steps": 1, "reduction_factor": 2, "min_trials": 2})
        assert judge_late(build_scheduler(sweep, 4, records[:2]), 0.05) == "STOP"
        assert judge_late(build_scheduler(sweep, 4, records[:2]), 0.95) == "CONTINUE"


def judge_late(scheduler: Any, value: float) -> str:
    """What a scheduler says of one more trial with this value after two steps."""
    late = type("Late", (), {"trial_id": "late"})()
    scheduler.on_trial_add(None, late)
    return str(scheduler.on_trial_result(None, late, {"step": 2, "segm/AP": value}))


def test_trials_that_were_stopped_are_told_to_the_scheduler_again(make_sweep):
    """Their history may go on a little after the evaluation that ended them; steps may be those of a variant."""
    from maskray.platform.sweep.schedulers import build_scheduler

    variants = {"short": {"train.steps": 4}, "long": {"train.steps": 40}}
    for name in ("asha", "median"):
        scheduler = {"name": name, "grace_steps": 1, "reduction_factor": 2, "min_trials": 2}
        sweep = make_sweep(variants=variants, scheduler=scheduler, output=make_sweep().output + name)
        sweep.base["train"].pop("steps", None)
        records = [TrialRecord(trial) for trial in list_trials(sweep)]
        for record, value in zip(records, (0.9, 0.8, 0.1)):
            record.folder.mkdir(parents=True)
            lines = [json.dumps({"step": step, "val/segm/AP": value}) for step in (2, 4, 6, 8)]
            (record.folder / "history.jsonl").write_text("\n".join(lines) + "\n")
        assert judge_late(build_scheduler(sweep, 40, records[:3]), 0.05) == "STOP"
        assert judge_late(build_scheduler(sweep, 40, records[:3]), 0.95) == "CONTINUE"


def test_a_trial_that_failed_before_it_began_is_tried_again(make_sweep):
    record = TrialRecord(list_trials(make_sweep())[0])
    record.close("failed", error="no")
    assert (record.state, record.outcome()["error"]) == ("failed", "no")
    record.reopen()
    assert (record.state, record.folder.exists()) == ("new", False)
    record.folder.mkdir()
    (record.folder / "job.yaml").write_text("")
    record.close("failed", error="no")
    record.reopen()
    assert (record.state, record.folder.exists()) == ("begun", True)
    (record.folder / "trial-finished.json").write_text("{")
    with pytest.raises(ValueError, match=r"trial-finished\.json: not readable"):
        record.outcome()
