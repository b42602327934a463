"""When training ends early: by hand, from the history, and from checkpoints whose line is missing."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskray.platform.job.train_config import TrainConfig
from maskray.platform.train.checkpoint import write_metrics
from maskray.platform.train.early_stop import EarlyStop, find_early_stop, read_evaluations
from maskray.platform.train.run_files import RunFiles

NAN = math.nan


def config(patience: int) -> TrainConfig:
    return TrainConfig(steps=1000, evaluate_every=10, checkpoint_every=10, patience=patience)


def written(folder: Path, values: list[float]) -> RunFiles:
    """A run that was evaluated every ten steps."""
    record = RunFiles(folder)
    for index, value in enumerate(values, 1):
        record.log({"loss": 1.0}, 10 * index - 1)
        record.log({"val/segm/AP": value, "val/bbox/AP": -value}, 10 * index)
    return record


@pytest.mark.parametrize(
    ("values", "patience", "expected"),
    [
        ([0.1, 0.2, 0.3], 1, None),
        ([0.1, 0.2, 0.2], 1, EarlyStop(30, 20, 0.2)),  # equal is not better
        ([0.1, 0.3, 0.2, 0.25], 3, None),
        ([0.1, 0.3, 0.2, 0.25], 2, EarlyStop(40, 20, 0.3)),
        ([0.1, 0.3, 0.2, 0.25], 0, None),
        ([0.3, 0.1, 0.2, 0.31], 3, None),
        ([NAN, 0.1], 1, None),
        ([0.1, NAN], 1, EarlyStop(20, 10, 0.1)),
        ([NAN, NAN], 2, EarlyStop(20, 0, None)),
        ([-1.0, -2.0], 1, EarlyStop(20, 10, -1.0)),
        ([], 1, None),
    ],
)
def test_by_hand(tmp_path: Path, values: list[float], patience: int, expected: EarlyStop | None) -> None:
    record = written(tmp_path, values)
    assert find_early_stop(record, config(patience), 10 * len(values)) == expected


def test_what_came_later_does_not_count(tmp_path: Path) -> None:
    record = written(tmp_path, [0.3, 0.1, 0.9])
    assert find_early_stop(record, config(1), 20) == EarlyStop(20, 10, 0.3)
    assert find_early_stop(record, config(1), 25) is None  # which was not evaluated


def test_another_metric_is_read_from_the_same_history(tmp_path: Path) -> None:
    record = written(tmp_path, [0.1, 0.2])
    train = config(1).model_copy(update={"best_metric": "bbox/AP"})
    assert find_early_stop(record, train, 20) == EarlyStop(20, 10, -0.1)


def test_an_evaluation_that_only_its_checkpoint_tells_of_counts(tmp_path: Path) -> None:
    """As after a kill between writing the metrics of a checkpoint and the line of the history."""
    record = written(tmp_path, [0.3])
    (record.checkpoints / "step-000020").mkdir(parents=True)
    write_metrics(record.checkpoints / "step-000020", {"segm/AP": 0.1})
    assert read_evaluations(record, "segm/AP", 20) == {10: 0.3, 20: 0.1}
    assert find_early_stop(record, config(1), 20) == EarlyStop(20, 10, 0.3)


@given(st.lists(st.one_of(st.floats(-1, 1), st.just(NAN)), min_size=1, max_size=12), st.integers(1, 12))
def test_it_ends_where_the_last_ones_are_no_better_than_all_before(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], patience: int
) -> None:
    record = written(tmp_path_factory.mktemp("run"), values)
    before, last = values[:-patience], values[-patience:]
    best = max((value for value in before if value == value), default=-math.inf)
    ends = len(values) >= patience and not any(value > best for value in last)
    assert (find_early_stop(record, config(patience), 10 * len(values)) is not None) == ends
