"""The sweep: one base job, what is varied in it, and the table that is to come of it."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from maskray.model.config import Config, Positive
from maskray.platform.job.config import TrackingConfig, check_output, check_plain_name

# Of each trial: the process that drives its workers asks for this much of a logical CPU.
TRIAL_CPUS = 0.1
MOST_TRIALS = 10_000
LONGEST_LABEL = 100


class SchedulerConfig(Config):
    """Which trials are stopped early, judged by `metric` at each evaluation in training."""

    name: Literal["none", "asha", "median"] = Field(
        "none", description="asha: Li et al. 2020; median: below the median of the others (Golovin et al. 2017)."
    )
    grace_steps: Positive = Field(1, description="No trial is stopped before this step.")
    reduction_factor: int = Field(4, ge=2, description="asha goes on with one of so many trials at each rung.")
    min_trials: Positive = Field(3, description="median stops none before so many others have come as far.")


class Term(Config):
    """One summand of a finding: a factor times the mean of a metric over the seeds of a variant."""

    variant: str = Field(description="Name of a variant of the sweep.")
    figure: str = Field(description="Name of a figure, such as segm/AP.")
    factor: float = Field(1.0, description="The figure is multiplied by it.")


class FindingConfig(Config):
    """A statement about variants that the table checks: a sum of terms and the range it should lie in."""

    text: str = Field(description="The finding in words.")
    terms: tuple[Term, ...] = Field(min_length=1, description="What is added up and compared.")
    relative: bool = Field(False, description="Sum natural logarithms of the metrics: ratios instead of differences.")
    at_least: float | None = Field(
        None,
        description="The finding holds if the sum is not below it: AP points (0..100), or a logarithm where relative.",
    )
    at_most: float | None = Field(
        None, description="The finding holds if the sum is not above it, in the same unit as at_least."
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("set at_least or at_most: without a bound nothing can be checked")
        return self


class TableConfig(Config):
    """The table that compares the variants, as Markdown, HTML and CSV."""

    title: str | None = Field(None, description="Title of the table; none takes the name of the sweep.")
    figures: tuple[str, ...] = Field(
        ("segm/AP", "segm/AP50", "segm/AP75"), min_length=1, description="Figures that are columns of the table."
    )
    baseline: str | None = Field(None, description="Variant that differences are taken to; none is the first.")
    paper: str | None = Field(None, description="Table of the paper whose numbers stand beside, e.g. 2c.")
    paper_rows: dict[str, str] = Field(
        default_factory=dict, description="Row of the table of the paper for a variant, where it has another name."
    )
    bootstrap_samples: Positive = Field(1000, description="Resamples of the images, for intervals of 95 %.")
    findings: tuple[FindingConfig, ...] = Field((), description="Statements about the table that are checked.")


class SweepConfig(Config):
    """One trial for every variant, point of the grid and seed; a trial is a whole run of the base job so changed."""

    name: str = Field(description="Folder of the sweep below `output`; the same name goes on with what is there.")
    kind: Literal["sweep"] = Field("sweep", description="sweep: a sweep.")
    output: str = Field("outputs", description="Folder of all runs and sweeps.")
    base: dict[str, Any] = Field(
        description="A job without name, output and seed, or the path of a job file (those left out), from here.",
        json_schema_extra={"type": ["object", "string"]},
    )
    variants: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Rows of the table: dotted keys of the job and their values, by label."
    )
    grid: dict[str, list[Any]] = Field(
        default_factory=dict, description="Dotted keys and lists of values; every combination, of each variant."
    )
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field(
        (0,), min_length=1, description="Seeds; every variant and point of the grid runs once with each."
    )
    metric: str = Field(
        "segm/AP", description="Metric that the scheduler and the choice of the best trial go by; larger is better."
    )
    scheduler: SchedulerConfig = Field(SchedulerConfig(), description="Whether trials that do badly end early.")
    max_concurrent: Positive = Field(1, description="Trials at a time.")
    max_failures: int = Field(3, ge=0, description="Lost processes that a trial survives, besides workers.")
    tracking: TrackingConfig | None = Field(None, description="Where MLflow keeps runs; none takes the base job's.")
    table: TableConfig = Field(TableConfig(), description="The table at the end.")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        return check_plain_name(name)

    @field_validator("output")
    @classmethod
    def _path(cls, output: str) -> str:
        return check_output(output)

    @field_validator("variants")
    @classmethod
    def _labels(cls, variants: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for label in variants:
            if not label.strip() or not label.isprintable() or len(label) > LONGEST_LABEL:
                raise ValueError(f"{label!r} is no label: 1 to {LONGEST_LABEL} characters of one line")
        return variants

    @field_validator("grid")
    @classmethod
    def _values(cls, grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for key, values in grid.items():
            if not values:
                raise ValueError(f"{key} has no values")
            if any(value in values[:index] for index, value in enumerate(values)):
                raise ValueError(f"{key}: a value stands twice in {values}")
        return grid

    @model_validator(mode="after")
    def _size(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: one stands twice in {list(self.seeds)}")
        if not self.variants and not self.grid and len(self.seeds) == 1:
            raise ValueError("nothing is varied: give variants, a grid or several seeds")
        count = math.prod(map(len, self.grid.values())) * max(len(self.variants), 1) * len(self.seeds)
        if count > MOST_TRIALS:
            raise ValueError(f"variants, grid and seeds make {count} trials; at most {MOST_TRIALS} are taken")
        return self
