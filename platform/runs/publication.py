"""From an evaluated run to what others see: metrics on the server, a registered version, the alias past its gate."""

from __future__ import annotations

import csv
import json
import logging
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from maskray.platform.data.manifest import Manifest
from maskray.platform.evaluation.comparison_page import render_comparison
from maskray.platform.evaluation.rules import metric_names
from maskray.platform.inference.latency import check_device, measure_latency
from maskray.platform.job.config import EvaluationConfig, GateConfig, LatencyLimit
from maskray.platform.job.data_config import Source
from maskray.platform.registry.access import check_access
from maskray.platform.registry.gate import Comparison, GateRefusedError, Latency
from maskray.platform.registry.metric_delivery import MetricDelivery
from maskray.platform.registry.models import URI, check_names, find_version, resolve_model
from maskray.platform.registry.promotion import check_guard, promote
from maskray.platform.registry.registration import Evidence, evaluation_set_name
from maskray.platform.registry.tracking import Tracking
from maskray.platform.runs.comparison import ComparedModels, compare_sources, find_source
from maskray.platform.train.run_files import RunFiles

logger = logging.getLogger(__name__)
MOST_CLASSES, LONGEST_NAME = 200, 60
PLAIN = re.compile(r"[^\w.: -]", re.ASCII)  # what a server does not take in a name of a metric; a slash divides


def check_publication(evaluation: EvaluationConfig, val: Source, tracking: Tracking, resume: bool = False) -> None:
    """Raise ValueError for what could not be registered or promoted at the end, before hours are spent on it.

    A run that is resumed may have its alias already, so a gate that was asked for since is no reason to stop it here.
    """
    check_access(tracking)
    config = tracking.config
    if config.register_as is None:
        return
    check_names(config.register_as, config.alias)
    if config.gate is None:
        if config.alias is not None and not resume:
            check_guard(tracking, config.register_as, config.alias)
        return
    evaluated = evaluation_set_name(val)
    if config.gate.evaluation_set != evaluated:
        raise ValueError(
            f"tracking.gate.evaluation_set is {config.gate.evaluation_set!r}, but data.val is {evaluated!r}"
        )
    for name in config.gate.metrics:
        kind, _, metric = name.partition("/")
        if kind == evaluation.protocol == "cityscapes" and metric in ("AP", "AP50"):
            continue
        if kind not in evaluation.iou_types:
            raise ValueError(f"tracking.gate.metrics: {name} is not of evaluation.iou_types")
        if metric not in metric_names(kind):
            raise ValueError(f"tracking.gate.metrics: no metric {name}; of {kind} {', '.join(metric_names(kind))}")
    if config.gate.latency is not None:
        check_device(config.gate.latency)


def publish_metrics(run: RunFiles, tracking: Tracking, run_id: str) -> None:
    """Send every line of a run's history that the server lacks."""
    MetricDelivery(tracking, run_id).send(run.metric_rows())


def publish_evaluation(tracking: Tracking, run_id: str, folder: Path, metrics: Mapping[str, float], step: int) -> None:
    """Send the metrics of the finished model, those that are new, and the files of its evaluation."""
    tracking.check_server()
    defined = {f"final/{name}": value for name, value in metrics.items() if value > -1}
    tracking.log_changed_metrics(run_id, defined | evaluation_figures(folder), step)
    tracking.log_artifact(run_id, folder, "evaluation")


def evaluation_figures(folder: Path) -> dict[str, float]:
    """What an evaluation's folder says beside the metrics, under names that a server takes.

    AP by class (class/NAME/bbox_AP), what errors cost (errors/bbox/missed), best scores and calibration errors; of more
    than MOST_CLASSES classes none by class. Names that become the same have the id of the category beside them.
    """
    found: dict[str, float] = {}
    with (folder / "per_class.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    times = Counter(_plain(row["name"]) for row in rows)
    for row in rows if len(rows) <= MOST_CLASSES else []:
        name = _plain(row["name"])
        if times[name] > 1:
            name += f" {row['category_id']}"
        for column, value in row.items():
            if column.endswith("/AP") and value:
                found[f"class/{name}/{column.replace('/', '_')}"] = float(value)
    for iou_type, one in json.loads((folder / "diagnostics.json").read_text(encoding="utf-8")).items():
        found |= {f"errors/{iou_type}/{name}": error["cost"] for name, error in one.get("errors", {}).items()}
        best = one["best_score"]["all"]
        found |= {} if best is None else {f"best_score/{iou_type}": best["score"], f"best_f1/{iou_type}": best["f1"]}
        error = one["calibration"]["error"]
        found |= {} if error is None else {f"calibration_error/{iou_type}": error}
    return found


def _plain(name: str) -> str:
    """The name of a class as a part of the name of a metric, where dots alone would be a path."""
    plain = PLAIN.sub("_", name)[:LONGEST_NAME]
    return plain if plain.strip(".") else "_" * len(plain)


def collect_evidence(job: str, val: Source, manifests: Mapping[str, Manifest], report: Path) -> Evidence:
    """What a registered version tells of the run that it comes from; `job` is its YAML."""
    evaluated = manifests["val"]
    return Evidence(
        job=job,
        report=report,
        digests={split: manifest.digest for split, manifest in manifests.items()},
        evaluation_set=evaluation_set_name(val),
        evaluation_digest=evaluated.digest,
        evaluated_images=evaluated.num_images,
    )


def promote_version(
    tracking: Tracking,
    name: str,
    version: str,
    alias: str,
    gate: GateConfig | None = None,
    without_gate: str | None = None,
    tell: Callable[[ComparedModels], None] | None = None,
) -> Comparison | None:
    """Promote as platform/registry/promotion.py does; a limit of latency is measured on this machine.

    Where a gate compared the version with a holder, their matches are compared too, image by image, whether it passed
    or not: the page and its JSON lie with the run of the version, and `tell` is given what was found.
    """

    def measure(uri: str, limit: LatencyLimit) -> Latency:
        return measure_latency(resolve_model(uri, tracking), limit)

    try:
        comparison = promote(tracking, name, version, alias, gate, without_gate, measure)
    except GateRefusedError as refused:
        _compare_with_holder(tracking, refused.comparison, tell)
        raise
    if comparison is not None:
        _compare_with_holder(tracking, comparison, tell)
    return comparison


def _compare_with_holder(tracking: Tracking, gate: Comparison, tell: Callable[[ComparedModels], None] | None) -> None:
    """Log the comparison of a version with the holder of the alias; why there is none is said in one line."""
    if gate["holder"] is None:
        return
    name = gate["name"]
    uris = [f"{URI}{name}/{version}" for version in (gate["holder"], gate["version"])]
    try:
        with tempfile.TemporaryDirectory() as scratch:
            holder, candidate = (find_source(uri, tracking, Path(scratch)) for uri in uris)
            compared = compare_sources(holder, candidate)
        page = render_comparison((uris[0], uris[1]), compared.comparisons, compared.categories)
        run_id = str(find_version(tracking, uris[1]).run_id)
        file = f"comparisons/{name}-{gate['version']}-beside-{gate['holder']}"
        tracking.log_text(run_id, page, f"{file}.html")
        tracking.log_text(run_id, json.dumps(compared.as_dict(), allow_nan=False), f"{file}.json")
    except ValueError as error:
        logger.warning("the gate's versions are not compared image by image: %s", error)
        return
    if tell is not None:
        tell(compared)
