"""The stages of each scheme, and that a scheme ends with the model that the job names."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from maskray.platform.job.config import JobConfig
from maskray.platform.train.stages import training_stages


def staged(make_job: Callable[..., JobConfig], scheme: str, own_backbone: bool) -> JobConfig:
    tree: dict[str, Any] = make_job(steps=4).model_dump(mode="json")
    tree["train"]["scheme"] = scheme
    tree["model"]["rpn"]["own_backbone"] = own_backbone
    return JobConfig.model_validate(tree)


def test_joint_is_one_stage_of_everything(make_job: Callable[..., JobConfig]) -> None:
    (stage,) = training_stages(make_job().train, make_job().model)
    assert (stage.parts, stage.stored_proposals, stage.first_step, stage.last_step) == ((), False, 0, 4)


@pytest.mark.parametrize(("scheme", "own"), [("stage_wise", True), ("alternating", False), ("joint", True)])
def test_stages_follow_one_another_to_the_model_of_the_job(
    make_job: Callable[..., JobConfig], scheme: str, own: bool
) -> None:
    job = staged(make_job, scheme, own)
    stages = training_stages(job.train, job.model)
    assert [stage.first_step for stage in stages] == [4 * number for number in range(len(stages))]
    assert stages[-1].last_step == job.train.total_steps
    assert stages[-1].model(job.model) == job.model
    for before, after in itertools.pairwise(stages):
        assert before.last_step == after.first_step
        assert after.stored_proposals == ("rpn" in before.parts)


@pytest.mark.parametrize(
    ("scheme", "own", "message"),
    [
        ("stage_wise", False, "set model.rpn.own_backbone to true"),
        ("alternating", True, "set model.rpn.own_backbone to false"),
    ],
)
def test_a_scheme_that_ends_with_another_model_is_refused(
    make_job: Callable[..., JobConfig], scheme: str, own: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        staged(make_job, scheme, own)
