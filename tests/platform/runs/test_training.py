"""Tests of whole runs: one small job through every stage, and the same weights on every path that predicts."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from small_network import SMALL_INPUT, SMALL_MODEL

from maskray.model.coco_categories import PERSON_KEYPOINTS
from maskray.platform.data.manifest import read_manifest
from maskray.platform.data.row_reader import read_rows
from maskray.platform.data.synthetic.dataset import synthesize
from maskray.platform.files.model_folder import read_model_folder, write_model_folder
from maskray.platform.inference.image_files import predict_files
from maskray.platform.job.config import JobConfig, ResourceConfig, TrackingConfig
from maskray.platform.job.load import load_job
from maskray.platform.machine.stop_signals import StopSignals
from maskray.platform.registry.description import describe_version
from maskray.platform.registry.models import resolve_model, version_of_alias
from maskray.platform.registry.registration import register_model
from maskray.platform.registry.tracking import Tracking
from maskray.platform.runs import training as training_run
from maskray.platform.runs.evaluation import evaluate_on_coco
from maskray.platform.runs.summary import RunSummary
from maskray.platform.runs.training import run_training
from maskray.platform.serve.cluster.deploy import deploy

IMAGE = {"kind": "synthetic", "height": 64, "width": 96, "max_objects": 3, "keypoints": True}
IOU_TYPES = ["bbox", "segm", "keypoints"]


def make_job(output: Path, name: str = "small", **changes: Any) -> JobConfig:
    """Four steps of a tiny network."""
    tree: dict[str, Any] = {
        "name": name,
        "output": str(output),
        "data": {
            "train": {**IMAGE, "num_images": 12, "seed": 1},
            "val": {**IMAGE, "num_images": 6, "seed": 2},
            "rows_per_shard": 4,
        },
        "input": SMALL_INPUT,
        "model": {**SMALL_MODEL, "keypoints": True, "keypoint_head": {"channels": 16, "num_convs": 1}},
        "train": {
            "steps": 4,
            "images_per_batch": 4,
            "reference_images_per_batch": 4,
            "warmup_steps": 1,
            "checkpoint_every": 2,
            "evaluate_every": 4,
            "log_every": 1,
        },
        "evaluation": {"report_images": 2, "iou_types": IOU_TYPES},
        "tracking": {
            "experiment": "small",
            "register_as": "small",
            "alias": "champion",
            "gate": {
                "evaluation_set": "synthetic-6-seed2",
                "metrics": {"segm/AP": 0.01},
                "latency": {"seconds": 100, "height": 64, "width": 96, "pictures": 2},
            },
        },
        "serve": {"check_after_training": True},
        "resources": {"num_workers": 1, "num_evaluators": 1},  # fewer processes that have to import torch
    }
    tree |= changes
    return JobConfig.model_validate(tree)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def told() -> io.StringIO:
    """What a finished run printed."""
    return io.StringIO()


@pytest.fixture(scope="module")
def summary(output: Path, told: io.StringIO) -> RunSummary:
    """A finished run."""
    with contextlib.redirect_stdout(told):
        return run_training(make_job(output))


def test_run_says_what_it_does_and_not_that_its_server_ended(summary: RunSummary, told: io.StringIO) -> None:
    assert "serving check" in told.getvalue()
    assert f"{100 * summary.metrics['segm/AP']:.1f}" in told.getvalue()
    assert "ServeController" not in told.getvalue()


def test_run_leaves_a_registered_and_evaluated_model(summary: RunSummary, output: Path) -> None:
    assert summary.model_uri == "models:/small/1"
    for file in ("job.yaml", "history.jsonl", "evaluation/report.html", "evaluation/results.json", "served.png"):
        assert (summary.folder / file).stat().st_size > 0
    tracking = Tracking(TrackingConfig(experiment="small"), output)
    folder = resolve_model("models:/small@champion", tracking, output / "cache")
    weights = Path(folder, "model.safetensors").read_bytes()
    assert weights == (summary.checkpoint / "model.safetensors").read_bytes()
    details = describe_version(tracking, "models:/small@champion")
    assert [check["name"] for check in details["comparisons"][0]["checks"]] == ["segm/AP", "latency, seconds"]
    assert details["latency"]["seconds"] > 0
    assert details["data"]["evaluation_digest"] == details["data"]["data_val_sha256"]
    run_id = json.loads((summary.folder / "run.json").read_text())["run_id"]
    run = tracking.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["final/bbox/AP"] == pytest.approx(summary.metrics["bbox/AP"])


def test_a_run_begins_with_a_registered_model(summary: RunSummary, output: Path) -> None:
    job = make_job(output, "begun", tracking={"experiment": "small"}, serve={})
    train = {"initial_weights": "models:/small@champion", "steps": 1, "checkpoint_every": 1, "base_lr": 1e-12}
    job = JobConfig.model_validate(job.model_dump() | {"train": job.train.model_dump() | train | {"weight_decay": 0}})
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        begun = run_training(job)
    assert "weights of models:/small@champion" in told.getvalue()
    before, after = (read_model_folder(folder)[0].state_dict() for folder in (summary.checkpoint, begun.checkpoint))
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, msg=name)
    assert load_job(begun.folder / "job.yaml").train.initial_weights == "models:/small@champion"


def test_a_run_resumed_under_another_name_registers_there_and_moves_no_alias_of_a_stranger(
    summary: RunSummary, output: Path
) -> None:
    tracking = {"experiment": "small", "register_as": "second", "alias": "champion"}
    job = make_job(output, tracking=tracking)
    manifests = {split: read_manifest(summary.folder / "data" / "shards" / split) for split in ("train", "val")}
    (summary.folder / "run.json.before").write_bytes((summary.folder / "run.json").read_bytes())
    with training_run._opened(job, resume=True, signals=StopSignals()) as run:
        strange = register_model(run.tracking, run.state["run_id"], "second", write_other(output, summary), {})
        assert training_run._register(run, run.state["run_id"], summary, manifests) == "models:/second/2"
        assert version_of_alias(run.tracking, "second", "champion") == "2" != strange
        assert version_of_alias(run.tracking, "small", "champion") == "1"
    (summary.folder / "run.json.before").replace(summary.folder / "run.json")


def write_other(output: Path, summary: RunSummary) -> Path:
    """A model folder with the same description and other weights."""
    model, spec = read_model_folder(summary.checkpoint)
    for parameter in model.parameters():
        parameter.data.zero_()
    return write_model_folder(output / "other", model, spec)


def test_the_same_weights_detect_the_same_everywhere(summary: RunSummary, tmp_path: Path) -> None:
    """Training-time evaluation, evaluation by actors, the predict command and the server agree."""
    in_training = json.loads((summary.checkpoint / "metrics.json").read_text())
    assert in_training == pytest.approx(summary.metrics, abs=1e-6)  # the same detections, matched in another order
    results = json.loads((summary.folder / "evaluation" / "results.json").read_text())
    assert results
    manifest = read_manifest(summary.folder / "data" / "shards" / "val")
    row = next(row for row in read_rows(manifest, range(6)) if row["image_id"] == results[0]["image_id"])
    image = tmp_path / f"{row['image_id']}.jpg"
    image.write_bytes(row["image"])
    expected = [result for result in results if result["image_id"] == row["image_id"]]
    (predicted,) = predict_files([image], str(summary.checkpoint))
    assert_same_detections(predicted.results, expected)
    job = make_job(tmp_path)
    server = deploy(str(summary.checkpoint), job.serve.model_copy(update={"port": 0}))
    try:
        headers = {"Content-Type": "image/jpeg"}
        answer = httpx.post(f"{server.url}/v1/predict", content=row["image"], headers=headers, timeout=300)
    finally:
        server.stop()
    assert answer.status_code == 200, answer.text
    assert_same_detections(answer.json()["detections"], expected)


def assert_same_detections(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """One path predicts all, but in batches of other sizes, whose sums have another order."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one["category_id"] == other["category_id"]
        # Another batch size, another kernel: float32 sums in another order.
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
        assert one["bbox"] == pytest.approx(other["bbox"], abs=0.01)
        assert one["segmentation"]["size"] == other["segmentation"]["size"]
        assert len(one["keypoints"]) == 51
        assert one["keypoints"][2::3] == pytest.approx(other["keypoints"][2::3], abs=1e-4)


def test_a_model_is_evaluated_on_a_data_set_by_itself(summary: RunSummary, tmp_path: Path) -> None:
    """With the metrics of the run that trained it, from its annotation file and images."""
    data = summary.folder / "data" / "synthetic"
    annotations = data / "annotations" / "person_keypoints_val.json"
    out = tmp_path / "evaluation"
    resources = ResourceConfig(num_workers=1, num_evaluators=1)
    again = evaluate_on_coco(str(summary.checkpoint), annotations, data / "val", out, resources)
    assert again.metrics == pytest.approx(summary.metrics, abs=1e-9)  # of float64 sums in another order
    results = json.loads((out / "results.json").read_text())
    assert results == json.loads((summary.folder / "evaluation" / "results.json").read_text())
    tree = json.loads(annotations.read_text())
    for annotation in tree["annotations"]:
        annotation["segmentation"] = []
    (tmp_path / "boxes.json").write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=r"boxes\.json: image .*: no segmentation, .*--iou-type bbox"):
        evaluate_on_coco(str(summary.checkpoint), tmp_path / "boxes.json", data / "val", tmp_path / "b", resources)
    boxes = evaluate_on_coco(
        str(summary.checkpoint), tmp_path / "boxes.json", data / "val", tmp_path / "b", resources, "bbox"
    )
    of_boxes = {name: value for name, value in summary.metrics.items() if name.startswith("bbox/")}
    assert boxes.metrics == pytest.approx(of_boxes, abs=1e-9)
    with pytest.raises(ValueError, match="exists already; an evaluation is never written over another"):
        evaluate_on_coco(str(summary.checkpoint), annotations, data / "val", out, resources)
    with pytest.raises(ValueError, match="no-photographs: no such folder"):
        evaluate_on_coco(str(summary.checkpoint), annotations, tmp_path / "no-photographs", tmp_path / "c", resources)


def test_a_run_name_is_used_once(summary: RunSummary, output: Path) -> None:
    before = sorted(path.name for path in summary.folder.rglob("*"))
    with pytest.raises(ValueError, match=r"a run of this name exists already.*--resume"):
        run_training(make_job(output))
    assert sorted(path.name for path in summary.folder.rglob("*")) == before


def test_resume_refuses_another_job_and_a_run_that_is_not_there(summary: RunSummary, output: Path) -> None:
    with pytest.raises(ValueError, match="cannot resume small with another seed"):
        run_training(make_job(output, seed=5), resume=True)
    with pytest.raises(ValueError, match="no run to resume"):
        run_training(make_job(output, name="other"), resume=True)


def test_a_missing_data_root_leaves_nothing_behind(output: Path) -> None:
    missing = {"kind": "coco", "annotations": "nowhere/a.json", "images": "nowhere"}
    data = {"train": missing, "val": missing}
    with pytest.raises(ValueError, match=r"data.train: nowhere/a.json: no such annotation file"):
        run_training(make_job(output, name="rootless", data=data))
    assert not (output / "rootless").exists()


def test_labels_without_the_keypoints_of_the_model_leave_nothing_behind(output: Path, tmp_path: Path) -> None:
    paths = synthesize(tmp_path, 4, seed=1, height=64, width=64)
    source = {"kind": "coco", "annotations": str(paths.annotations), "images": str(paths.images)}
    with pytest.raises(ValueError, match=r"model\.keypoints is true, but no category names keypoints"):
        run_training(make_job(output, name="faceless", data={"train": source, "val": source}, tracking={}))
    assert not (output / "faceless").exists()


def test_data_that_turn_out_bad_leave_nothing_behind(output: Path, tmp_path: Path) -> None:
    annotations = tmp_path / "a.json"
    images = [{"id": number, "file_name": "gone.jpg", "width": 8, "height": 8} for number in range(4)]
    annotations.write_text(
        json.dumps(
            {
                "images": images,
                "annotations": [],
                "categories": [{"id": 1, "name": "thing", "keypoints": PERSON_KEYPOINTS}],
            }
        )
    )
    source = {"kind": "coco", "annotations": str(annotations), "images": str(tmp_path)}
    with pytest.raises(ValueError, match=r"gone\.jpg"):
        run_training(make_job(output, name="gone", data={"train": source, "val": source}, tracking={}))
    assert not (output / "gone").exists()


def test_resuming_evaluates_again_and_fails_below_what_is_expected(summary: RunSummary, output: Path) -> None:
    """Nothing is registered again, and the run keeps what it had."""
    job = make_job(output, evaluation={"expect": {"segm/AP": 0.99}, "report_images": 0, "iou_types": IOU_TYPES})
    with pytest.raises(ValueError, match=r"segm/AP is .* below the 0.99 of evaluation.expect"):
        run_training(job, resume=True)
    metrics = json.loads((summary.folder / "evaluation" / "metrics.json").read_text())
    assert metrics == pytest.approx(summary.metrics, abs=1e-6)  # the same detections, matched in another order
    state = json.loads((summary.folder / "run.json").read_text())
    assert state["version"] == "1"
    tracking = Tracking(TrackingConfig(experiment="small"), output)
    assert tracking.client.get_run(state["run_id"]).info.status == "FAILED"


def test_a_finished_run_may_be_given_more_steps_and_not_fewer(summary: RunSummary, output: Path) -> None:
    """What it was given then is registered as a model of its own, unless the one before stays the best."""

    def job_of(steps: int) -> JobConfig:
        train = make_job(output).train.model_dump(mode="json") | {"steps": steps}
        tracking = {"experiment": "small", "register_as": "small"}
        evaluation = {"report_images": 0, "iou_types": IOU_TYPES}
        return make_job(output, train=train, tracking=tracking, evaluation=evaluation, serve={})

    with pytest.raises(ValueError, match=r"train\.steps 2: the run has trained 4 steps already"):
        run_training(job_of(2), resume=True)
    assert load_job(summary.folder / "job.yaml").train.steps == 4
    again = run_training(job_of(6), resume=True)
    history = [json.loads(line) for line in (summary.folder / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in history if "loss" in line] == [1, 2, 3, 4, 5, 6]
    best = Path(again.checkpoint).name
    assert again.model_uri == {"step-000004": "models:/small/1", "step-000006": "models:/small/2"}[best]
    assert load_job(summary.folder / "job.yaml").train.steps == 6
