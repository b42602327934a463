"""The trials of a sweep, worked out from its file alone: which jobs run, under which names, and what they read."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskray.platform.job.config import JobConfig
from maskray.platform.job.load import NAMED_BY_SWEEP, set_key, validate_tree
from maskray.platform.job.places import read_paths
from maskray.platform.job.sweep_config import SweepConfig

LONGEST_SLUG = 60


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: `label` is its row of the table, `changes` the dotted keys in which it differs."""

    name: str
    label: str
    seed: int
    changes: dict[str, Any]
    job: JobConfig


def sweep_folder(sweep: SweepConfig) -> Path:
    """Where everything of a sweep lies."""
    return Path(sweep.output).absolute() / sweep.name


def list_trials(sweep: SweepConfig) -> list[Trial]:
    """Every variant at every point of the grid for every seed, all variants of a seed before the next seed.

    ValueError naming the trial where its job is not valid, where the base holds a key that the sweep sets itself, or
    where two labels would share a folder.
    """
    kind = sweep.base.get("kind", "train")
    if kind != "train":
        raise ValueError(f"base.kind: a sweep varies a job of kind train, not of kind {kind}")
    for key in NAMED_BY_SWEEP:
        if key in sweep.base:
            instead = "seeds" if key == "seed" else "name and output of the sweep"
            raise ValueError(f"base.{key}: a sweep gives it to its trials; set {instead} instead")
    rows = list(_rows(sweep))
    slugs: dict[str, str] = {}
    for label, _ in rows:
        other = slugs.setdefault(slug(label), label)
        if other != label:
            raise ValueError(f"variants: {label!r} and {other!r} would share a folder; give one another name")
    return [_trial(sweep, label, changes, seed) for seed in sweep.seeds for label, changes in rows]


def move_sweep(sweep: SweepConfig, address: str) -> SweepConfig:
    """The sweep with its trials on the cluster at an address."""
    moved = sweep.model_copy(update={"base": copy.deepcopy(sweep.base)})
    set_key(moved.base, "resources.address", address)
    return moved


def read_sweep_paths(sweep: SweepConfig) -> Iterator[tuple[str, str]]:
    """Dotted key and path of everything that its trials read."""
    for trial in list_trials(sweep):
        yield from read_paths(trial.job)


def slug(label: str) -> str:
    """A label as part of a file name and of a metric's name; where little or too much is left, a digest stands in."""
    text = re.sub(r"[^a-zA-Z0-9.]+", "-", label).strip("-.")
    if 0 < len(text) <= LONGEST_SLUG:
        return text
    return f"{text[:LONGEST_SLUG] or 'trial'}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def _rows(sweep: SweepConfig) -> list[tuple[str, dict[str, Any]]]:
    """Label and changes of every row: variants, each at every point of the grid."""
    variants = sweep.variants or {"": {}}
    points = [dict(zip(sweep.grid, values)) for values in itertools.product(*sweep.grid.values())]
    rows = []
    for variant, changes in variants.items():
        for point in points:
            twice = changes.keys() & point.keys()
            if twice:
                raise ValueError(f"variants.{variant}: {', '.join(sorted(twice))} is in the grid too")
            parts = [variant] if variant else []
            parts += [f"{key.rpartition('.')[2]}={_short(value)}" for key, value in point.items()]
            rows.append((", ".join(parts) or "base", changes | point))
    return rows


def _short(value: Any) -> str:
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)


def _trial(sweep: SweepConfig, label: str, changes: dict[str, Any], seed: int) -> Trial:
    name = f"{slug(label)}-seed-{seed}"
    try:
        job = _job(sweep, name, changes, seed)
    except ValueError as error:
        where = f"variants.{label}" if label in sweep.variants else label
        of_base = _mistakes_of_base(sweep)
        lines = [f"base: {line}" if line in of_base else f"{where}: {line}" for line in str(error).splitlines()]
        raise ValueError("\n".join(lines)) from None
    for key, value in (("tracking.register_as", job.tracking.register_as), ("tracking.alias", job.tracking.alias)):
        if value:
            raise ValueError(f"{key}: a sweep registers none of its trials; leave it out")
    if job.serve.check_after_training:
        raise ValueError("base.serve.check_after_training: a sweep serves none of its trials; leave it out")
    if job.evaluation.expect:
        raise ValueError("base.evaluation.expect: a sweep keeps whatever its trials reach; leave it out")
    return Trial(name, label, seed, changes, job)


def _job(sweep: SweepConfig, name: str, changes: Mapping[str, Any], seed: int) -> JobConfig:
    """The base job with the changes of one trial."""
    tree = copy.deepcopy(sweep.base) | {
        "name": name, "output": str(sweep_folder(sweep) / "trials"), "kind": "train", "seed": seed
    }  # fmt: skip
    if sweep.tracking is not None:
        tree["tracking"] = sweep.tracking.model_dump(mode="json")
    for key, value in changes.items():
        if key.partition(".")[0] in (*NAMED_BY_SWEEP, "kind", "tracking"):
            raise ValueError(f"{key}: a sweep gives it to its trials")
        set_key(tree, key, value)
    return validate_tree(JobConfig, tree)


def _mistakes_of_base(sweep: SweepConfig) -> list[str]:
    """What is wrong with the base job before anything is varied, one line each."""
    try:
        _job(sweep, "base", {}, sweep.seeds[0])
    except ValueError as error:
        return str(error).splitlines()
    return []
