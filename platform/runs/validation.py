"""Evaluation in training: each rank predicts its share of the images, rank 0 merges; the same path as evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maskray.model.config import ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.platform.data.manifest import Manifest, read_manifest
from maskray.platform.data.stream import eval_rows
from maskray.platform.evaluation.evaluate import evaluate_rows, merge_parts
from maskray.platform.evaluation.rules import IouType
from maskray.platform.inference.engine import TORCH, Engine
from maskray.platform.inference.predictor import Predictor


@dataclass(frozen=True)
class ShardValidation:
    """Implements Validation (platform/train/run_context.py) on the shards at `location`; picklable."""

    location: str
    spec: ModelSpec
    iou_types: Sequence[IouType]
    engine: Engine = TORCH  # with a precision where the model leaves that open, the same for every rank

    def evaluate(self, model: MaskRCNN, rank: int, num_ranks: int) -> list[Any]:
        """Parts of this rank's images; every image belongs to one rank."""
        manifest = self._manifest()
        device = next(model.parameters()).device
        predictor = Predictor(model, self.spec, str(device), self.engine.precision)
        return evaluate_rows(predictor, manifest, eval_rows(manifest, rank, num_ranks), self.iou_types)

    def merge(self, parts: list[Any]) -> dict[str, float]:
        """Metrics of all images; raises ValueError where one is missing or there twice."""
        return merge_parts(parts, self._manifest(), self.iou_types)

    def _manifest(self) -> Manifest:
        """The shards with the categories of the model, of which they may lack some."""
        return read_manifest(self.location).model_copy(update={"labels": self.spec.labels})
