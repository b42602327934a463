"""What may change when an interrupted run goes on, and how a change that may not is told."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from maskray.platform.job.config import JobConfig

# Dotted keys, or groups of keys, that say nothing about the numbers of a step or about what is evaluated.
MAY_CHANGE = frozenset(
    [
        "resources",
        "serve",
        "evaluation",
        "tracking",
        "data.rows_per_shard",
        "data.decode",
        "data.max_bad_images",
        "data.max_bad_annotations",
        "train.steps",
        "train.checkpoint_every",
        "train.evaluate_every",
        "train.keep_checkpoints",
        "train.best_metric",
        "train.log_every",
    ]
)
# Trials of one sweep are compared, so those that have ended bind those that go on.
MAY_CHANGE_IN_SWEEP = frozenset(["resources", "serve", "evaluation", "tracking"])
# Of the keys that are bound: what they name is in the digest of the data, or in the weights by then.
_NOT_IN_STEPS = frozenset(
    [
        "name",
        "kind",
        "output",
        "data.train",
        "data.val",
        "data.objects_without_masks",
        "train.initial_weights",
        "train.class_names",
    ]
)


def check_same_job(before: JobConfig, now: JobConfig, may_change: Collection[str] = MAY_CHANGE) -> None:
    """Raise ValueError naming the keys in which a job differs from the one that was begun, other than those free."""
    old, new = _bound(before, may_change), _bound(now, may_change)
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise ValueError(
            f"cannot resume {now.name} with another {', '.join(changed[:3])}{more}; give the run a new name"
        )


def training_config(job: JobConfig, data_digest: str) -> str:
    """Everything that the numbers of a step depend on, as sorted JSON; kept in each checkpoint."""
    bound = _bound(job, MAY_CHANGE | _NOT_IN_STEPS)
    return json.dumps({"data.train": data_digest, **bound}, sort_keys=True)


def check_same_config(stored: str, current: str) -> None:
    """Raise ValueError naming the first keys in which the configuration of a checkpoint differs from the job's."""
    before, now = json.loads(stored), json.loads(current)
    different = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if different:
        shown = ", ".join(f"{key} was {before.get(key)!r} and is {now.get(key)!r}" for key in different[:3])
        more = f", and {len(different) - 3} more" if len(different) > 3 else ""
        raise ValueError(f"cannot resume with another configuration: {shown}{more}; give the run a new name")


def _bound(job: JobConfig, may_change: Collection[str]) -> dict[str, Any]:
    """Dotted keys and values of a job without those that may change."""
    free = set(may_change)
    if job.train.num_stages > 1:
        free.discard("train.steps")  # where one stage ends and the next begins
    flat = _flatten(job.model_dump(mode="json"))
    return {key: value for key, value in flat.items() if not any(key == f or key.startswith(f"{f}.") for f in free)}


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
