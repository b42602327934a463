"""Prediction over the rows of a data set: in this process, or by Ray Data actors that each hold the model."""

from __future__ import annotations

import json
import logging
import math
import pickle
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from maskray.model.coco_categories import is_unused
from maskray.model.config import LabelMap, ModelConfig, ModelSpec
from maskray.platform.data.decode import decode_row
from maskray.platform.data.manifest import Manifest
from maskray.platform.data.row_reader import RowReader
from maskray.platform.data.transforms import network_size
from maskray.platform.evaluation.evaluated_images import BatchEvaluation, EvaluatedImages, collect
from maskray.platform.evaluation.matching import ignore_maskless, match_entries
from maskray.platform.evaluation.rules import IouType
from maskray.platform.files.model_folder import read_model_spec, read_weights
from maskray.platform.inference.engine import TORCH, Engine, open_predictor
from maskray.platform.inference.predictor import Predictor
from maskray.platform.job.config import EvaluationConfig, ResourceConfig
from maskray.platform.machine.precision import Measurement, measured_precision
from maskray.platform.machine.progress_bar import track

logger = logging.getLogger(__name__)
BLOCKS_PER_ACTOR = 64
STALL_SECONDS = 120  # without progress Ray Data would wait half an hour before it says so


class RowEvaluator:
    """Predicts rows of a data set and matches them with their annotations, on the device of the predictor."""

    def __init__(self, predictor: Predictor, manifest: Manifest, iou_types: Sequence[IouType]) -> None:
        check_iou_types(iou_types, predictor.spec.model)
        self._predictor = predictor
        self._category_ids = manifest.labels.category_ids
        self._iou_types = iou_types
        self._reader = RowReader(manifest)
        gaps = manifest.mask_gaps  # of older shards nobody knows, and a mask that is missing is an error
        self._has_maskless = gaps is not None and gaps.objects + gaps.crowds > 0

    def evaluate(self, indices: Sequence[int]) -> BatchEvaluation:
        """Evaluate the rows of a few global indices, as one batch where their sizes allow."""
        rows = [self._reader.read(index) for index in indices]
        with ThreadPoolExecutor(max(1, torch.get_num_threads())) as threads:  # Pillow decodes without the GIL
            images = list(threads.map(decode_row, rows))
        found = self._predictor.predict(images, [row["image_id"] for row in rows])
        truth = [json.loads(row["annotations"]) for row in rows]
        parts = []
        for iou_type in self._iou_types:
            of_type = truth
            if iou_type == "segm" and self._has_maskless:  # who asked for this was told before, and wants it
                of_type = [ignore_maskless(annotations) for annotations in truth]
            pairs = zip(rows, of_type, found, strict=True)
            entries = [(row["image_id"], (row["height"], row["width"]), gt, results) for row, gt, results in pairs]
            parts.append(match_entries(entries, self._category_ids, iou_type))
        texts = [json.dumps(results).encode() for results in found]
        return BatchEvaluation([row["image_id"] for row in rows], texts, sum(map(len, found)), parts)


def check_iou_types(iou_types: Sequence[str], model: ModelConfig) -> None:
    """ValueError where masks or keypoints are to be evaluated of a model that makes none."""
    if "segm" in iou_types and not model.masks:
        raise ValueError("evaluation.iou_types: segm needs a model with masks (model.masks is false); leave it out")
    if "keypoints" in iou_types and not model.keypoints:
        raise ValueError(
            "evaluation.iou_types: keypoints needs a model with keypoints (model.keypoints is false); leave it out"
        )


def check_labels(model_folder: str, labels: LabelMap, manifest: Manifest) -> None:
    """ValueError where a model's ids and names are not those of the data, COCO's unused ids aside.

    Names of keypoints may be missing on either side.
    """
    known = [(category.id, category.name) for category in labels.categories if not is_unused(category)]
    if known != [(category.id, category.name) for category in manifest.labels.categories]:
        raise ValueError(f"{model_folder}: its categories are not those of the data at {manifest.location}")


def decide_engine(model: ModelConfig, resources: ResourceConfig, engine: Engine = TORCH) -> Engine:
    """The engine with a precision, where a model leaves that open, for all who evaluate it together.

    It is what pays where one of them would run, on the cluster that this process has joined. So what is found does not
    depend on who finds it.
    """
    import ray

    if engine.precision is not None or model.inference.precision != "auto":
        return engine
    device = "cuda" if resources.gpus_per_worker > 0 else "cpu"
    _num_actors(resources, ray.cluster_resources())
    # Not in the placement group of a trial, and no CPU is waited for: it counts what it gets of one.
    task = ray.remote(num_cpus=0, num_gpus=resources.gpus_per_worker, scheduling_strategy="SPREAD")
    measured: Measurement = ray.get(task(measured_precision).remote(device))
    logger.warning("inference.precision auto: %s", measured)
    return replace(engine, precision=measured.precision)


def predict_rows(
    model_folder: str,
    manifest: Manifest,
    config: EvaluationConfig,
    resources: ResourceConfig,
    engine: Engine = TORCH,
    folder: str | Path | None = None,
) -> EvaluatedImages:
    """Predict and match every row by actors on the Ray cluster that this process has joined, with a progress bar.

    At most resources.num_evaluators actors with the CPUs and GPUs of a worker hold the model; fewer where the cluster
    has no room. What they find is written to a file in `folder` as it comes (EvaluatedImages). ValueError where an
    image cannot be read, the model folder is damaged, or the cluster has room for no actor.
    """
    spec = read_model_spec(model_folder)
    read_weights(model_folder)  # damage is told here, not by every actor
    check_labels(model_folder, spec.labels, manifest)
    check_iou_types(config.iou_types, spec.model)
    batches = plan_batches(manifest, range(manifest.num_images), spec, config.images_per_batch)
    stream = _run_actors(model_folder, manifest, config.iou_types, resources, batches, engine)
    return collect(track(stream, len(batches), "evaluation"), folder)


def plan_batches(manifest: Manifest, indices: Iterable[int], spec: ModelSpec, images_per_batch: int) -> list[list[int]]:
    """Rows in groups of one padded network size, large ones first so that no actor ends with the slowest batch."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index in indices:
        size = manifest.heights[index], manifest.widths[index]
        groups.setdefault(network_size(size, spec.input, spec.model.backbone.size_divisor), []).append(index)
    ordered = sorted(groups.items(), key=lambda item: (-item[0][0] * item[0][1], item[0]))
    return [
        rows[start : start + images_per_batch] for _, rows in ordered for start in range(0, len(rows), images_per_batch)
    ]


class _Actor:
    """Runs in an actor of Ray Data: the model, read once, and batches of row indices through it."""

    def __init__(
        self,
        model_folder: str,
        manifest: Manifest,
        iou_types: Sequence[IouType],
        gpu: bool,
        threads: int,
        engine: Engine,
    ) -> None:
        torch.set_num_threads(threads)
        self._error, self._evaluator = "", None
        try:
            predictor = open_predictor(model_folder, "cuda" if gpu else "cpu", engine, threads)
            self._evaluator = RowEvaluator(predictor, manifest, iou_types)
        except ValueError as mistake:
            self._error = str(mistake)

    def __call__(self, table: Any) -> Any:
        (entry,) = table.to_pylist()
        evaluation, error = None, self._error
        try:
            if self._evaluator is not None:
                evaluation = self._evaluator.evaluate(entry["rows"])
        except ValueError as mistake:  # of the data: told by the driver in one line, not by Ray Data in forty
            error = str(mistake)
        # Pickled by our own actor for our own driver, never read from a file.
        packed = pa.array([pickle.dumps(evaluation)], pa.large_binary())
        return pa.table({"evaluation": packed, "error": [error]})


def _run_actors(
    model_folder: str,
    manifest: Manifest,
    iou_types: Sequence[IouType],
    resources: ResourceConfig,
    batches: list[list[int]],
    engine: Engine,
) -> Iterator[BatchEvaluation]:
    import ray.data

    if not batches:
        return
    size = min(_num_actors(resources, ray.cluster_resources()), len(batches))
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = STALL_SECONDS
    threads = max(1, int(resources.cpus_per_worker))
    arguments = (model_folder, manifest, iou_types, resources.gpus_per_worker > 0, threads, engine)
    with ray.data.DataContext.current(context):
        # Some blocks for every actor, whatever the size of the data set.
        step = max(1, len(batches) // (BLOCKS_PER_ACTOR * size))
        tables = [pa.table({"rows": batches[start : start + step]}) for start in range(0, len(batches), step)]
        dataset = ray.data.from_arrow(tables).map_batches(
            _Actor,
            fn_constructor_args=arguments,
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=resources.cpus_per_worker,
            num_gpus=resources.gpus_per_worker or None,
        )
        found = iter(dataset.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0))
    for table in found:
        if error := table["error"][0].as_py():
            raise ValueError(error)
        yield pickle.loads(table["evaluation"][0].as_py())


def _num_actors(resources: ResourceConfig, cluster: dict[str, float]) -> int:
    """How many of the wanted actors fit; ValueError where none does."""
    fit = math.floor(cluster.get("CPU", 0.0) / resources.cpus_per_worker)
    if resources.gpus_per_worker > 0:
        fit = min(fit, math.floor(cluster.get("GPU", 0.0) / resources.gpus_per_worker))
    if fit < 1:
        raise ValueError(
            f"evaluation needs {resources.cpus_per_worker:g} CPUs and {resources.gpus_per_worker:g} GPUs "
            f"(resources.cpus_per_worker, gpus_per_worker), the cluster has {cluster.get('CPU', 0.0):g} and "
            f"{cluster.get('GPU', 0.0):g}"
        )
    if fit < resources.num_evaluators:
        logger.warning("the cluster has room for %d of %d evaluators", fit, resources.num_evaluators)
    return min(fit, resources.num_evaluators)
