"""The table of a sweep: mean and spread over seeds, differences with intervals over images, and findings checked.

Letters: B resamples of the images, F metrics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from maskray.platform.evaluation.bootstrap import draw_weights, resampled_metrics
from maskray.platform.evaluation.matches_file import read_matches
from maskray.platform.evaluation.matching import ImageMatches
from maskray.platform.evaluation.paper import read_paper_table
from maskray.platform.evaluation.rules import RULES, IouType
from maskray.platform.job.sweep_config import FindingConfig, SweepConfig
from maskray.platform.machine.progress_bar import track
from maskray.platform.sweep.trial_record import TrialRecord

Floats = NDArray[np.float64]
Verdict = Literal["yes", "uncertain", "no", "unknown"]
INTERVAL = (2.5, 97.5)  # percentiles


@dataclass(frozen=True)
class Estimate:
    """A value in AP points (0..100), with the ends of its interval of 95 % where images were resampled."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Row:
    """One variant: metrics of each finished seed in AP points, differences to the baseline, and the paper's numbers."""

    label: str
    num_trials: int
    stopped: int
    failed: int
    seeds: dict[int, dict[str, float]]
    differences: dict[str, Estimate]
    paper: dict[str, float]

    def values(self, metric: str) -> list[float]:
        """A metric of each seed where it is defined."""
        return _values(self.seeds, metric)

    def mean(self, metric: str) -> float:
        """Mean over the seeds; nan without any."""
        return _mean(self.seeds, metric)

    def spread(self, metric: str) -> float:
        """Standard deviation of the seeds (n - 1); nan of fewer than two."""
        values = self.values(metric)
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Finding:
    """A checked statement: yes where its whole interval lies in the range, uncertain where only the estimate does."""

    config: FindingConfig
    estimate: Estimate
    verdict: Verdict


@dataclass(frozen=True)
class SweepTable:
    """All that the table says; `paper` titles the published table beside it."""

    name: str
    title: str
    metrics: tuple[str, ...]
    baseline: str
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    paper: str | None
    num_images: int
    num_samples: int


def build_table(sweep: SweepConfig, records: Sequence[TrialRecord]) -> SweepTable:
    """Work out the table from the trials that have finished; what is missing stays empty."""
    config = sweep.table
    labels = list(dict.fromkeys(record.trial.label for record in records))
    baseline = config.baseline or labels[0]
    metrics = tuple(dict.fromkeys([*config.figures, *(term.figure for f in config.findings for term in f.terms)]))
    finished = [record for record in records if record.state == "finished"]
    resampled, num_images = _resample(finished, metrics, config.bootstrap_samples)
    paper = read_paper_table(config.paper) if config.paper else {}
    seeds = {label: _seeds(finished, label) for label in labels}
    rows = []
    for label in labels:
        of_label = [record for record in records if record.trial.label == label]
        published = paper.get(config.paper_rows.get(label, label))
        rows.append(
            Row(
                label,
                len(of_label),
                sum(record.state == "stopped" for record in of_label),
                sum(record.state == "failed" for record in of_label),
                seeds[label],
                {} if label == baseline else _differences(seeds, resampled, metrics, label, baseline),
                {name: 100 * value for name, value in published.metrics.items()} if published else {},
            )
        )
    by_label = {row.label: row for row in rows}
    return SweepTable(
        sweep.name,
        config.title or sweep.name,
        config.figures,
        baseline,
        tuple(rows),
        tuple(_check(finding, by_label, resampled) for finding in config.findings),
        next(iter(paper.values())).title if paper else None,
        num_images,
        config.bootstrap_samples if resampled else 0,
    )


def _seeds(finished: Sequence[TrialRecord], label: str) -> dict[int, dict[str, float]]:
    """Metrics in AP points of the finished trials of a variant by seed; nan where undefined."""
    return {
        record.trial.seed: {
            name: 100 * value if value > -1 else math.nan for name, value in record.metrics().items()
        }
        for record in finished
        if record.trial.label == label
    }  # fmt: skip


def _resample(
    finished: Sequence[TrialRecord], metrics: Sequence[str], num_samples: int
) -> tuple[dict[tuple[str, str], Floats], int]:
    """Of each variant and metric, its mean over the seeds in each resample (B,), AP points; and the number of images.

    Nothing where the trials were not all evaluated on the same images: their differences are not paired then.
    """
    by_kind: dict[IouType, list[str]] = {}
    for metric in metrics:
        kind, _, name = metric.partition("/")
        if any(known.name == name and known.of == "precision" for known in RULES[cast(IouType, kind)].metrics):
            by_kind.setdefault(cast(IouType, kind), []).append(name)
    collected: dict[tuple[str, str], list[Floats]] = {}
    ids: tuple[int, ...] | None = None
    weights = None
    for record in track(finished, len(finished), "resampling"):
        for kind, names in by_kind.items():
            if kind not in record.trial.job.evaluation.iou_types:
                continue
            parts = read_matches(record.matches, kind)
            these = tuple(part.image_id for part in parts)
            ids = ids or these
            if these != ids:
                return {}, 0
            if weights is None:
                weights = draw_weights(len(parts), num_samples)
            values = 100 * resampled_metrics(parts, _categories(parts), kind, names, weights)
            for column, name in enumerate(names):
                collected.setdefault((record.trial.label, f"{kind}/{name}"), []).append(values[:, column])
    return {key: np.mean(values, axis=0) for key, values in collected.items()}, len(ids or ())


def _categories(parts: Sequence[ImageMatches]) -> list[int]:
    """Categories that have an object; others are in no metric."""
    return sorted({int(category) for part in parts for category in part.gt_categories})


def _differences(
    seeds: Mapping[str, Mapping[int, Mapping[str, float]]],
    resampled: Mapping[tuple[str, str], Floats],
    metrics: Sequence[str],
    label: str,
    baseline: str,
) -> dict[str, Estimate]:
    """Mean of the variant minus mean of the baseline, each over the seeds that it has finished."""
    found = {}
    for metric in metrics:
        means = [_mean(seeds[one], metric) for one in (label, baseline)]
        if any(math.isnan(mean) for mean in means):
            continue
        pair = [resampled.get((one, metric)) for one in (label, baseline)]
        spread = pair[0] - pair[1] if pair[0] is not None and pair[1] is not None else None
        found[metric] = _estimate(means[0] - means[1], spread)
    return found


def _values(seeds: Mapping[int, Mapping[str, float]], metric: str) -> list[float]:
    return [metrics[metric] for metrics in seeds.values() if not math.isnan(metrics.get(metric, math.nan))]


def _mean(seeds: Mapping[int, Mapping[str, float]], metric: str) -> float:
    values = _values(seeds, metric)
    return float(np.mean(values)) if values else math.nan


def _estimate(value: float, samples: Floats | None) -> Estimate:
    if samples is None:
        return Estimate(value)
    low, high = np.nanpercentile(samples, INTERVAL)
    return Estimate(value, float(low), float(high))


def _check(config: FindingConfig, rows: Mapping[str, Row], resampled: Mapping[tuple[str, str], Floats]) -> Finding:
    """Sum the terms of a finding, over the seeds' means and over each resample."""
    value, samples = 0.0, cast("Floats | None", np.zeros(1))
    for term in config.terms:
        mean, spread = rows[term.variant].mean(term.figure), resampled.get((term.variant, term.figure))
        with np.errstate(divide="ignore"):
            value += term.factor * (float(np.log(mean)) if config.relative else mean)
            if samples is not None and spread is not None:
                samples = samples + term.factor * (np.log(spread) if config.relative else spread)
            else:
                samples = None
    if not math.isfinite(value):
        return Finding(config, Estimate(math.nan), "unknown")
    estimate = _estimate(value, samples)
    low = -math.inf if config.at_least is None else config.at_least
    high = math.inf if config.at_most is None else config.at_most
    if not low <= value <= high:
        return Finding(config, estimate, "no")
    sure = low <= estimate.low and estimate.high <= high
    return Finding(config, estimate, "yes" if sure else "uncertain")
