"""What may change when a run goes on: by rule for every key, and by name for those that may not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from maskray.platform.job.config import JobConfig
from maskray.platform.job.resume import (
    MAY_CHANGE,
    MAY_CHANGE_IN_SWEEP,
    check_same_config,
    check_same_job,
    may_change,
    training_config,
)


def make_job(scheme: str = "joint", **changes: Any) -> JobConfig:
    source = {"kind": "synthetic", "num_images": 8}
    own = scheme == "stage_wise"
    tree: dict[str, Any] = {
        "name": "a",
        "data": {"train": source, "val": source},
        "model": {"rpn": {"own_backbone": own}},
        "train": {"steps": 10, "images_per_batch": 4, "scheme": scheme},
    }
    for key, value in changes.items():
        group, _, name = key.partition("__")
        tree[group] = tree.get(group, {}) | {name: value} if name else value
    return JobConfig.model_validate(tree)


FREE = [
    {"train__steps": 20},
    {"train__log_every": 1},
    {"train__keep_checkpoints": 5},
    {"train__steps": None, "train__epochs": 3},
    {"train__checkpoint_every_epochs": 1, "train__evaluate_every_epochs": 2},
    {"train__evaluate_every": 1000, "train__patience": 3},
    {"data__decode": "map"},
    {"data__max_bad_images": 3},
    {"resources__num_workers": 4},
    {"evaluation__iou_types": ["bbox"]},
    {"tracking__experiment": "other"},
    {"serve__port": 1},
]
BOUND = [
    ("seed", {"seed": 1}),
    ("train.base_lr", {"train__base_lr": 0.5}),
    ("train.decay_at", {"train__decay_at": [5]}),
    ("train.decay_at_epochs", {"train__decay_at_epochs": [5]}),
    ("train.freeze", {"train__freeze": ["rpn"]}),
    ("train.optimizer.betas", {"train__optimizer": {"name": "adamw"}}),
    ("train.ema", {"train__ema": {}}),
    ("train.layer_decay", {"train__layer_decay": 0.9}),
    ("data.repeat_factor_threshold", {"data__repeat_factor_threshold": 0.5}),
    ("train.initial_weights", {"train__initial_weights": "w.pth"}),
    ("data.flip", {"data__flip": 0.0}),
    ("data.val.num_images", {"data__val": {"kind": "synthetic", "num_images": 9}}),
    ("input.shorter_edge", {"input__shorter_edge": 640}),
    ("model.masks", {"model__masks": False}),
]


@pytest.mark.parametrize("change", FREE, ids=str)
def test_what_says_nothing_about_a_step_may_change(change):
    check_same_job(make_job(), make_job(**change))
    assert training_config(make_job(**change), "d") == training_config(make_job(), "d")


@pytest.mark.parametrize(("key", "change"), BOUND, ids=str)
def test_what_is_bound_is_named(key, change):
    with pytest.raises(ValueError, match=f"cannot resume a with another {key}"):
        check_same_job(make_job(), make_job(**change))


def test_workers_and_runs_go_by_one_rule():
    """What a run may change its workers take too; the rest binds them, or is in the digest of the data by then."""
    bound = json.loads(training_config(make_job(), "d"))
    for key in bound:
        assert not any(key == free or key.startswith(f"{free}.") for free in MAY_CHANGE), key
    for key, change in BOUND:
        changed = json.loads(training_config(make_job(**change), "d"))
        seen = changed != bound
        assert seen == (not key.startswith(("data.val", "train.initial_weights"))), key


def test_steps_are_bound_where_a_stage_ends_with_them():
    with pytest.raises(ValueError, match=r"another train\.steps"):
        check_same_job(make_job("stage_wise"), make_job("stage_wise", train__steps=20))
    first, longer = (training_config(make_job("stage_wise", train__steps=steps), "d") for steps in (10, 20))
    assert first != longer


@pytest.mark.parametrize("length", [{"train__steps": 20}, {"train__steps": None, "train__epochs": 3}])
def test_steps_are_bound_where_the_rate_depends_on_them(length):
    with pytest.raises(ValueError, match=r"another train\."):
        check_same_job(make_job(train__schedule="cosine"), make_job(train__schedule="cosine", **length))
    assert "train.steps" not in may_change(make_job(train__schedule="cosine"))
    assert "train.steps" not in may_change(make_job("stage_wise"))


def test_what_may_change_is_what_no_check_minds():
    """The list that is shown and the check are one: a change of a listed key passes, of any other it does not."""
    assert may_change(make_job()) == tuple(sorted(MAY_CHANGE))
    assert may_change(make_job(), MAY_CHANGE_IN_SWEEP) == tuple(sorted(MAY_CHANGE_IN_SWEEP))
    changes = [change for change in FREE if len(change) == 1]
    assert all(any(next(iter(c)).replace("__", ".").startswith(key) for key in may_change(make_job())) for c in changes)


def test_a_checkpoint_of_an_older_version_has_new_keys_at_their_defaults():
    stored = json.loads(training_config(make_job(), "d"))
    for key in [key for key in stored if key.startswith(("train.optimizer", "train.ema", "train.freeze"))]:
        del stored[key]
    check_same_config(json.dumps(stored), training_config(make_job(), "d"))
    with pytest.raises(ValueError, match=r"train\.freeze was \[\] and is \['rpn'\]"):
        check_same_config(json.dumps(stored), training_config(make_job(train__freeze=["rpn"]), "d"))
    with pytest.raises(ValueError, match=r"train\.optimizer\.name was 'sgd' and is 'adamw'"):
        check_same_config(json.dumps(stored), training_config(make_job(train__optimizer={"name": "adamw"}), "d"))


def test_trials_of_a_sweep_keep_their_steps():
    with pytest.raises(ValueError, match=r"another train\.steps"):
        check_same_job(make_job(), make_job(train__steps=20), MAY_CHANGE_IN_SWEEP)
    check_same_job(make_job(), make_job(resources__num_workers=4), MAY_CHANGE_IN_SWEEP)


def test_many_changes_are_counted():
    changes = {"seed": 1, "train__base_lr": 0.5, "data__flip": 0.0, "model__masks": False, "input__shorter_edge": 64}
    with pytest.raises(ValueError, match=r"another data\.flip, input\.shorter_edge, model\.masks and 2 more; give"):
        check_same_job(make_job(), make_job(**changes))


def test_a_checkpoint_of_other_data_is_named():
    with pytest.raises(ValueError, match=r"data\.train was 'one' and is 'two'"):
        check_same_config(training_config(make_job(), "one"), training_config(make_job(), "two"))
