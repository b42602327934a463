"""A whole distillation on a real Ray cluster, killed in its stages and gone on with: the same numbers.

Its processes join the cluster that the tests share: to start one takes longer than any of the stages.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from maskray.platform.data.manifest import read_manifest
from maskray.platform.data.row_reader import read_rows
from maskray.platform.distill.prediction import read_predictions
from maskray.platform.job.config import TrackingConfig
from maskray.platform.registry.tracking import Tracking

DEADLINE_SECONDS = 1200
STAGES = ("teacher", "predict", "label", "student")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(DEADLINE_SECONDS)]


def command(path: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "maskray.platform.cli.main", "run", str(path), *arguments]


def state_of(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    return json.loads(path.read_text()) if path.is_file() else {}  # it is replaced as a whole


# What there is once a stage has begun, and what there is only after it.
BEGUN: dict[str, Callable[[Path], bool]] = {
    "teacher": lambda folder: (folder / "teacher" / "checkpoints" / "step-000002").is_dir(),
    "predict": lambda folder: (folder / "predictions" / "found-000000.jsonl").is_file(),
    "label": lambda folder: "label_run_id" in state_of(folder),
    "student": lambda folder: (folder / "student" / "checkpoints" / "step-000002").is_dir(),
}
ENDED: dict[str, Callable[[Path], bool]] = {
    "teacher": lambda folder: "teacher" in state_of(folder),
    "predict": lambda folder: "predicted" in state_of(folder),
    "label": lambda folder: (folder / "data" / "shards" / "both" / "manifest.json").is_file(),
    "student": lambda folder: (folder / "student" / "evaluation").is_dir(),
}


def kill_in(stage: str, path: Path, folder: Path, *arguments: str) -> None:
    """Run the job until a stage has begun, and kill it as a power cut would."""
    process = subprocess.Popen(
        command(path, *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        while not BEGUN[stage](folder):
            assert process.poll() is None, f"it ended before {stage}: {process.communicate()}"
            assert time.monotonic() < deadline, f"it does not get to {stage}"
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert not ENDED[stage](folder), f"it was killed too late for {stage}"


def run_to_the_end(path: Path, *arguments: str) -> str:
    done = subprocess.run(command(path, *arguments), capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def numbers_of(folder: Path) -> dict[str, Any]:
    """All that comes of a distillation, but for times."""
    student = folder / "student"
    found = sorted(read_predictions(folder / "predictions"), key=lambda entry: int(entry["image_id"]))
    history = [json.loads(line) for line in (student / "history.jsonl").read_text().splitlines()]
    labels = json.loads((folder / "labels" / "annotations.json").read_text())
    # A file of weights begins with a table in any order: two of the same tensors may differ in their bytes.
    assert labels["info"]["distillation"]["teacher"].pop("sha256").keys() == {"model.safetensors", "model.json"}
    weights = load_file(student / "checkpoints" / "step-000006" / "model.safetensors")
    return {
        "predictions": found,
        "labels": labels,
        "losses": [(line["step"], line["loss"]) for line in history if "loss" in line],
        "weights": {name: tensor.tolist() for name, tensor in weights.items()},
        "metrics": (student / "evaluation" / "metrics.json").read_text(),
    }


@pytest.mark.parametrize("stages", [("predict",), pytest.param(STAGES, marks=pytest.mark.long)], ids=["one", "each"])
def test_killed_in_a_stage_it_goes_on_to_the_same_numbers(
    stages: tuple[str, ...],
    ray_cluster: None,
    tree: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(tree))
    folder = tmp_path / "outputs" / "tiny"
    resume: tuple[str, ...] = ()
    for stage in stages:
        kill_in(stage, path, folder, *resume)
        resume = ("--resume",)
    kept = {file: file.read_bytes() for file in (folder / "predictions").iterdir()}
    run_to_the_end(path, "--resume")
    assert {file: file.read_bytes() for file in kept} == kept
    check_labels(folder)
    check_tracking(folder)
    if stages == STAGES:
        whole = tmp_path / "whole.yaml"
        whole.write_text(yaml.safe_dump(tree | {"name": "whole"}))
        assert "labels in 120 images" in run_to_the_end(whole)
        assert numbers_of(folder) == numbers_of(tmp_path / "outputs" / "whole")


def check_labels(folder: Path) -> None:
    """As many objects of each class in an unlabelled image as in a labelled one, and all of them in the shards."""
    tree = json.loads((folder / "labels" / "annotations.json").read_text())
    told = json.loads((folder / "labels" / "distillation.json").read_text())
    assert tree["info"]["distillation"] == told
    assert told["transforms"]["views"] == 4
    for of_class in told["classes"]:
        found = [one["score"] for one in tree["annotations"] if one["category_id"] == of_class["id"]]
        assert len(found) == of_class["labels"]
        assert all(score >= of_class["threshold"] for score in found)
        wanted = round(120 * of_class["objects_per_labelled_image"])
        assert len(found) >= min(wanted, of_class["detections"])
    both = read_manifest(folder / "data" / "shards" / "both")
    assert (both.num_images, both.num_labelled) == (132, 12)
    assert len(set(both.image_ids.tolist())) == 132
    assert int(both.num_objects[12:].sum()) == told["labels"] == len(tree["annotations"])
    row = read_rows(both, [12])[0]
    first = tree["images"][0]
    assert row["file_name"] == first["file_name"]
    written = [one["bbox"] for one in tree["annotations"] if one["image_id"] == first["id"]]
    assert [one["bbox"] for one in json.loads(row["annotations"])] == written


def check_tracking(folder: Path) -> None:
    """One run for the whole and one for each stage below it, however often it was started."""
    state = state_of(folder)
    client = Tracking(TrackingConfig(), folder.parent).client
    parent = client.get_run(state["run_id"])
    assert parent.info.status == "FINISHED"
    assert {"teacher/segm/AP", "student/segm/AP"} <= set(parent.data.metrics)
    query = f"tags.mlflow.parentRunId = '{state['run_id']}'"
    found = client.search_runs([parent.info.experiment_id], filter_string=query)
    assert sorted(run.data.tags["stage"] for run in found) == sorted(STAGES)
    assert {run.info.status for run in found} == {"FINISHED"}
