"""A run whose tracking server is killed in its middle and at its end, and is delivered when the server is back."""

import json
import threading
import time

import pytest

from maskray.platform.job.config import JobConfig, TrackingConfig
from maskray.platform.registry.description import describe_version
from maskray.platform.registry.gate import GateRefusedError
from maskray.platform.registry.models import list_models
from maskray.platform.registry.server_errors import ServerAwayError
from maskray.platform.registry.tracking import Tracking
from maskray.platform.runs.publication import check_publication, evaluation_figures, publish_evaluation
from maskray.platform.runs.training import run_training
from maskray.platform.train.checkpoint import newest_checkpoint
from maskray.platform.train.run_files import RunFiles

STEPS = 150
GATE = {"evaluation_set": "synthetic-4-seed2", "metrics": {"bbox/AP": 0.01}}


def make_job(output, server, **tracking):
    """Boxes only, by a network of almost nothing, one worker: many steps in little time."""
    image = {"kind": "synthetic", "height": 64, "width": 64, "max_objects": 2}
    return JobConfig.model_validate(
        {
            "name": "outage",
            "output": str(output),
            "data": {"train": {**image, "num_images": 8, "seed": 1}, "val": {**image, "num_images": 4, "seed": 2}},
            "input": {"shorter_edge": 64, "longer_edge_max": 64},
            "model": {
                "backbone": {"name": "resnet18", "norm": "group_norm", "freeze_stages": 0, "fpn_channels": 8},
                "anchors": {"sizes": [8, 16, 32, 64, 128]},
                "rpn": {"pre_nms_top_n_train": 20, "post_nms_top_n_train": 10, "post_nms_top_n_test": 10},
                "box_head": {"hidden_channels": 8, "samples_per_image": 4},
                "masks": False,
                "inference": {"score_threshold": 0.01, "detections_per_image": 5},
            },
            "train": {
                "steps": STEPS,
                "images_per_batch": 1,
                "base_lr": 0.0001,
                "warmup_steps": 1,
                "checkpoint_every": STEPS,
                "log_every": 1,
                "best_metric": "bbox/AP",
            },
            "resources": {"num_workers": 1, "num_evaluators": 1, "local_cpus": 3},
            "evaluation": {"report_images": 1, "iou_types": ["bbox"]},
            "tracking": {"uri": server.uri, "experiment": "outage", "wait_seconds": 1, **tracking},
        }
    )


class Outages(threading.Thread):
    """Kills the server in the middle of training, starts it again some steps later, and kills it for good."""

    def __init__(self, server, record):
        super().__init__()
        self.server, self.record = server, record
        self.steps = []  # at which it was killed, started, and killed again
        self.failure = None

    def wait_for_step(self, least):
        deadline = time.monotonic() + 600
        while True:
            newest = self.record.newest_metrics()
            if newest is not None and newest["step"] >= least:
                self.steps.append(newest["step"])
                return
            assert time.monotonic() < deadline, f"step {least} does not come"
            time.sleep(0.02)

    def run(self):
        try:
            self.wait_for_step(5)
            self.server.kill()
            self.wait_for_step(self.steps[0] + 10)
            self.server.start()
            self.wait_for_step(STEPS)
            self.server.kill()
        except BaseException as error:
            self.failure = error


def logged_steps(tracking, run_id):
    """Steps of each metric that the server has, as often as it has them."""
    client = tracking.client
    names = client.get_run(run_id).data.metrics
    return {name: sorted(point.step for point in client.get_metric_history(run_id, name)) for name in names}


def test_server_away_in_mid_run_and_at_its_end_loses_no_metric(
    ray_cluster, sqlite_server, as_trainer, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    record = RunFiles(tmp_path / "outage")
    job = make_job(tmp_path, sqlite_server)
    outages = Outages(sqlite_server, record)
    outages.start()
    try:
        with pytest.raises(ServerAwayError, match="does not answer"):
            run_training(job)
        outages.join(300)
        assert outages.failure is None
        history = record.history()
        assert [line["step"] for line in history if "loss" in line] == list(range(1, STEPS + 1))

        sqlite_server.start()
        refusing = make_job(
            tmp_path, sqlite_server, register_as="outage", alias="champion", gate={**GATE, "max_bytes": 1}
        )
        with pytest.raises(GateRefusedError, match=r"outage version 1 does not get alias champion.*more than 1"):
            run_training(refusing, resume=True)
    finally:
        if sqlite_server.process is None:
            sqlite_server.start()
    state = json.loads((record.folder / "run.json").read_text())
    assert state == {
        "run_id": state["run_id"],
        "register_as": "outage",
        "version": "1",
        "alias": None,
        "checkpoint": newest_checkpoint(record.checkpoints)[0].name,
    }
    tracking = Tracking(job.tracking)
    logged = logged_steps(tracking, state["run_id"])
    names = {name for line in record.history() for name in line} - {"step", "time"}
    for name in names:
        assert logged[name] == sorted(line["step"] for line in record.history() if name in line), name
    assert logged["final/bbox/AP"] == [STEPS]
    assert tracking.client.get_run(state["run_id"]).info.status == "FAILED"
    (version,) = [version for version in list_models(tracking) if version["name"] == "outage"]
    assert version["aliases"] == []
    details = describe_version(tracking, "models:/outage/1")
    assert not details["comparisons"][0]["passed"]
    assert {"job.yaml", "labels.json", "metrics.json", "report.html"} <= details["files"].keys()
    assert details["data"]["evaluation_set"] == GATE["evaluation_set"]


def test_gate_that_does_not_fit_the_job_is_told_before_anything_begins(sqlite_server, as_trainer, tmp_path):
    for change, message in (
        ({"evaluation_set": "val2017"}, "evaluation_set is 'val2017', but data.val is 'synthetic-4-seed2'"),
        ({"metrics": {"segm/AP": 0.0}}, "tracking.gate.metrics: segm/AP is not of evaluation.iou_types"),
        ({"metrics": {"bbox/APX": 0.0}}, "tracking.gate.metrics: no metric bbox/APX; of bbox AP, AP50"),
    ):
        job = make_job(tmp_path, sqlite_server, register_as="m", alias="champion", gate=GATE | change)
        with pytest.raises(ValueError, match=message):
            check_publication(job.evaluation, job.data.val, Tracking(job.tracking))
    with pytest.raises(ValueError, match="gate guards an alias: set register_as and alias too"):
        make_job(tmp_path, sqlite_server, gate=GATE)


def test_classes_whose_names_become_the_same_all_have_figures(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "per_class.csv").write_text(
        "category_id,name,bbox/AP\n1,кот,0.5\n2,пёс,0.25\n3,..,0.125\n4,cat,0.75\n", encoding="utf-8"
    )
    (out / "diagnostics.json").write_text("{}")
    tracking = Tracking(TrackingConfig(), tmp_path / "tracking")
    run_id = tracking.start_group("named", {})
    publish_evaluation(tracking, run_id, out, {}, 0)
    assert tracking.client.get_run(run_id).data.metrics == {
        "class/___ 1/bbox_AP": 0.5,
        "class/___ 2/bbox_AP": 0.25,
        "class/__/bbox_AP": 0.125,
        "class/cat/bbox_AP": 0.75,
    }


def test_figures_of_an_evaluation_have_names_that_a_server_takes(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "per_class.csv").write_text(
        "category_id,name,objects,bbox/AP,bbox/AP50,segm/AP\n1,traffic light,3,0.5,0.75,0.25\n2,Tür/<b>,0,,,0.1\n"
    )
    one = {"best_score": {"all": None}, "calibration": {"error": None}}
    errors = {"missed": {"cost": 0.125, "count": 3}, "class": {"cost": 0.0, "count": 0}}
    best = {"score": 0.4, "f1": 0.6, "precision": 0.5, "recall": 0.75}
    two = {"best_score": {"all": best}, "calibration": {"error": 0.05}, "errors": errors}
    (out / "diagnostics.json").write_text(json.dumps({"bbox": two, "keypoints": one}))
    figures = {
        "class/traffic light/bbox_AP": 0.5,
        "class/traffic light/segm_AP": 0.25,
        "class/T_r__b_/segm_AP": 0.1,
        "errors/bbox/missed": 0.125,
        "errors/bbox/class": 0.0,
        "best_score/bbox": 0.4,
        "best_f1/bbox": 0.6,
        "calibration_error/bbox": 0.05,
    }
    assert evaluation_figures(out) == figures
    tracking = Tracking(TrackingConfig(), tmp_path / "tracking")
    run_id = tracking.start_group("named", {})
    publish_evaluation(tracking, run_id, out, {"bbox/AP": 0.4, "bbox/APs": -1.0}, 7)
    assert tracking.client.get_run(run_id).data.metrics == figures | {"final/bbox/AP": 0.4}
