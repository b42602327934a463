"""What a job takes of the weights that it starts from: known before anything starts, told where the run is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from maskray.model.build_model import build_model
from maskray.model.config import InputConfig, LabelMap, ModelConfig
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.transfer import Transfer, plan_transfer
from maskray.platform.data.preparation import labels_known_early
from maskray.platform.files.initial_weights import open_source
from maskray.platform.job.config import JobConfig
from maskray.platform.job.plan import COUNTED_BYTES
from maskray.platform.registry.models import URI, resolve_model
from maskray.platform.registry.tracking import Tracking


def locate_weights(source: str, tracking: Tracking, cache: Path | None = None) -> str:
    """What a worker can open: a registered model is fetched into `cache` (none: the user's) and its folder named."""
    return resolve_model(source, tracking, cache) if source.startswith(URI) else source


def explain_weights(job: JobConfig, labels: LabelMap | None = None) -> Transfer | None:
    """What the job takes of train.initial_weights, from names and shapes alone; None where it starts from nothing.

    `labels` are those of the data (none: as far as they are known before the data are read). Raises ValueError where
    the weights cannot be read or are of another architecture.
    """
    if job.train.initial_weights is None:
        return None
    located = locate_weights(job.train.initial_weights, Tracking(job.tracking, job.output))
    if labels is None:
        labels = labels_known_early(job.data.train, COUNTED_BYTES)
    source = open_source(located, names_only=True)
    model = _empty_model(job.model, job.input, 1 if labels is None else labels.num_classes)
    return plan_transfer(model, job.input, labels, source, job.train.class_names)


def start_weights(
    job: JobConfig, labels: LabelMap, tracking: Tracking, folder: Path, resume: bool, tell: Callable[[str], None]
) -> tuple[JobConfig, str]:
    """The job with where a worker finds its weights, and the table of what is taken of them, which a new run tells."""
    source = job.train.initial_weights
    if source is None:
        return job, ""
    located = locate_weights(source, tracking, folder / "initial_weights")
    ready = job.model_copy(update={"train": job.train.model_copy(update={"initial_weights": located})})
    if resume:
        return ready, ""
    taken = explain_weights(ready, labels)
    assert taken is not None
    lines = [f"weights of {source}", *(f"  {name}: {value}" for name, value in taken.lines())]
    for line in lines:
        tell(line)
    return ready, "\n".join([*lines, ""])


def _empty_model(config: ModelConfig, input_config: InputConfig, num_classes: int) -> MaskRCNN:
    """A model of names and shapes."""
    try:
        with torch.device("meta"):
            return build_model(config, input_config, num_classes)
    except (NotImplementedError, RuntimeError):  # some networks of timm look at values while they are built
        return build_model(config, input_config, num_classes)
