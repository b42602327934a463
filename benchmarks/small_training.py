"""Trains and evaluates a small Mask R-CNN in this process, without Ray: what the tables of recipes are made of."""

from __future__ import annotations

import io
import itertools
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskray.model.build_model import build_model
from maskray.model.config import LabelMap, ModelSpec
from maskray.model.mask_rcnn import MaskRCNN
from maskray.model.presets import merge
from maskray.model.structures import Batch
from maskray.model.transfer import Source
from maskray.platform.data.batch import SampleBuilder, collate
from maskray.platform.data.decode import decode_image
from maskray.platform.data.formats.coco import annotation_dicts, read_dataset
from maskray.platform.data.partners import Partners
from maskray.platform.data.synthetic.dataset import synthesize
from maskray.platform.evaluation.evaluate_files import evaluate_files
from maskray.platform.inference.predictor import Predictor
from maskray.platform.job.config import JobConfig
from maskray.platform.train.context import LocalContext
from maskray.platform.train.trainer import Trainer

SIZE = (128, 160)  # height and width of the images
BASE: dict[str, Any] = {
    "name": "small",
    "data": {"train": {"kind": "synthetic", "num_images": 1}, "val": {"kind": "synthetic", "num_images": 1}},
    "input": {"shorter_edge": 128, "longer_edge_max": 160},
    "model": {
        "backbone": {"name": "resnet18", "norm": "group_norm", "freeze_stages": 0, "fpn_channels": 64},
        "anchors": {"sizes": [16, 32, 64, 128, 256]},
        "rpn": {"samples_per_image": 64, "pre_nms_top_n_train": 200, "post_nms_top_n_train": 100,
                "pre_nms_top_n_test": 200, "post_nms_top_n_test": 100},
        "box_head": {"hidden_channels": 128, "samples_per_image": 32},
        "mask_head": {"channels": 32},
    },
    "train": {"steps": 400, "images_per_batch": 4, "base_lr": 0.02, "reference_images_per_batch": 4,
              "warmup_steps": 50, "clip_gradient_norm": 10.0},
    "resources": {"num_workers": 1},
}  # fmt: skip


@dataclass(frozen=True)
class SmallData:
    """Rows as shards have them, the label map, and the annotation file that they come from."""

    rows: list[dict[str, Any]]
    labels: LabelMap
    annotations: Path


def draw_data(folder: Path, num_images: int, seed: int, classes: Sequence[str]) -> SmallData:
    """Synthetic images of the given classes in a folder of their own, read whole."""
    with redirect_stderr(io.StringIO()):
        paths = synthesize(folder, num_images, seed, *SIZE, 5, "train", classes=tuple(classes))
    dataset = read_dataset(paths.annotations, paths.images)
    rows = [
        {
            "image_id": image.image_id,
            "file_name": image.file_name,
            "width": image.width,
            "height": image.height,
            "image": (paths.images / image.file_name).read_bytes(),
            "annotations": json.dumps(annotation_dicts(image)),
        }
        for image in dataset.images
    ]
    return SmallData(rows, dataset.labels, paths.annotations)


def drawn_rows(data: SmallData, job: JobConfig) -> Iterator[list[tuple[int, int]]]:
    """Row and draw of every image of each batch, endless, in an order drawn by the seed of the job."""
    size = job.train.images_per_batch
    for epoch in itertools.count():
        order = np.random.default_rng([job.seed, epoch]).permutation(len(data.rows))
        for start in range(0, len(order) - size + 1, size):
            yield [(int(index), epoch) for index in order[start : start + size]]


def train_model(
    job: JobConfig,
    model: MaskRCNN,
    data: SmallData,
    steps: int,
    order: Iterator[list[tuple[int, int]]] | None = None,
) -> Trainer:
    """Train the first steps of a job on rows in an order, that of drawn_rows where none is given."""
    builder = SampleBuilder(job.data, job.input, job.model, data.labels, job.seed)
    partners = Partners(job.seed, len(data.rows), job.data.augmentation.copy_paste)
    side = job.data.augmentation.crop_size or 0

    def with_partner(row: dict[str, Any], epoch: int) -> dict[str, Any]:
        other = partners.row(epoch, row["image_id"])
        return row if other is None else row | {"partner": data.rows[other]}

    def batches(_: int) -> Iterator[Batch]:
        for drawn in order or drawn_rows(data, job):
            samples = [builder.build(with_partner(data.rows[row], draw), draw) for row, draw in drawn]
            yield collate(samples, job.model.backbone.size_divisor, side)

    trainer = Trainer(model, job.train, LocalContext(), job.seed)
    trainer.last_step = steps  # of the whole schedule, its beginning
    trainer.run(batches)
    return trainer


def job_of(seed: int, steps: int) -> JobConfig:
    """The small job with a seed and a length."""
    return JobConfig.model_validate(merge(BASE, {"seed": seed, "train": {"steps": steps}}))


def new_model(job: JobConfig, labels: LabelMap) -> MaskRCNN:
    """A model with weights drawn by the seed of the job."""
    torch.manual_seed(job.seed)
    return build_model(job.model, job.input, labels.num_classes)


def pretrain(data: SmallData, steps: int) -> Source:
    """A detector trained on a data set for a whole schedule, as the start of others."""
    job = job_of(0, steps)
    model = new_model(job, data.labels)
    train_model(job, model, data, steps)
    print(f"# pretrained: {metrics_of(model, job, data)} on its own images", flush=True)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return Source("pretrained", state, job.model, job.input, data.labels)


def metrics_of(model: MaskRCNN, job: JobConfig, data: SmallData) -> dict[str, float]:
    """AP and AP50 of boxes and masks on a data set, in per cent."""
    spec = ModelSpec(model=job.model, input=job.input, labels=data.labels)
    predictor = Predictor(model.eval(), spec, "cpu")
    images = [decode_image(row["image"]) for row in data.rows]
    found = predictor.predict(images, [row["image_id"] for row in data.rows])
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([result for results in found for result in results], file)
        file.flush()
        metrics: dict[str, float] = {}
        for kind in ("bbox", "segm"):
            metrics |= evaluate_files(data.annotations, file.name, kind).metrics  # type: ignore[arg-type]
    return {name: 100 * metrics[name] for name in ("bbox/AP", "bbox/AP50", "segm/AP", "segm/AP50")}


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t, for 2 to 10 values."""
    t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}[len(values)]
    array = np.asarray(values)
    return float(array.mean()), float(t * array.std(ddof=1) / np.sqrt(len(array)))
