"""Prediction over the rows of a data set: in this process, or by Ray Data actors that each hold the model."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from maskray.model.coco_categories import is_unused
from maskray.model.config import LabelMap, ModelConfig, ModelSpec
from maskray.platform.data.decode import Pixels, decode_row
from maskray.platform.data.manifest import Manifest
from maskray.platform.data.row_reader import RowReader, region_of
from maskray.platform.data.transforms import network_size
from maskray.platform.evaluation.cityscapes_matching import RegionImage, match_regions
from maskray.platform.evaluation.diagnosis import diagnose_entries
from maskray.platform.evaluation.evaluated_images import BatchEvaluation, EvaluatedImages, collect
from maskray.platform.evaluation.matching import ignore_maskless, match_entries
from maskray.platform.evaluation.protocols import CITYSCAPES
from maskray.platform.evaluation.row_actors import num_actors, run_actors
from maskray.platform.evaluation.rules import IouType
from maskray.platform.files.model_folder import read_model_spec, read_weights
from maskray.platform.inference.engine import TORCH, Engine, open_predictor
from maskray.platform.inference.predictor import Predictor
from maskray.platform.job.config import EvaluationConfig, ResourceConfig
from maskray.platform.machine.precision import Measurement, measured_precision
from maskray.platform.machine.progress_bar import track

logger = logging.getLogger(__name__)


class RowEvaluator:
    """Predicts rows of a data set and matches them with their annotations, on the device of the predictor.

    Boxes and masks are diagnosed too where that is asked for.
    """

    def __init__(
        self,
        predictor: Predictor,
        manifest: Manifest,
        iou_types: Sequence[IouType],
        protocol: str = "coco",
        diagnose: bool = False,
    ) -> None:
        check_iou_types(iou_types, predictor.spec.model)
        self._by_regions = protocol == CITYSCAPES.name
        self._predictor = predictor
        self._category_ids = manifest.labels.category_ids
        self._iou_types = iou_types
        self._diagnosed = [one for one in iou_types if diagnose and one != "keypoints"]
        self._reader = RowReader(manifest)
        gaps = manifest.mask_gaps  # of older shards nobody knows, and a mask that is missing is an error
        self._has_maskless = gaps is not None and gaps.objects + gaps.crowds > 0

    def evaluate(self, indices: Sequence[int]) -> BatchEvaluation:
        """Evaluate the rows of a few global indices, as one batch where their sizes allow.

        Parts are of every IoU type by COCO's rules, and last by those of another protocol.
        """
        rows, images = read_images(self._reader, indices)
        began = time.perf_counter()
        found = self._predictor.predict(images, [row["image_id"] for row in rows])
        seconds = time.perf_counter() - began
        truth = [json.loads(row["annotations"]) for row in rows]
        parts, diagnoses = [], []
        for iou_type in self._iou_types:
            of_type = truth
            if iou_type == "segm" and self._has_maskless:  # who asked for this was told before, and wants it
                of_type = [ignore_maskless(annotations) for annotations in truth]
            pairs = zip(rows, of_type, found, strict=True)
            entries = [(row["image_id"], (row["height"], row["width"]), gt, results) for row, gt, results in pairs]
            if iou_type in self._diagnosed:
                diagnoses.append(diagnose_entries(entries, self._category_ids, iou_type))
            else:
                parts.append(match_entries(entries, self._category_ids, iou_type))
        if self._by_regions:
            regions = [
                RegionImage(row["image_id"], (row["height"], row["width"]), gt, results, region_of(row))
                for row, gt, results in zip(rows, truth, found, strict=True)
            ]
            parts.append(match_regions(regions, self._category_ids))
        texts = [json.dumps(results).encode() for results in found]
        ids = [row["image_id"] for row in rows]
        return BatchEvaluation(ids, texts, sum(map(len, found)), parts, diagnoses, seconds)


def read_images(reader: RowReader, indices: Sequence[int]) -> tuple[list[dict[str, Any]], list[Pixels]]:
    """The rows of a few global indices, and their images, decoded side by side."""
    rows = [reader.read(index) for index in indices]
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as threads:  # Pillow decodes without the GIL
        return rows, list(threads.map(decode_row, rows))


def check_iou_types(iou_types: Sequence[str], model: ModelConfig) -> None:
    """ValueError where masks or keypoints are to be evaluated of a model that makes none."""
    if "segm" in iou_types and not model.masks:
        raise ValueError("evaluation.iou_types: segm needs a model with masks (model.masks is false); leave it out")
    if "keypoints" in iou_types and not model.keypoints:
        raise ValueError(
            "evaluation.iou_types: keypoints needs a model with keypoints (model.keypoints is false); leave it out"
        )


def check_labels(model_folder: str, labels: LabelMap, data: LabelMap, where: str) -> None:
    """ValueError where a model's ids and names are not those of the data, COCO's unused ids aside.

    Names of keypoints may be missing on either side; where is what the message calls the data.
    """
    known = [(category.id, category.name) for category in labels.categories if not is_unused(category)]
    if known != [(category.id, category.name) for category in data.categories]:
        raise ValueError(f"{model_folder}: its categories are not those of {where}")


def decide_engine(model: ModelConfig, resources: ResourceConfig, engine: Engine = TORCH) -> Engine:
    """The engine with a precision, where a model leaves that open, for all who evaluate it together.

    It is what pays where one of them would run, on the cluster that this process has joined. So what is found does not
    depend on who finds it.
    """
    import ray

    if engine.precision is not None or model.inference.precision != "auto":
        return engine
    num_actors(resources, ray.cluster_resources())
    # Not in the placement group of a trial, and no CPU is waited for: it counts what it gets of one.
    task = ray.remote(num_cpus=0, num_gpus=resources.gpus_per_worker, scheduling_strategy="SPREAD")
    measured: Measurement = ray.get(task(measured_precision).remote(device_of(resources)))
    logger.warning("inference.precision auto: %s", measured)
    return replace(engine, precision=measured.precision)


def device_of(resources: ResourceConfig) -> str:
    """Where actors compute."""
    return "cuda" if resources.gpus_per_worker > 0 else "cpu"


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
    check_labels(model_folder, spec.labels, manifest.labels, f"the data at {manifest.location}")
    check_iou_types(config.iou_types, spec.model)
    batches = plan_batches(manifest, range(manifest.num_images), spec, config.images_per_batch)
    evaluation = _Evaluation(model_folder, manifest, config, device_of(resources), resources.threads, engine)
    stream = run_actors(evaluation, batches, resources)
    stage = "evaluation" if config.tta is None else "evaluation with test-time augmentation"
    return collect(track(stream, len(batches), stage), folder)


def plan_batches(manifest: Manifest, indices: Iterable[int], spec: ModelSpec, images_per_batch: int) -> list[list[int]]:
    """Rows in groups of one padded network size, large ones first so that no actor ends with the slowest batch."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index in indices:
        size = int(manifest.heights[index]), int(manifest.widths[index])
        groups.setdefault(network_size(size, spec.input, spec.model.backbone.size_divisor), []).append(index)
    ordered = sorted(groups.items(), key=lambda item: (-item[0][0] * item[0][1], item[0]))
    return [
        rows[start : start + images_per_batch] for _, rows in ordered for start in range(0, len(rows), images_per_batch)
    ]


@dataclass(frozen=True)
class _Evaluation:
    """Opens a RowEvaluator in an actor."""

    model_folder: str
    manifest: Manifest
    config: EvaluationConfig
    device: str
    threads: int
    engine: Engine

    def __call__(self) -> Callable[[list[int]], BatchEvaluation]:
        predictor = open_predictor(self.model_folder, self.device, self.engine, self.threads, self.config.tta)
        config = self.config
        return RowEvaluator(predictor, self.manifest, config.iou_types, config.protocol, diagnose=True).evaluate
