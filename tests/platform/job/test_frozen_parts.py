"""Frozen parts must be those of the model and leave something to train; the plan says which are trained."""

from __future__ import annotations

from typing import Any

import pytest

from maskray.platform.job.config import JobConfig
from maskray.platform.job.frozen_parts import describe_trained


def job(freeze: list[str], **model: Any) -> JobConfig:
    source = {"kind": "synthetic", "num_images": 8}
    tree = {"name": "a", "data": {"train": source, "val": source}, "train": {"steps": 1, "freeze": freeze}}
    return JobConfig.model_validate({**tree, "train": {**tree["train"], "images_per_batch": 2}, "model": model})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("freeze", "model", "message"),
    [
        (["mask_head"], {"masks": False}, "train.freeze: the model has no mask_head; its parts are backbone, pyramid"),
        (["keypoint_head"], {}, "train.freeze: the model has no keypoint_head"),
        (["pyramid"], {"backbone": {"features": "dc5"}}, "train.freeze: the model has no pyramid"),
        (["backbone", "pyramid", "rpn", "box_head", "mask_head"], {}, "freeze all there is: nothing is left to train"),
        (
            ["pyramid", "rpn", "box_head", "mask_head"],
            {"backbone": {"freeze_stages": 5}},
            "train.freeze and model.backbone.freeze_stages freeze all there is",
        ),
        (
            ["rpn", "box_head", "mask_head"],
            {"backbone": {"features": "c4", "freeze_stages": 4}},
            "freeze all there is",
        ),
    ],
)
def test_mistake(freeze: list[str], model: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        job(freeze, **model)


@pytest.mark.parametrize(
    ("freeze", "stages", "text"),
    [
        ([], 0, "backbone, pyramid, rpn, box_head, mask_head"),
        ([], 2, "backbone, pyramid, rpn, box_head, mask_head; frozen: first 2 stages of the backbone"),
        ([], 1, "backbone, pyramid, rpn, box_head, mask_head; frozen: stem of the backbone"),
        (["pyramid"], 5, "rpn, box_head, mask_head; frozen: backbone, pyramid"),
        (["backbone", "rpn"], 2, "pyramid, box_head, mask_head; frozen: backbone, rpn"),
    ],
)
def test_the_plan_says_what_is_trained(freeze: list[str], stages: int, text: str) -> None:
    found = job(freeze, backbone={"freeze_stages": stages})
    assert describe_trained(found.train, found.model) == text
