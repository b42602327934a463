"""Runs on sqlite and on a real tracking server: what was logged can be read back by run id."""

import concurrent.futures
import math
import socket
import subprocess
import sys
import threading
import time

import pytest
import yaml

from maskray.platform.job.config import JobConfig, TrackingConfig
from maskray.platform.job.load import public_job, public_uri
from maskray.platform.job.sweep_config import SweepConfig
from maskray.platform.machine.environment import describe_commit, describe_environment
from maskray.platform.registry.models import list_models
from maskray.platform.registry.tracking import Tracking, flatten

pytestmark = pytest.mark.slow  # MLflow opens a database in each

DIGESTS = {"train": "a" * 64, "val": "b" * 64}


def history(tracking, run_id, name):
    return [(m.step, m.value) for m in tracking.client.get_metric_history(run_id, name)]


def test_run_holds_job_digests_environment_and_status(tracking, job, tmp_path):
    run_id = tracking.start_run(job, DIGESTS, {"purpose": "test"})
    run = tracking.client.get_run(run_id)
    assert run.info.status == "RUNNING"
    assert run.info.run_name == "probe"
    assert run.data.params["train.steps"] == "10"
    assert run.data.params["model.roi_op.name"] == "roi_align"
    assert run.data.params["model.anchors.sizes"] == "[32.0, 64.0, 128.0, 256.0, 512.0]"
    assert run.data.params.keys() == flatten(job.model_dump(mode="json")).keys()
    assert run.data.tags["purpose"] == "test"
    assert run.data.tags["data_train_sha256"] == "a" * 64
    assert run.data.tags["env.torch"] == describe_environment()["torch"]
    contexts = {item.dataset.name: (item.dataset.digest, item.tags[0].value) for item in run.inputs.dataset_inputs}
    assert contexts == {"train": ("a" * 36, "training"), "val": ("b" * 36, "validation")}
    stored = tracking.client.download_artifacts(run_id, "job.yaml", str(tmp_path))
    with open(stored, encoding="utf-8") as file:
        assert JobConfig.model_validate(yaml.safe_load(file)) == job
    tracking.finish_run(run_id)
    assert tracking.client.get_run(run_id).info.status == "FINISHED"
    tracking.resume_run(run_id)
    assert tracking.client.get_run(run_id).info.status == "RUNNING"
    tracking.finish_run(run_id, "FAILED")
    assert tracking.client.get_run(run_id).info.status == "FAILED"


def test_metrics_of_many_steps_arrive_whole(tracking, job):
    run_id = tracking.start_run(job, {})
    tracking.log_metrics(run_id, {"loss": 2.5, "segm/AP50": 0.25}, step=7)
    rows = [(step, 1_700_000_000_000 + step, {"loss_mask": 1.0 / step, "lr": 0.02}) for step in range(1, 1201)]
    tracking.log_metric_rows(run_id, rows)
    assert history(tracking, run_id, "segm/AP50") == [(7, 0.25)]
    logged = sorted(history(tracking, run_id, "loss_mask"))
    assert logged == [(step, 1.0 / step) for step in range(1, 1201)]


def test_loss_that_is_not_a_number_is_kept(tracking, job):
    run_id = tracking.start_run(job, {})
    tracking.log_metrics(run_id, {"loss": float("nan")}, step=1)
    assert math.isnan(tracking.client.get_run(run_id).data.metrics["loss"])


def test_files_and_folders_are_uploaded(tracking, job, tmp_path):
    run_id = tracking.start_run(job, {})
    report = tmp_path / "evaluation"
    report.mkdir()
    (report / "metrics.json").write_text("{}")
    tracking.log_artifact(run_id, report / "metrics.json")
    tracking.log_artifact(run_id, report, "evaluation")
    assert "metrics.json" in [item.path for item in tracking.client.list_artifacts(run_id)]
    assert [item.path for item in tracking.client.list_artifacts(run_id, "evaluation")] == ["evaluation/metrics.json"]
    with pytest.raises(ValueError, match=r"absent\.json: no such file"):
        tracking.log_artifact(run_id, tmp_path / "absent.json")


def test_child_run_knows_its_parent(tracking, job):
    parent = tracking.start_run(job, {})
    child = tracking.start_run(job, {}, parent_run_id=parent)
    assert tracking.client.get_run(child).data.tags["mlflow.parentRunId"] == parent


def test_unknown_run_is_an_error_of_one_line(tracking, job):
    tracking.start_run(job, {})
    with pytest.raises(ValueError, match=f"logging metrics of run {'f' * 32}: .*not found") as caught:
        tracking.log_metrics("f" * 32, {"loss": 1.0}, 1)
    assert "\n" not in str(caught.value)


def test_deleted_experiment_is_an_error(tracking, job):
    run_id = tracking.start_run(job, {})
    tracking.client.delete_experiment(tracking.client.get_run(run_id).info.experiment_id)
    with pytest.raises(ValueError, match=r"tracking\.experiment: .* was deleted"):
        tracking.start_run(job, {})


def test_run_page_is_known_for_a_server_only(tracking, job):
    run_id = tracking.start_run(job, {})
    url = tracking.run_url(run_id)
    assert (
        url is None
        if tracking.uri.startswith("sqlite")
        else url.endswith(f"/runs/{run_id}?workflowType=machine_learning")
    )


def test_pages_open_with_runs_and_tell_where_they_come_from(tracking, job):
    run = tracking.client.get_run(tracking.start_run(job, {}))
    experiment = tracking.client.get_experiment(run.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert run.data.tags["mlflow.source.name"] == "maskray run"
    assert run.data.tags["mlflow.source.type"] == "LOCAL"


@pytest.mark.parametrize("name", ["50% done", "a%20b", "what?now", "a #1 é", "q&a=b;c+d"])
def test_an_output_folder_of_any_name_holds_its_database(name, tmp_path):
    folder = tmp_path / name
    assert list_models(Tracking(TrackingConfig(), folder)) == []
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (folder / "mlflow.db").is_file()


def test_sqlite_run_leaves_nothing_outside_its_folder(job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Tracking(TrackingConfig(), "outputs").start_run(job, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == ["mlartifacts", "mlflow.db"]


def test_environment_of_the_process_cannot_redirect_a_run(job, tmp_path, monkeypatch):
    """MLFLOW_EXPERIMENT_ID and MLFLOW_RUN_ID, which a fluent call elsewhere sets, win over names in the fluent API."""
    for name, value in (("MLFLOW_EXPERIMENT_ID", "0"), ("MLFLOW_RUN_ID", "f" * 32), ("MLFLOW_TRACKING_URI", "foo://")):
        monkeypatch.setenv(name, value)
    tracking = Tracking(TrackingConfig(experiment="mine"), tmp_path)
    run_id = tracking.start_run(job, {})
    experiment_id = tracking.client.get_run(run_id).info.experiment_id
    assert tracking.client.get_experiment(experiment_id).name == "mine"


@pytest.mark.slow
def test_other_processes_log_by_uri_and_run_id_at_the_same_time(job, tmp_path):
    tracking = Tracking(TrackingConfig(), tmp_path)
    run_id = tracking.start_run(job, {})
    program = (
        "import sys; from maskray.platform.job.config import TrackingConfig;"
        "from maskray.platform.registry.tracking import Tracking;"
        "t = Tracking(TrackingConfig(uri=sys.argv[1]));"
        "[t.log_metrics(sys.argv[2], {sys.argv[3]: float(k)}, k) for k in range(40)]"
    )
    command = [sys.executable, "-c", program, tracking.uri, run_id]
    workers = [subprocess.Popen([*command, f"rank{rank}"], cwd=tmp_path) for rank in range(2)]
    assert [worker.wait(timeout=600) for worker in workers] == [0, 0]
    for rank in range(2):
        assert sorted(history(tracking, run_id, f"rank{rank}")) == [(k, float(k)) for k in range(40)]


def test_runs_that_start_with_the_same_new_data_at_the_same_time(tracking, job):
    for number in range(5):
        digests = {split: f"{number}{digest}" for split, digest in DIGESTS.items()}
        together = threading.Barrier(4)

        def start(_, digests=digests, together=together):
            together.wait(600)
            return tracking.start_run(job, digests)

        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            runs = list(threads.map(start, range(4)))
        for run in runs:
            inputs = tracking.client.get_run(run).inputs.dataset_inputs
            assert {item.dataset.name: item.dataset.digest for item in inputs} == {
                split: digest[:36] for split, digest in digests.items()
            }


def test_server_that_is_away_is_told_at_once(job, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)  # between MLflow's own tries: seven, minutes in all
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ValueError, match=r"tracking\.uri: the server http://127\.0\.0\.1:\d+ does not answer"):
        Tracking(TrackingConfig(uri=uri)).start_run(job, {})
    assert sum(waits) == 0


def test_password_is_neither_sent_in_a_uri_nor_stored(job, tmp_path):
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_USERNAME"):
        Tracking(TrackingConfig(uri="http://me:secret@127.0.0.1:1")).start_run(job, {})
    named = job.model_copy(update={"tracking": TrackingConfig(uri="postgresql://me:secret@db:5432/runs")})
    tracking = Tracking(TrackingConfig(), tmp_path)
    run_id = tracking.start_run(named, {})
    assert tracking.client.get_run(run_id).data.params["tracking.uri"] == "postgresql://db:5432/runs"
    stored = tracking.client.download_artifacts(run_id, "job.yaml", str(tmp_path))
    with open(stored, encoding="utf-8") as file:
        assert "secret" not in file.read()


def test_public_text_of_jobs_and_sweeps_holds_no_password(job):
    uri = "postgresql+psycopg2://me:se/cr@et@db:5432/runs"
    named = job.model_copy(update={"tracking": TrackingConfig(uri=uri)})
    base = {"tracking": {"uri": uri}, "data": {}}
    sweep = SweepConfig(name="s", base=base, seeds=(1, 2), tracking=TrackingConfig(uri=uri))
    for text in (public_job(named), public_job(sweep)):
        assert "cr@et" not in text
        assert "postgresql+psycopg2://db:5432/runs" in text
    for kept in ("sqlite:////tmp/a@b/mlflow.db", "http://host:5000", "relative@path"):
        assert public_uri(kept) == kept


@pytest.mark.parametrize("uri", ["foo://x", "file:///tmp/mlruns-of-old"])
def test_unsupported_store_is_an_error_of_one_line(uri, job):
    with pytest.raises(ValueError, match="starting run probe") as caught:
        Tracking(TrackingConfig(uri=uri)).start_run(job, {})
    assert "\n" not in str(caught.value)


def test_commit_is_that_of_the_file_and_dirty_when_tracked_files_changed(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(
            ["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    code = tmp_path / "code.py"
    code.write_text("1\n")
    assert describe_commit(str(code)) == {}
    git("add", "code.py")
    git("commit", "-qm", "first")
    (tmp_path / "untracked").write_text("")
    assert describe_commit(str(code)) == {"git_commit": git("rev-parse", "HEAD"), "git_dirty": "false"}
    code.write_text("2\n")
    assert describe_commit(str(code))["git_dirty"] == "true"
