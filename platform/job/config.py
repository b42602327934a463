"""The job: everything a run does, as one frozen configuration that is complete before anything is built."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from maskray.model.config import Config, InputConfig, ModelConfig, Positive
from maskray.platform.job.data_config import DataConfig
from maskray.platform.job.frozen_parts import check_frozen
from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.job.train_config import TrainConfig
from maskray.platform.job.tta_config import TTAConfig

# Ray Data reads and decodes with logical CPUs of its own; with less than one left it waits in silence (no error).
DATA_CPUS = 1.0
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}")
COCO_KEYPOINTS = 17  # of a person: of these alone is it known how exactly people place them, which evaluation needs


def check_plain_name(name: str) -> str:
    """The name; ValueError where it could not be that of a folder and of a registered model everywhere."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a plain name: letters, digits, . _ - only, not first . _ or -")
    return name


def check_output(output: str) -> str:
    """The folder of all runs; ValueError for a URI, which would be made a local folder of such a name."""
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:/", output):
        raise ValueError(f"{output!r} is a URI: runs are written to a path that every node sees, such as a mounted one")
    return output


class ResourceConfig(Config):
    """What the run asks of the Ray cluster."""

    address: str | None = Field(None, description="Ray cluster; none starts one on this machine.")
    local_cpus: Positive = Field(4, description="Logical CPUs of the cluster started on this machine.")
    num_workers: Positive = Field(2, description="Training workers (DDP).")
    cpus_per_worker: float = Field(1.0, gt=0, description="CPU cores that Ray sets aside for a worker.")
    gpus_per_worker: float = Field(0.0, ge=0, description="1 trains on GPU with nccl; 0 on CPU with gloo.")
    num_evaluators: Positive = Field(2, description="Ray Data actors that hold the model in evaluation.")
    wait_seconds: float = Field(
        3600.0, ge=0, description="How long training waits for CPUs and GPUs that others of the cluster have."
    )
    max_failures: int = Field(3, ge=0, description="Worker failures that training survives by resuming.")

    @property
    def threads(self) -> int:
        """Threads that a worker computes with; sums are rounded in an order that depends on them."""
        return max(1, int(self.cpus_per_worker))

    @property
    def training_cpus(self) -> float:
        """Logical CPUs of the training workers, and those kept for Ray Data beside them."""
        return self.num_workers * self.cpus_per_worker + DATA_CPUS


class EvaluationConfig(Config):
    """COCO metrics on data.val, and those of Cityscapes where asked for."""

    iou_types: tuple[Literal["bbox", "segm", "keypoints"], ...] = Field(
        ("bbox", "segm"), description="What is measured: boxes (bbox), masks (segm), keypoints."
    )
    protocol: Literal["coco", "cityscapes"] = Field(
        "coco", description="cityscapes: the figures of its own scripts, of masks, beside those of COCO."
    )
    submission: bool = Field(
        False, description="Write the folder `submission` of the run: text files and masks as Cityscapes' server takes."
    )
    images_per_batch: Positive = Field(4, description="Images that are predicted at once.")
    report_images: int = Field(12, ge=0, description="Images in the HTML report.")
    tta: TTAConfig | None = Field(
        None, description="Test-time augmentation in the last evaluation, beside one view; none looks at one."
    )
    paper_row: str | None = Field(None, description="Published row to print beside, as table/row of the paper.")
    expect: dict[str, float] = Field(
        default_factory=dict, description="Least value of named metrics, e.g. segm/AP50: 0.5; the run fails below it."
    )

    @model_validator(mode="after")
    def _masks(self) -> Self:
        for name, wanted in (("protocol cityscapes", self.protocol != "coco"), ("submission", self.submission)):
            if wanted and "segm" not in self.iou_types:
                raise ValueError(f"{name} is of masks: iou_types needs segm")
        return self


class LatencyLimit(Config):
    """How long one image may take: noise of a given size through the whole path, on the machine that promotes."""

    seconds: float = Field(gt=0, description="Most that the median image may take.")
    height: Positive = Field(480, description="Height of the image in pixels.")
    width: Positive = Field(640, description="Width of the image in pixels.")
    pictures: Positive = Field(5, description="How many images are timed, one by one, after a first one that is not.")
    device: Literal["cpu", "cuda"] = Field("cpu", description="The device that the latency is measured on.")


class GateConfig(Config):
    """What a version must show before it takes an alias from the version that has it."""

    evaluation_set: str = Field(description="Name of the set that both were evaluated on, as `models show` prints it.")
    metrics: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        min_length=1,
        max_length=30,
        description="How far a metric, a fraction, may be below the present holder's, e.g. segm/AP: 0.005.",
    )
    latency: LatencyLimit | None = Field(None, description="How fast a version must be; null asks nothing.")
    max_bytes: Positive | None = Field(None, description="Most bytes that the weights may take; null asks nothing.")


class TrackingConfig(Config):
    """MLflow tracking server and registry."""

    uri: str | None = Field(None, description="Server URI; none is a sqlite file in the output folder.")
    experiment: str = Field("maskray", description="MLflow's experiment that runs are put into.")
    register_as: str | None = Field(None, description="Registered model name; none registers nothing.")
    alias: str | None = Field(None, description="Alias that the new version gets, e.g. champion.")
    gate: GateConfig | None = Field(None, description="What the new version must pass to get the alias.")
    wait_seconds: float = Field(
        600.0, ge=0, description="How long the end of a run waits for a server that is away; --resume delivers later."
    )

    @model_validator(mode="after")
    def _gate(self) -> Self:
        if self.gate is not None and (self.register_as is None or self.alias is None):
            raise ValueError("gate guards an alias: set register_as and alias too")
        return self


@dataclass(frozen=True)
class StreamConfig:
    """What the batches of training follow from, besides the data themselves and the number of workers."""

    data: DataConfig
    input: InputConfig
    model: ModelConfig
    seed: int
    images_per_batch: int
    accumulate_steps: int
    last_step: int
    threads: int


class JobConfig(Config):
    """One run: data, model, training, evaluation, registration."""

    name: str = Field(description="Folder of the run below `output`; must be new.")
    kind: Literal["train"] = Field(
        "train", description="train: a training job, which is also what a job without a kind is."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of all random numbers of the job.")
    output: str = Field("outputs", description="Folder of all runs.")
    data: DataConfig = Field(description="The images to learn from and to evaluate on.")
    input: InputConfig = Field(InputConfig(), description="The size and the colours of images as the model gets them.")
    model: ModelConfig = Field(ModelConfig(), description="The network.")
    train: TrainConfig = Field(description="What is trained, how, and for how long.")
    resources: ResourceConfig = Field(ResourceConfig(), description="The cluster, and what the workers take of it.")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="What is measured after training.")
    tracking: TrackingConfig = Field(TrackingConfig(), description="Where MLflow keeps runs and versions.")
    serve: ServeConfig = Field(ServeConfig(), description="The server of the model.")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        return check_plain_name(name)

    @field_validator("output")
    @classmethod
    def _path(cls, output: str) -> str:
        return check_output(output)

    @property
    def stream(self) -> StreamConfig:
        """What its batches follow from."""
        return StreamConfig(
            self.data,
            self.input,
            self.model,
            self.seed,
            self.train.images_per_batch,
            self.train.accumulate_steps,
            self.train.total_steps,
            threads=max(2, min(8, int(self.resources.cpus_per_worker))),
        )

    @model_validator(mode="after")
    def _scheme(self) -> Self:
        own = self.model.rpn.own_backbone
        if self.train.scheme == "stage_wise" and not own:
            raise ValueError("train.scheme stage_wise ends with two backbones: set model.rpn.own_backbone to true")
        if self.train.scheme == "alternating" and own:
            raise ValueError("train.scheme alternating ends with shared features: set model.rpn.own_backbone to false")
        return self

    @model_validator(mode="after")
    def _frozen(self) -> Self:
        check_frozen(self.train, self.model)
        return self

    @model_validator(mode="after")
    def _augmentation(self) -> Self:
        augmentation = self.data.augmentation
        if augmentation.copy_paste > 0 and not self.model.masks:
            raise ValueError("data.augmentation.copy_paste pastes along masks: set it to 0 or model.masks to true")
        if augmentation.moves_pixels and self.train.scheme != "joint":
            raise ValueError(
                f"train.scheme {self.train.scheme} learns from proposals on whole images: data.augmentation may change "
                "colours only"
            )
        return self

    @model_validator(mode="after")
    def _labelled_share(self) -> Self:
        labelled = self.data.labelled_per_batch
        if labelled is not None and labelled >= self.train.images_per_batch:
            raise ValueError(
                f"data.labelled_per_batch {labelled} leaves no image of train.images_per_batch "
                f"{self.train.images_per_batch} for those that a model has labelled"
            )
        return self

    @model_validator(mode="after")
    def _divides(self) -> Self:
        parts = self.resources.num_workers * self.train.accumulate_steps
        if self.train.images_per_batch % parts:
            raise ValueError(
                f"train.images_per_batch {self.train.images_per_batch} does not divide into resources.num_workers "
                f"{self.resources.num_workers} x train.accumulate_steps {self.train.accumulate_steps}"
            )
        return self


def first_mistake(error: ValidationError) -> str:
    """Dotted key and reason of the first mistake found in a description that is not a job, as one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"
