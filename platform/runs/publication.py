"""From an evaluated run to what others see: metrics on the server, a registered version, the alias past its gate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from maskray.platform.data.manifest import Manifest
from maskray.platform.evaluation.rules import metric_names
from maskray.platform.inference.latency import check_device, measure_latency
from maskray.platform.job.config import EvaluationConfig, GateConfig, LatencyLimit
from maskray.platform.job.data_config import Source
from maskray.platform.registry.gate import Comparison, Latency
from maskray.platform.registry.metric_delivery import MetricDelivery
from maskray.platform.registry.models import check_names, resolve_model
from maskray.platform.registry.promotion import check_guard, promote
from maskray.platform.registry.registration import Evidence, evaluation_set_name
from maskray.platform.registry.tracking import Tracking
from maskray.platform.train.run_files import RunFiles


def check_publication(evaluation: EvaluationConfig, val: Source, tracking: Tracking, resume: bool = False) -> None:
    """Raise ValueError for what could not be registered or promoted at the end, before hours are spent on it.

    A run that is resumed may have its alias already, so a gate that was asked for since is no reason to stop it here.
    """
    tracking.check_server()
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
    tracking.log_changed_metrics(run_id, defined, step)
    tracking.log_artifact(run_id, folder, "evaluation")


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
) -> Comparison | None:
    """Promote as platform/registry/promotion.py does; a limit of latency is measured on this machine."""

    def measure(uri: str, limit: LatencyLimit) -> Latency:
        return measure_latency(resolve_model(uri, tracking), limit)

    return promote(tracking, name, version, alias, gate, without_gate, measure)
