"""Jobs that are drawn up from the numbers of a data set: every one of them is valid, and fits the numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from maskray.model.config import InputConfig, ModelConfig
from maskray.platform.data.facts import DataFacts
from maskray.platform.job.config import JobConfig
from maskray.platform.job.plan import plan_job
from maskray.platform.runs.draft import Machine, Start, anchor_sizes, choose_task, draft_job, epochs_of, input_size

FACTS = DataFacts(
    images=400,
    objects=2000,
    crowds=0,
    classes={"cat": 1500, "dog": 500},
    edges=(480.0, 640.0),
    longest=1.5,
    sides=(20.0, 60.0, 200.0),
    with_mask=2000,
    with_keypoints=0,
    keypoints=(),
)
DATA: dict[str, Any] = {
    "train": {"kind": "synthetic", "num_images": 400},
    "val": {"kind": "synthetic", "num_images": 20},
}
CPU, GPU = Machine(cpus=2, gpus=0), Machine(cpus=32, gpus=4)
DETECTOR = Start(
    "torchvision:maskrcnn_resnet50_fpn",
    ModelConfig.model_validate({"anchors": {"offset": 0.0, "rounded": True}, "roi_op": {"aligned": False}}),
    InputConfig(resize="bilinear", channel_order="bgr", pixel_mean=(1.0, 2.0, 3.0)),
)


def read(text: str) -> JobConfig:
    return JobConfig.model_validate(yaml.safe_load(text))


@pytest.mark.parametrize("machine", [CPU, GPU])
@pytest.mark.parametrize("start", [None, DETECTOR, Start("torchvision:resnet34")])
def test_a_job_needs_no_edit(machine: Machine, start: Start | None) -> None:
    text = draft_job("cats", DATA, FACTS, "masks", machine, start)
    job = read(text)
    plan = plan_job(job)
    assert plan.problems == ()
    assert job.name == job.tracking.register_as == "cats"
    assert job.train.evaluate_every > 0
    assert job.evaluation.iou_types == ("bbox", "segm")
    assert job.train.initial_weights == (None if start is None else start.name)
    assert sum(line.startswith("#") for line in text.splitlines()) >= 7
    if start is None:
        assert job.model.backbone.norm == "group_norm"


def test_a_detector_keeps_what_its_weights_know() -> None:
    job = read(draft_job("cats", DATA, FACTS, "boxes", GPU, DETECTOR))
    assert DETECTOR.model is not None
    assert DETECTOR.input is not None
    assert job.model.anchors == DETECTOR.model.anchors
    assert job.model.roi_op == DETECTOR.model.roi_op
    for key in ("resize", "channel_order", "pixel_mean", "pixel_std"):
        assert getattr(job.input, key) == getattr(DETECTOR.input, key)
    assert not job.model.masks


def test_the_task_is_what_the_data_have() -> None:
    assert choose_task(FACTS) == "masks"
    boxes = dataclasses.replace(FACTS, with_mask=1000)
    assert choose_task(boxes) == "boxes"
    with pytest.raises(ValueError, match="only 1000 of 2000 objects have a mask; take --task boxes"):
        draft_job("cats", DATA, boxes, "masks", CPU, None)
    names = ("nose", "left_eye", "right_eye")
    posed = dataclasses.replace(FACTS, classes={"cat": 2000}, with_keypoints=1500, keypoints=names)
    assert choose_task(posed) == "keypoints"
    job = read(draft_job("cats", DATA, posed, "keypoints", CPU, None))
    assert job.model.keypoint_head.num_keypoints == 3
    assert (job.evaluation.iou_types, job.train.best_metric) == (("bbox",), "bbox/AP")  # how exact is known of 17 alone
    with pytest.raises(ValueError, match="the data need one class, with names of its keypoints"):
        draft_job("cats", DATA, FACTS, "keypoints", CPU, None)


def test_numbers_by_hand() -> None:
    assert input_size(FACTS, GPU)[0] == 480
    assert input_size(FACTS, CPU)[0] == 320
    tiny = dataclasses.replace(FACTS, sides=(8.0, 24.0, 60.0))
    assert input_size(tiny, GPU)[0] == 800  # 480 x 48 / 24 = 960, and no more than 800
    assert anchor_sizes(FACTS, 1.0) == [16, 32, 64, 128, 256]
    assert anchor_sizes(FACTS, 10.0) == [32, 64, 128, 256, 512]
    assert anchor_sizes(FACTS, 0.1) == [8, 16, 32, 64, 128]
    assert [epochs_of(images, "weights") for images in (1, 400, 1000, 5000, 50_000)] == [60, 30, 12, 8, 12]
    assert [epochs_of(images, "nothing") for images in (40, 1000, 50_000)] == [75, 40, 72]


@settings(max_examples=40)
@given(
    st.integers(1, 300_000),
    st.integers(1, 1000),
    st.tuples(st.floats(1, 8000), st.floats(1, 8000)),
    st.lists(st.floats(0, 5000), min_size=3, max_size=3),
    st.sampled_from([CPU, GPU, Machine(1, 0), Machine(8, 1)]),
    st.sampled_from([None, DETECTOR]),
)
def test_every_data_set_has_a_job(
    images: int, classes: int, edges: tuple[float, float], sides: list[float], machine: Machine, start: Start | None
) -> None:
    shorter, longer = sorted(edges)
    facts = dataclasses.replace(
        FACTS, images=images, edges=(shorter, longer), longest=longer / shorter, sides=tuple(sorted(sides)),
        classes={f"name: {number}": number for number in range(classes)},
    )  # fmt: skip
    data = {**DATA, "train": {"kind": "synthetic", "num_images": max(images, machine.gpus)}}
    job = read(draft_job("cats", data, facts, "masks", machine, start))
    assert [problem for problem in plan_job(job).problems if "is more than the" not in problem] == []
