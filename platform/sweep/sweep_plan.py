"""What a sweep is going to do, worked out from its file alone: its trials, the CPUs they need and what cannot work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from maskray.platform.evaluation.paper import read_paper_table
from maskray.platform.evaluation.rules import RULES, metric_names
from maskray.platform.job.config import DATA_CPUS
from maskray.platform.job.plan import Plan, PlanRows, job_rows, plan_job, resume_row
from maskray.platform.job.resume import MAY_CHANGE_IN_SWEEP, may_change
from maskray.platform.job.sweep_config import TRIAL_CPUS, SweepConfig, TableConfig
from maskray.platform.sweep.trial_record import OUTCOMES, TrialRecord
from maskray.platform.sweep.trials import Trial, list_trials, sweep_folder


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

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the first trial."""
        return self.first.warnings

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


def sweep_rows(sweep: SweepConfig, plan: SweepPlan) -> PlanRows:
    """The plan for the terminal, and that of the first trial."""
    ended = sum(TrialRecord(trial).state in OUTCOMES for trial in plan.trials)
    scheduler = sweep.scheduler.name if sweep.scheduler.name != "none" else "none, every trial runs to its end"
    counts = f"{len(plan.trials)} = {len(plan.labels)} variants x {len(sweep.seeds)} seeds, {ended} ended already"
    rows = [
        ("sweep folder", plan.folder),
        ("trials", counts),
        ("variants", "; ".join(plan.labels)),
        ("scheduler", f"{scheduler}; metric {sweep.metric}, {sweep.max_concurrent} trials at a time"),
        ("CPUs", f"{plan.cpus_needed:g}" + ("" if plan.cpus_local is None else f" of {plan.cpus_local}")),
    ]
    job = plan.trials[0].job
    first = [*job_rows(job, plan.first), resume_row(may_change(job, MAY_CHANGE_IN_SWEEP))]
    return [("", rows), ("first trial", first)]


def _table_problems(sweep: SweepConfig, trials: list[Trial], labels: tuple[str, ...]) -> list[str]:
    table = sweep.table
    named = [("table.baseline", table.baseline)] if table.baseline is not None else []
    named += [("table.paper_rows", label) for label in table.paper_rows]
    terms = [term for finding in table.findings for term in finding.terms]
    named += [("table.findings", term.variant) for term in terms]
    problems = [
        f"{key}: no variant {label!r}; there are {', '.join(labels)}" for key, label in named if label not in labels
    ]
    metrics = [("table.figures", metric) for metric in table.figures] + [("metric", sweep.metric)]
    metrics += [("table.findings", term.figure) for term in terms]
    evaluated = {kind for trial in trials for kind in trial.job.evaluation.iou_types}
    for key, metric in dict.fromkeys(metrics):
        kind, _, name = metric.partition("/")
        if kind not in RULES or name not in metric_names(kind):
            problems.append(f"{key}: no metric {metric!r}; they are named as bbox/AP, segm/AP50, keypoints/APm")
        elif kind not in evaluated:
            problems.append(f"{key}: {metric} is evaluated in no trial (evaluation.iou_types)")
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
    if not all(trial.job.train.evaluates for trial in trials):
        return [f"scheduler {sweep.scheduler.name} judges by evaluations in training: set base.train.evaluate_every"]
    return []
