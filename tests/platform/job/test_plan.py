"""Tests of platform/job/plan.py: arithmetic by hand, and every problem and warning by a job that has it."""

from __future__ import annotations

import json

import pytest

from maskray.platform.job.load import parse_job
from maskray.platform.job.places import read_paths
from maskray.platform.job.plan import Plan, plan_job, plan_rows
from maskray.platform.job.resume import MAY_CHANGE

JOB = """
name: a
data:
  train: {kind: synthetic, num_images: 500}
  val: {kind: synthetic, num_images: 10}
model: {backbone: {norm: group_norm, freeze_stages: 0}}
train: {steps: 1000, images_per_batch: 24, base_lr: 0.02, accumulate_steps: 2, checkpoint_every: 300}
resources: {num_workers: 3, local_cpus: 4}
"""


def plan(*overrides: str) -> Plan:
    return plan_job(parse_job(JOB, overrides))


def rows(*overrides: str) -> dict[str, str]:
    ((_, found),) = plan_rows(parse_job(JOB, overrides), plan(*overrides))
    return dict(found)


def test_arithmetic_by_hand(tmp_path):
    found = plan(f"output={tmp_path}/")
    assert found.problems == found.warnings == ()
    assert found.run_folder == f"{tmp_path}/a"
    assert found.images_per_worker == 4  # 24 / (3 workers x 2 accumulation steps)
    assert found.epochs == 48.0  # 1000 x 24 / 500
    assert found.lr == pytest.approx(0.03)  # 0.02 x 24 / 16
    assert found.lr_rule == "0.02 x 24 / 16 = 0.03"
    assert found.num_checkpoints == 4  # 300, 600, 900 and the last
    assert found.cpus_needed == 4.0
    assert found.cpus_local == 4
    assert json.loads(json.dumps(found.as_dict()))["lr_rule"] == found.lr_rule


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["resources.local_cpus=3"], "resources.local_cpus 3 is too few"),
        (["resources.cpus_per_worker=1.1"], "4.3 = 3 workers x 1.1 CPU + 1 for Ray Data"),
        (["model.masks=false"], "evaluation.iou_types has segm, but model.masks is false"),
        (["evaluation.iou_types=[keypoints]"], "evaluation.iou_types has keypoints, but model.keypoints is false"),
        (
            [
                "evaluation.iou_types=[keypoints]",
                "model.keypoints=true",
                "model.keypoint_head={num_keypoints: 5}",
                "train.best_metric=keypoints/AP",
            ],
            "COCO's 17 alone, and model.keypoint_head.num_keypoints is 5",
        ),
        (["train.evaluate_every=300", "evaluation.iou_types=[bbox]"], "train.best_metric segm/AP is not among"),
        (["evaluation.expect={keypoints/AP: 0.5}"], "evaluation.expect names keypoints/AP"),
        (["train.initial_weights=torchvision:resnet101"], "resnet101, but model.backbone.name is resnet50"),
        (["tracking.alias=champion"], "tracking.alias needs a registered model"),
        (
            ["train.steps=null", "train.epochs=2", "train.decay_at_epochs=[1.999]"],
            "train, in steps for 500 images: decay_at 42 is not before the last step 42",
        ),
        (["data.train.num_images=23"], "train.images_per_batch 24 is more than the 23 images"),
    ],
)
def test_problem(overrides, problem):
    (found,) = plan(*overrides).problems
    assert problem in found


def test_cluster_elsewhere_is_not_judged_by_local_cpus():
    found = plan("resources.address=auto", "resources.local_cpus=1")
    assert found.problems == ()
    assert found.cpus_local is None


@pytest.mark.parametrize(
    ("overrides", "warning"),
    [
        (["model.backbone.norm=frozen_batch_norm"], "does not learn under frozen_batch_norm"),
        (["model.backbone.freeze_stages=2"], "freezes random weights"),
        (["train.warmup_steps=1000"], "train.warmup_steps 1000 is not before the last step"),
        (["train.steps=null", "train.epochs=2"], "train.warmup_steps 500 is not before the last step 42"),
        (["train.freeze=[backbone, rpn]"], "train.freeze backbone, rpn freezes random weights"),
        (["train.optimizer={name: adamw}"], "the learning rate 0.03 is large for AdamW"),
        (["data.val={kind: shards, path: /nowhere}"], "data.val: no file /nowhere/manifest.json on this machine"),
    ],
)
def test_warning(overrides, warning):
    found = plan(*overrides)
    assert found.problems == ()
    assert any(warning in line for line in found.warnings)


EPOCHS = (
    "train.steps=null",
    "train.epochs=50",
    "train.decay_at_epochs=[40]",
    "train.checkpoint_every=1000",
    "train.checkpoint_every_epochs=5",
    "train.evaluate_every_epochs=10",
    "train.warmup_steps=9",
)


def test_epochs_and_steps_are_both_told():
    found = plan(*EPOCHS)
    assert (found.problems, found.warnings) == ((), ())
    assert (found.steps, found.epochs, found.decay_at) == (1042, 50, (833,))  # 50 x 500 / 24 = 1041.7
    assert (found.num_checkpoints, found.num_evaluations) == (11, 6)  # every 104 and 208, and the last step
    told = rows(*EPOCHS)
    assert told["length"] == "1042 steps x 24 images, epochs: 50"
    assert told["schedule"] == "warm-up 9 steps, x 0.1 after 833 (40 epochs)"
    assert rows()["length"] == "1000 steps x 24 images, epochs: 48"


@pytest.mark.parametrize(
    "unknown", ["data.train={kind: shards, path: s3://bucket/train}", "data.skip_images_without_objects=true"]
)
def test_steps_that_only_the_data_tell(unknown):
    found = plan(*EPOCHS, unknown)
    assert (found.steps, found.epochs, found.num_checkpoints, found.num_evaluations) == (None, 50, None, None)
    assert found.problems == ()
    told = rows(*EPOCHS, unknown)
    assert told["length"] == "(unknown before the data are read) steps x 24 images, epochs: 50"
    assert told["schedule"] == "warm-up 9 steps, x 0.1 after 40 epochs"


def test_recipe_is_told():
    told = rows("train.freeze=[backbone]", "train.optimizer={name: adamw}", "train.schedule=cosine")
    assert told["trained"] == "pyramid, rpn, box_head, mask_head; frozen: backbone"
    assert told["optimizer"].startswith("adamw, betas 0.9 and 0.999; weight decay 0.0001, norms 0")
    assert told["schedule"] == "warm-up 500 steps, then a cosine down to x 0 at the end"
    assert rows()["data"] == "train synthetic, 500 images, val synthetic, 10 images"
    told = rows("data.repeat_factor_threshold=0.001")
    assert told["data"].endswith("10 images; categories of less than 0.001 of the images come more often")
    told = rows("train.ema={}", "train.layer_decay=0.9", "train.patience=3", "train.evaluate_every=300")
    assert told["optimizer"].startswith("sgd, momentum 0.9; ")
    assert "x 0.9 for each stage of the backbone" in told["optimizer"]
    assert "average of the weights with decay 0.9998" in told["optimizer"]
    assert told["checkpoints"] == "4, evaluations in training: 4, an end after 3 without a better segm/AP"


def test_what_may_change_on_a_resume_is_told():
    for key in MAY_CHANGE:
        assert key in rows()["on --resume"]
    assert "train.steps" not in rows("train.schedule=cosine")["on --resume"]


def test_existing_run_is_told(tmp_path):
    (tmp_path / "a").mkdir()
    (warning,) = plan(f"output={tmp_path}").warnings
    assert "a new run needs another name, an old one --resume" in warning


def test_images_are_counted_where_that_is_cheap(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"num_images": 77}))
    annotations = tmp_path / "instances.json"
    annotations.write_text(json.dumps({"images": [{}] * 31}))
    shards = f"data.train={{kind: shards, path: {tmp_path}}}"
    coco = f"data.val={{kind: coco, annotations: {annotations}, images: {tmp_path}}}"
    found = plan(shards, coco)
    assert (found.train_images, found.val_images, found.warnings) == (77, 31, ())
    assert plan("data.train={kind: shards, path: s3://bucket/train}").train_images is None
    annotations.write_text("{}")
    (problem,) = plan(shards, coco).problems
    assert problem.startswith(f"data.val: {annotations} is not what it should be: KeyError")


def test_a_source_is_counted_by_who_has_read_it(tmp_path):
    source = f"{{kind: files, path: {tmp_path}, format: yolo, split: train, images: {tmp_path}}}"
    job = parse_job(JOB, [f"data.train={source}"])
    found = plan_job(job, counted={"train": 640})
    assert (found.train_images, found.problems) == (640, ())
    for counted in ({}, {"train": None}):
        assert (plan_job(job, counted=counted).train_images, plan_job(job, counted=counted).problems) == (None, ())
    (tmp_path / "a.json").write_text("damaged")
    coco = parse_job(JOB, [f"data.train={{kind: coco, annotations: {tmp_path}/a.json, images: {tmp_path}}}"])
    assert plan_job(coco, counted={"train": None}).problems == ()  # who tried to read it tells why it cannot be
    assert dict(read_paths(job)) == {"data.train.path": str(tmp_path), "data.train.images": str(tmp_path)}
    absent = plan_job(parse_job(JOB, [f"data.val={{kind: files, path: {tmp_path}/absent}}"]))
    assert absent.warnings == (f"data.val.path: no {tmp_path}/absent on this machine",)
