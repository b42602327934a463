"""What may change when an interrupted run goes on, and how a change that may not is told."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import cache
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
        "train.epochs",
        "train.checkpoint_every",
        "train.checkpoint_every_epochs",
        "train.checkpoint_every_minutes",
        "train.evaluate_every",
        "train.evaluate_every_epochs",
        "train.patience",
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
_LENGTH = frozenset(["train.steps", "train.epochs"])


def may_change(job: JobConfig, allowed: Collection[str] = MAY_CHANGE) -> tuple[str, ...]:
    """The keys and groups of keys, sorted, that may change when a run of this job goes on."""
    free = set(allowed)
    # Where one stage ends and the next begins, and how far a cosine has come at a step.
    if job.train.num_stages > 1 or job.train.schedule == "cosine":
        free -= _LENGTH
    return tuple(sorted(free))


def check_same_job(before: JobConfig, now: JobConfig, allowed: Collection[str] = MAY_CHANGE) -> None:
    """Raise ValueError naming the keys in which a job differs from the one that was begun, other than those free."""
    old, new = _bound(before, allowed), _bound(now, allowed)
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise ValueError(
            f"cannot resume {now.name} with another {', '.join(changed[:3])}{more}; give the run a new name"
        )


def changed_numbers(before: JobConfig, now: JobConfig) -> list[str]:
    """What a resume may change and what then changes the numbers of the steps to come, a line each."""
    was, now_is = before.resources, now.resources
    lines = []
    if was.num_workers != now_is.num_workers:
        lines.append(
            f"resources.num_workers was {was.num_workers} and is {now_is.num_workers}: images and random numbers are "
            "dealt to the workers anew, so from here on it is another run than one that was not interrupted"
        )
    if was.threads != now_is.threads:
        lines.append(
            f"resources.cpus_per_worker was {was.cpus_per_worker:g} and is {now_is.cpus_per_worker:g}: as many threads "
            "add up in another order, so losses differ in their last digits from those of a run not interrupted"
        )
    if (was.gpus_per_worker > 0) != (now_is.gpus_per_worker > 0):
        lines.append(
            f"resources.gpus_per_worker was {was.gpus_per_worker:g} and is {now_is.gpus_per_worker:g}: processors "
            "round differently, so losses differ from those of a run that was not interrupted"
        )
    return lines


def training_config(job: JobConfig, data_digest: str) -> str:
    """Everything that the numbers of a step depend on, as sorted JSON; kept in each checkpoint."""
    bound = _bound(job, MAY_CHANGE, also=_NOT_IN_STEPS)
    return json.dumps({"data.train": data_digest, **bound}, sort_keys=True)


def check_same_config(stored: str, current: str) -> None:
    """Raise ValueError naming the first keys in which the configuration of a checkpoint differs from the job's."""
    before, now = json.loads(stored), json.loads(current)
    # An older version knew nothing of keys that came since: what they are by default is what it did.
    before |= {key: value for key, value in _defaults().items() if key in now and key not in before}
    different = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if different:
        shown = ", ".join(f"{key} was {before.get(key)!r} and is {now.get(key)!r}" for key in different[:3])
        more = f", and {len(different) - 3} more" if len(different) > 3 else ""
        raise ValueError(f"cannot resume with another configuration: {shown}{more}; give the run a new name")


def _bound(job: JobConfig, allowed: Collection[str], also: Collection[str] = ()) -> dict[str, Any]:
    """Dotted keys and values of a job without those that may change, and without others that do not matter."""
    free = (*may_change(job, allowed), *also)
    flat = _flatten(job.model_dump(mode="json"))
    return {key: value for key, value in flat.items() if not any(key == f or key.startswith(f"{f}.") for f in free)}


@cache
def _defaults() -> dict[str, Any]:
    """Dotted keys and values of a job that says no more than it must."""
    source = {"kind": "synthetic", "num_images": 1}
    tree = {"name": "a", "data": {"train": source, "val": source}, "train": {"steps": 1}}
    return _flatten(JobConfig.model_validate(tree).model_dump(mode="json"))


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
