"""What is trained and for how long: each rule of the configuration by a job that breaks it, and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from maskray.platform.job.train_config import TrainConfig


def config(**keys: Any) -> TrainConfig:
    return TrainConfig.model_validate({"steps": 100} | keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"steps": None}, "set steps or epochs"),
        ({"epochs": 3}, "steps 100 and epochs 3 say the same: set one of them to null"),
        ({"steps": None, "epochs": 0}, "greater than 0"),
        ({"steps": None, "epochs": float("inf")}, "less than or equal to"),
        ({"steps": None, "epochs": float("nan")}, "less than or equal to"),
        ({"decay_at_epochs": [8, 8]}, r"decay_at_epochs must increase, not \[8.0, 8.0\]"),
        ({"steps": None, "epochs": 12, "decay_at_epochs": [8, 12]}, "decay_at_epochs 12 is not before the last epoch"),
        ({"decay_at": [50], "decay_at_epochs": [1]}, "decay_at and decay_at_epochs say the same"),
        ({"schedule": "cosine", "decay_at": [50]}, "schedule cosine has no steps"),
        ({"schedule": "cosine", "decay_at_epochs": [1]}, "schedule cosine has no steps"),
        ({"final_factor": 0.1}, "final_factor 0.1 has no effect: schedule is steps"),
        ({"checkpoint_every": 10, "checkpoint_every_epochs": 1}, "checkpoint_every 10 and checkpoint_every_epochs"),
        ({"evaluate_every_epochs": 1}, "must be a multiple of checkpoint_every_epochs"),
        ({"checkpoint_every_epochs": 2, "evaluate_every_epochs": 3}, "must be a multiple of checkpoint_every_epochs"),
        ({"checkpoint_every_epochs": 2, "evaluate_every": 1000}, "evaluate_every must be in epochs as"),
        ({"patience": 3}, "patience 3 counts evaluations in training: set evaluate_every"),
        ({"optimizer": {"name": "adamw"}, "momentum": 0.5}, "momentum 0.5 has no effect: optimizer.name is adamw"),
        ({"optimizer": {"betas": [0.9, 0.99]}}, "Extra inputs"),
        ({"optimizer": "adamw"}, "Input should be a valid dictionary"),
        ({"optimizer": {"name": "sgd", "momentum": 0.8}, "momentum": 0.5}, "momentum 0.5 and optimizer.momentum 0.8"),
        ({"optimizer": {"name": "sgd", "nesterov": True}, "momentum": 0}, "nesterov needs a momentum above 0"),
        ({"optimizer": {"name": "adamw", "betas": [0.9, 1]}}, "less than 1"),
        ({"optimizer": {"name": "adamw", "momentum": 0.9}}, "Extra inputs"),
        ({"ema": {"decay": 1}}, "less than 1"),
        ({"layer_decay": 0}, "greater than 0"),
        ({"freeze": ["head"]}, "Input should be 'backbone', 'pyramid', "),
    ],
    ids=str,
)
def test_a_mistake_is_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**keys)


def test_momentum_is_that_of_the_optimizer_where_it_has_one() -> None:
    assert config().sgd_momentum == 0.9
    assert config(momentum=0.7).sgd_momentum == 0.7
    assert config(optimizer={"momentum": 0.0}).sgd_momentum == 0.0
    assert config(optimizer={"name": "sgd", "momentum": 0.7}, momentum=0.7).sgd_momentum == 0.7


@pytest.mark.parametrize(
    ("keys", "in_epochs"),
    [
        ({}, False),
        ({"steps": None, "epochs": 1.5}, True),
        ({"decay_at_epochs": [1]}, True),
        ({"checkpoint_every_epochs": 1}, True),
        ({"checkpoint_every_epochs": 1, "evaluate_every_epochs": 2}, True),
    ],
)
def test_what_waits_for_the_number_of_images(keys: dict[str, Any], in_epochs: bool) -> None:
    assert config(**keys).in_epochs == in_epochs


def test_tenths_of_an_epoch_are_multiples() -> None:
    assert config(checkpoint_every_epochs=0.1, evaluate_every_epochs=0.3).evaluates
