"""Runs as their folders tell of them: each state, who is at one, and that a deletion loses nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from maskray.platform.cli.main import app
from maskray.platform.files.lease import Lease, LeaseHeldError
from maskray.platform.files.lease_store import lease_store
from maskray.platform.files.lock import alone
from maskray.platform.job.config import JobConfig
from maskray.platform.job.load import dump_job
from maskray.platform.runs.run_folder import finished_mark
from maskray.platform.runs.run_records import delete_run, find_run, list_runs
from maskray.platform.train.run_files import Failure, RunFiles

SOURCE = {"kind": "synthetic", "num_images": 4, "seed": 1, "height": 64, "width": 96, "max_objects": 3}


def begin(output: Path, name: str, **metrics: float) -> RunFiles:
    """The folder of a run that has trained for seven of ten steps."""
    job = JobConfig.model_validate(
        {"name": name, "output": str(output), "data": {"train": SOURCE, "val": SOURCE}, "train": {"steps": 10}}
    )
    folder = output / name
    folder.mkdir(parents=True)
    (folder / "job.yaml").write_text(dump_job(job))
    files = RunFiles(folder)
    for step in range(1, 8):
        files.log({"loss": 1.0}, step)
    if metrics:
        (folder / "evaluation").mkdir()
        (folder / "evaluation/metrics.json").write_text(json.dumps(metrics))
        (folder / "run.json").write_text(json.dumps({"finished": finished_mark(job)}))
    return files


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["runs", *map(str, arguments)])


def test_each_state_is_told(tmp_path):
    begin(tmp_path, "half")
    begin(tmp_path, "whole", **{"segm/AP": 0.25, "bbox/AP": 0.5})
    begin(tmp_path, "bad").write_failure(Failure("divergence", 1, "step 7: the loss is not finite"))
    begin(tmp_path, "odd").folder.joinpath("job.yaml").write_text("kind: train\nname: [")
    (tmp_path / "notes").mkdir()
    begin(tmp_path, "busy")
    with Lease(lease_store(tmp_path / "busy")):
        records = {record.name: record for record in list_runs(tmp_path)}
    states = {name: (record.state, record.step, record.steps) for name, record in records.items()}
    assert states == {
        "half": ("interrupted", 7, 10),
        "whole": ("finished", 7, 10),
        "bad": ("failed", 7, 10),
        "odd": ("unreadable", 7, None),
        "busy": ("running", 7, 10),
    }
    assert records["bad"].told == "step 7: the loss is not finite"
    assert str(records["odd"].told).startswith(f"{tmp_path}/odd/job.yaml")
    assert str(records["busy"].told).startswith("process ")
    assert records["whole"].metrics["bbox/AP"] == 0.5
    assert find_run(tmp_path, "busy").state == "interrupted", "its process has released it"


def test_a_killed_run_runs_no_more(tmp_path):
    begin(tmp_path, "killed")
    code = (
        "import os, sys; from maskray.platform.files.lease import Lease; "
        "from maskray.platform.files.lease_store import lease_store; "
        "lease = Lease(lease_store(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "killed")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    record = find_run(tmp_path, "killed")
    assert (record.state, f"process {process.pid} on " in str(record.told)) == ("running", True)
    with pytest.raises(LeaseHeldError, match=f"held by process {process.pid}"):
        delete_run(record)
    process.kill()
    process.communicate()
    assert find_run(tmp_path, "killed").state == "interrupted"
    assert delete_run(record) > 0
    assert list(tmp_path.iterdir()) == []


def test_trials_stand_below_their_sweep_and_newest_signs_last(tmp_path):
    files = begin(tmp_path / "table", "one-seed-1", **{"segm/AP": 0.25})
    (files.folder / "finished.json").write_text("{}")
    base = yaml.safe_load((files.folder / "job.yaml").read_text())
    sweep = {"name": "table", "kind": "sweep", "output": str(tmp_path), "base": base, "seeds": [1]}
    sweep["base"] = {key: value for key, value in base.items() if key not in ("name", "kind", "output")}
    (tmp_path / "table/sweep.yaml").write_text(yaml.safe_dump(sweep | {"variants": {"one": {}, "two": {}}}))
    begin(tmp_path, "later")
    records = list_runs(tmp_path)
    assert [record.name for record in records] == ["table", "table/one-seed-1", "later"]
    assert (records[0].kind, records[0].state, records[0].told) == ("sweep", "interrupted", "1 trials ended")
    with Lease(lease_store(files.folder)), pytest.raises(ValueError, match=r"table/one-seed-1: held by process "):
        delete_run(find_run(tmp_path, "table"))
    delete_run(find_run(tmp_path, "table"))
    assert [path.name for path in tmp_path.iterdir()] == ["later"]


@pytest.mark.parametrize("name", ["notes.txt", ".hidden"])
def test_what_no_run_wrote_is_not_deleted(tmp_path, name):
    files = begin(tmp_path, "mine")
    (files.folder / name).write_text("what I saw")
    with pytest.raises(ValueError, match=f"mine: holds {re.escape(name)}, which no run wrote"):
        delete_run(find_run(tmp_path, "mine"))
    assert (files.folder / name).read_text() == "what I saw"
    assert files.history_path.is_file()


@pytest.mark.parametrize("name", ["..", "../elsewhere", "none", "", "/etc", "linked"])
def test_only_runs_of_the_folder_are_found(tmp_path, name):
    begin(tmp_path, "elsewhere")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="no run"):
        find_run(tmp_path / "runs", name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.json", "[1]"),
        ("run.json", '{"a"'),
        ("failure.json", '{"ki'),
        ("failure.json", '{"x": 1}'),
        ("failure.json", '{"kind": "a", "rank": 0, "message": 5}'),
        ("evaluation/metrics.json", "[1]"),
        ("evaluation/metrics.json", '{"segm/AP": "x"}'),
        ("evaluation/metrics.json", '{"segm/AP": null}'),
        ("history.jsonl", '5\n{"loss": 1}\n{"loss": 1, "step": null}\n'),
        ("events.jsonl", '5\n{"event": "a", "time": "x"}\n'),
        ("lease/000001", "garbage"),
        ("job.yaml", "a: [\n"),
    ],
)
def test_one_that_is_damaged_hides_no_other(tmp_path, name, text):
    """A file that no run wrote ended the list with a traceback."""
    begin(tmp_path, "sound")
    path = begin(tmp_path, "odd").folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    listed = command("list", "--output", tmp_path)
    assert listed.exit_code == 0, listed.exception
    assert "sound" in listed.output
    assert "odd" in listed.output
    assert command("show", "odd", "--output", tmp_path).exit_code == 0
    record = find_run(tmp_path, "odd")
    if record.state == "unreadable":
        assert str(record.told).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", ["sweep", "distillation"])
def test_one_that_works_between_its_runs_is_not_deleted(tmp_path, kind):
    """It has a lock and no lease: in its data and labels nothing told that it was there."""
    folder = begin(tmp_path, "busy").folder
    with alone(folder, kind):
        record = find_run(tmp_path, "busy")
        assert (record.state, record.told) == ("running", "another process")
        before = sorted(path.name for path in folder.iterdir())
        with pytest.raises(LeaseHeldError, match="busy: held by another process"):
            delete_run(record)
        assert sorted(path.name for path in folder.iterdir()) == before
    assert find_run(tmp_path, "busy").state == "interrupted"
    assert delete_run(record) > 0


def test_commands(tmp_path):
    assert command("list", "--output", tmp_path).output == f"{tmp_path}: no runs\n"
    begin(tmp_path, "first", **{"segm/AP": 0.25, "bbox/AP": -1.0}).note("start", step=0)
    begin(tmp_path, "second")
    shown = command("list", "--output", tmp_path).output
    assert all(text in shown for text in ("first", "finished", "7 of 10", "segm 25.0", "second", "interrupted"))
    told = json.loads(command("list", "--output", tmp_path, "--json").stdout)
    assert [(one["name"], one["state"]) for one in told] == [("first", "finished"), ("second", "interrupted")]
    shown = command("show", "first", "--output", tmp_path).output
    assert all(text in shown for text in (str(tmp_path / "first"), "finished", "25.0", "start  step 0", "none"))
    kept = CliRunner().invoke(app, ["runs", "delete", "first", "--output", str(tmp_path)], input="n\n")
    assert (kept.exit_code, (tmp_path / "first").is_dir()) == (1, True)
    gone = command("delete", "first", "second", "--yes", "--output", tmp_path)
    assert gone.exit_code == 0, gone.output
    assert list(tmp_path.iterdir()) == []
    assert str(command("list", "--output", tmp_path / "none").exception) == f"{tmp_path}/none: no folder of runs"


def test_to_list_runs_takes_no_torch(tmp_path):
    begin(tmp_path, "first")
    code = (
        "import sys; from maskray.platform.cli.main import app; "
        f"app(['runs', 'list', '--output', {str(tmp_path)!r}], standalone_mode=False); "
        "print([name for name in ('torch', 'ray', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
