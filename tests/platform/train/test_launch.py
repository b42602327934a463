"""Tests of distributed training through Ray: exact after kill -9 and after a resume, stopped by a non-finite loss."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.exceptions import OutOfMemoryError
from ray.train import ControllerError, WorkerGroupError

from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.structures import Batch
from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.data.shards import write_shards
from maskray.platform.data.synthetic.dataset import synthesize
from maskray.platform.files.model_folder import read_model_folder
from maskray.platform.job.config import JobConfig, TrackingConfig
from maskray.platform.registry.tracking import Tracking
from maskray.platform.train.checkpoint import best_checkpoint, list_checkpoints, read_checkpoint
from maskray.platform.train.launch import TrainResult, describe_failure, train
from maskray.platform.train.run_context import Validation
from maskray.platform.train.run_files import RunFiles
from maskray.platform.train.trainer import NonFiniteLossError

STEPS = 6
TIMES = {"time", "images_per_second", "data_wait_seconds", "data_wait_share", "memory_gib"}
MakeJob = Callable[..., JobConfig]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> str:
    """A running Ray and twelve synthetic images as shards."""
    folder = tmp_path_factory.mktemp("data")
    paths = synthesize(folder, num_images=12, seed=1, height=64, width=96, max_objects=3)
    manifest = write_shards(read_dataset(paths.annotations, paths.images), str(paths.images), str(folder / "shards"), 4)
    return manifest.location


@pytest.fixture
def two_workers(make_job: MakeJob) -> JobConfig:
    return make_job(
        steps=STEPS,
        images_per_batch=4,
        reference_images_per_batch=4,
        checkpoint_every=2,
        evaluate_every=4,
        keep_checkpoints=3,
        resources={"num_workers": 2, "max_failures": 1},
    )


def make_validation() -> Validation:
    """A metric of the weights that all ranks have a part in; local, so that it travels by value."""

    class WeightValidation:
        def evaluate(self, model: MaskRCNN, rank: int, num_ranks: int) -> list[Any]:
            assert not model.training
            size = torch.stack([p.detach().double().square().sum() for p in model.parameters()]).sum()
            return [(rank, num_ranks, size.item())]

        def merge(self, parts: list[Any]) -> dict[str, float]:
            assert [part[:2] for part in parts] == [(0, 2), (1, 2)]
            assert parts[0][2] == parts[1][2]  # the ranks hold the same weights
            return {"segm/AP": 1.0 / parts[0][2], "segm/APl": float("nan")}

    return WeightValidation()


def numbers(record: RunFiles) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name not in TIMES} for line in record.history()]


@pytest.fixture(scope="module")
def reference(shards: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[JobConfig], tuple[Path, TrainResult]]:
    """An uninterrupted run, trained once for the module and tracked in MLflow."""
    done: list[tuple[Path, TrainResult]] = []

    def run(job: JobConfig) -> tuple[Path, TrainResult]:
        if not done:
            folder = tmp_path_factory.mktemp("reference")
            tracking = Tracking(TrackingConfig(), folder)
            run_id = tracking.start_run(job, {})
            (folder / "run_id").write_text(run_id)
            where = {"uri": tracking.uri, "run_id": run_id}
            done.append((folder, train(job, shards, str(folder / "run"), tracking=where, validate=make_validation())))
        return done[0]

    return run


Reference = Callable[[JobConfig], tuple[Path, TrainResult]]


def test_a_run_leaves_checkpoints_history_and_metrics(two_workers: JobConfig, reference: Reference) -> None:
    folder, result = reference(two_workers)
    record = RunFiles(folder / "run")
    assert result.step == STEPS
    assert result.last == str(folder / "run" / "checkpoints" / "step-000006")
    assert [path.name for path in list_checkpoints(record.checkpoints)] == ["step-000002", "step-000004", "step-000006"]
    best = best_checkpoint(record.checkpoints, "segm/AP")
    assert best is not None
    assert (result.best, result.best_metric) == (str(best[0]), best[1])
    trained = [line for line in record.history() if "loss" in line]
    assert [line["step"] for line in trained] == list(range(1, STEPS + 1))
    assert [line["step"] for line in record.history() if "val/segm/AP" in line] == [4, 6]
    client = Tracking(TrackingConfig(), folder).client
    run_id = (folder / "run_id").read_text()
    logged = [(point.step, point.value) for point in client.get_metric_history(run_id, "loss")]
    assert logged == [(line["step"], line["loss"]) for line in trained]
    assert [event["event"] for event in record.events()].count("start") == 1


def test_a_checkpoint_is_a_model_folder(two_workers: JobConfig, reference: Reference) -> None:
    _, result = reference(two_workers)
    model, spec = read_model_folder(result.best)
    assert spec.model == two_workers.model
    weights = read_checkpoint(Path(result.best)).weights
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_kill_9_of_a_worker_changes_no_number(
    two_workers: JobConfig, reference: Reference, shards: str, tmp_path: Path
) -> None:
    folder, whole = reference(two_workers)
    record = RunFiles(tmp_path)

    def kill() -> None:
        while not [line for line in record.history() if line["step"] >= 3]:
            time.sleep(0.01)
        (start,) = [event for event in record.events() if event["event"] == "start"]
        os.kill(start["workers"][1]["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    result = train(two_workers, shards, str(tmp_path), validate=make_validation())
    killer.join(300)
    starts = [event["step"] for event in record.events() if event["event"] == "start"]
    assert len(starts) == 2
    assert 2 <= starts[1] < STEPS
    assert numbers(record) == numbers(RunFiles(folder / "run"))
    expected = read_checkpoint(Path(whole.last))
    found = read_checkpoint(Path(result.last))
    assert all(torch.equal(tensor, expected.weights[name]) for name, tensor in found.weights.items())
    for index, state in expected.state["optimizer"]["state"].items():
        assert torch.equal(state["momentum_buffer"], found.state["optimizer"]["state"][index]["momentum_buffer"])


def test_resume_passes_over_a_damaged_checkpoint_and_is_exact(
    two_workers: JobConfig, reference: Reference, shards: str, tmp_path: Path
) -> None:
    folder, whole = reference(two_workers)
    shutil.copytree(folder / "run", tmp_path / "run")
    record = RunFiles(tmp_path / "run")
    os.truncate(record.checkpoints / "step-000006" / "trainer.pt", 1000)
    (record.checkpoints / "step-000004" / "metrics.json").unlink()  # cut short before its evaluation was done
    record.forget_after(3)
    with pytest.raises(ValueError, match="holds checkpoints of an earlier run"):
        train(two_workers, shards, str(tmp_path / "run"))
    result = train(two_workers, shards, str(tmp_path / "run"), validate=make_validation(), resume=True)
    assert result.step == STEPS
    reasons = [event["reason"] for event in record.events() if event["event"] == "checkpoint_passed_over"]
    assert len(reasons) == 1
    assert "step-000006/trainer.pt: cut short" in reasons[0]
    assert [event["step"] for event in record.events() if event["event"] == "start"] == [0, 4]
    after = [line for line in numbers(RunFiles(folder / "run")) if line["step"] > 4]
    assert [line for line in numbers(record) if line["step"] > 4] == after
    assert json.loads((record.checkpoints / "step-000004" / "metrics.json").read_text())["segm/AP"] > 0
    expected = read_checkpoint(Path(whole.last)).weights
    found = read_checkpoint(Path(result.last)).weights
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_divergence_stops_all_ranks_without_a_restart(make_job: MakeJob, shards: str, tmp_path: Path) -> None:
    job = make_job(
        steps=9, images_per_batch=4, base_lr=1e12, warmup_steps=0, checkpoint_every=1, resources={"num_workers": 2}
    )
    with pytest.raises(NonFiniteLossError) as caught:
        train(job, shards, str(tmp_path))
    message = str(caught.value)
    assert "not finite at step" in message
    assert "rank 0: " in message
    assert "rank 1: " in message
    assert message.count("image ids [") == 2
    record = RunFiles(tmp_path)
    assert [event["event"] for event in record.events()].count("start") == 1
    step = int(message.split("at step ")[1].split()[0])
    assert all(event["step"] < step for event in record.events() if event["event"] == "checkpoint")


def test_too_few_cpus_are_told_at_once(make_job: MakeJob, shards: str, tmp_path: Path) -> None:
    job = make_job(images_per_batch=4, resources={"num_workers": 4})
    with pytest.raises(ValueError, match="needs 5 CPUs, the cluster has 4"):
        train(job, shards, str(tmp_path / "run"))
    assert RunFiles(tmp_path / "run").events() == [], "nothing begins that would wait for them"


def test_alternating_stages_train_each_part_in_its_turn_and_resume_exactly(
    make_job: MakeJob, shards: str, tmp_path: Path
) -> None:
    """The first two of the four stages are those of stage_wise."""
    tree = make_job(steps=2, checkpoint_every=1, evaluate_every=1, keep_checkpoints=20).model_dump(mode="json")
    tree["train"]["scheme"] = "alternating"
    tree["data"]["flip"] = 0.5
    job = JobConfig.model_validate(tree)
    result = train(job, shards, str(tmp_path / "whole"), validate=make_single_validation())
    record = RunFiles(tmp_path / "whole")
    assert result.step == job.train.total_steps
    for line in record.history():
        if "loss" in line:
            of_detector = (line["step"] - 1) // 2 % 2 == 1
            assert ("loss_mask" in line, "loss_rpn_box" in line) == (of_detector, not of_detector)
    assert [line["step"] for line in record.history() if "val/segm/AP" in line] == [result.step - 1, result.step]
    states = [read_checkpoint(path).weights for path in list_checkpoints(record.checkpoints)]
    assert changed(states[1], states[2]) == changed(states[2], states[3]) == {"backbone", "roi_heads"}
    assert changed(states[4], states[5]) == {"rpn"}
    assert changed(states[6], states[7]) == {"roi_heads"}
    model, spec = read_model_folder(result.last)
    assert spec.model == job.model
    assert model.rpn_backbone is None

    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for path in list_checkpoints(tmp_path / "cut" / "checkpoints")[-1:]:
        shutil.rmtree(path)
    shutil.rmtree(tmp_path / "cut" / "proposals")  # as after a move: the frozen RPN proposes the same again
    again = train(job, shards, str(tmp_path / "cut"), validate=make_single_validation(), resume=True)
    assert not changed(read_checkpoint(Path(again.last)).weights, states[-1])


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Parts of the model in which two states differ."""
    assert before.keys() == after.keys()
    return {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}


def make_single_validation() -> Validation:
    """The same metric at any time, of one rank; local, so that it travels by value."""

    class SingleValidation:
        def evaluate(self, model: MaskRCNN, rank: int, num_ranks: int) -> list[Any]:
            size = torch.tensor([[64, 96]])
            model.detect(Batch(torch.zeros(1, 3, 64, 96, dtype=torch.uint8), size, torch.tensor([1]), size))
            return [True]

        def merge(self, parts: list[Any]) -> dict[str, float]:
            assert parts == [True]
            return {"segm/AP": 0.5}

    return SingleValidation()


def test_the_cause_of_a_lost_worker_comes_first() -> None:
    """Ray's memory monitor gives the reason, and then advice of its own that is longer than a screen."""
    text = "Task was killed due to the node running low on memory.\nMemory was 22.9GB / 24.1GB. " + "Refer to it. " * 90
    told = describe_failure(WorkerGroupError("one of two", {1: OutOfMemoryError(text)}))
    assert told.startswith("OutOfMemoryError: Task was killed due to the node running low on memory. Memory was 22.9GB")
    assert told.endswith(" ... Smaller images_per_batch, fewer num_workers and num_evaluators, or more memory help.")
    assert len(told) < 650
    raised = RuntimeError("Traceback (most recent call last):\n  File x\nKeyError: 'a'\n")
    assert describe_failure(WorkerGroupError("", {0: raised})) == "RuntimeError: KeyError: 'a'"
    assert describe_failure(ControllerError(OSError("disk full"))) == "OSError: disk full"
