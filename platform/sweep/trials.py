"""The trials of a sweep, worked out from its file alone: which jobs run, under which names."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskray.platform.evaluation.paper import read_paper_table
from maskray.platform.evaluation.rules import RULES, figure_names
from maskray.platform.job.config import JobConfig
from maskray.platform.job.load import NAMED_BY_SWEEP, set_key, validate_tree
from maskray.platform.job.plan import DATA_CPUS, Plan, plan_job
from maskray.platform.job.sweep_config import TRIAL_CPUS, SweepConfig, TableConfig

LONGEST_SLUG = 60


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: `label` is its row of the table, `changes` the dotted keys in which it differs."""

    name: str
    label: str
    seed: int
    changes: dict[str, Any]
    job: JobConfig


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep is going to do; `first` is the plan of its first trial, `problems` stop the sweep."""

    folder: str
    trials: tuple[Trial, ...]
    labels: tuple[str, ...]
    first: Plan
    cpus_needed: float
    cpus_local: int | None
    problems: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        trials = [
            {"name": trial.name, "label": trial.label, "seed": trial.seed, **trial.changes} for trial in self.trials
        ]
        return {
            "folder": self.folder,
            "trials": trials,
            "cpus_needed": self.cpus_needed,
            "cpus_local": self.cpus_local,
            "first_trial": self.first.as_dict(),
            "problems": list(self.problems),
        }


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


def plan_sweep(sweep: SweepConfig) -> SweepPlan:
    """Work out what a sweep does; reads at most the small files that its jobs name. ValueError as list_trials."""
    trials = list_trials(sweep)
    labels = tuple(dict.fromkeys(trial.label for trial in trials))
    jobs = {trial.label: trial.job for trial in reversed(trials)}
    plans = {label: plan_job(jobs[label], new=False) for label in labels}
    problems = [f"{label}: {problem}" for label, plan in plans.items() for problem in plan.problems]
    problems += _table_problems(sweep, trials, labels) + _scheduler_problems(sweep, trials)
    resources = trials[0].job.resources
    needed = sweep.max_concurrent * (TRIAL_CPUS + max(plan.cpus_needed for plan in plans.values()))
    local = resources.local_cpus if resources.address is None else None
    if local is not None and needed > local:
        problems.append(
            f"base.resources.local_cpus {local} is too few, trials would wait for ever: max_concurrent "
            f"{sweep.max_concurrent} x (workers + {DATA_CPUS:g} for Ray Data + {TRIAL_CPUS:g}) = {needed:g}"
        )
    return SweepPlan(
        str(sweep_folder(sweep)), tuple(trials), labels, plans[labels[0]], needed, local, tuple(dict.fromkeys(problems))
    )


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


def _table_problems(sweep: SweepConfig, trials: list[Trial], labels: tuple[str, ...]) -> list[str]:
    table = sweep.table
    named = [("table.baseline", table.baseline)] if table.baseline is not None else []
    named += [("table.paper_rows", label) for label in table.paper_rows]
    terms = [term for finding in table.findings for term in finding.terms]
    named += [("table.findings", term.variant) for term in terms]
    problems = [
        f"{key}: no variant {label!r}; there are {', '.join(labels)}" for key, label in named if label not in labels
    ]
    figures = [("table.figures", figure) for figure in table.figures] + [("metric", sweep.metric)]
    figures += [("table.findings", term.figure) for term in terms]
    evaluated = {kind for trial in trials for kind in trial.job.evaluation.iou_types}
    for key, figure in dict.fromkeys(figures):
        kind, _, name = figure.partition("/")
        if kind not in RULES or name not in figure_names(kind):
            problems.append(f"{key}: no figure {figure!r}; they are named as bbox/AP, segm/AP50, keypoints/APm")
        elif kind not in evaluated:
            problems.append(f"{key}: {figure} is evaluated in no trial (evaluation.iou_types)")
    return problems + _paper_problems(table)


def _paper_problems(table: TableConfig) -> list[str]:
    if table.paper is None:
        return ["table.paper_rows: say of which table of the paper (table.paper)"] if table.paper_rows else []
    try:
        rows = read_paper_table(table.paper)
    except ValueError as error:
        return [f"table.paper: {error}"]
    wrong = [row for row in table.paper_rows.values() if row not in rows]
    return [f"table.paper_rows: no row {row!r} in table {table.paper}; there are {', '.join(rows)}" for row in wrong]


def _scheduler_problems(sweep: SweepConfig, trials: list[Trial]) -> list[str]:
    if sweep.scheduler.name == "none":
        return []
    if any(trial.job.train.evaluate_every == 0 for trial in trials):
        return [f"scheduler {sweep.scheduler.name} judges by evaluations in training: set base.train.evaluate_every"]
    return []
