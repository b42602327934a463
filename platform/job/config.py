"""The job: everything a run does, as one frozen configuration that is complete before anything is built."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from maskray.model.config import Config, Fraction, InputConfig, ModelConfig, Positive
from maskray.platform.job.serve_config import ServeConfig as ServeConfig

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}")
COCO_KEYPOINTS = 17  # of a person: of these alone is it known how exactly people place them, which evaluation needs
LearningRate = Annotated[float, Field(gt=0)]


SyntheticClass = Literal["person", "circle", "square", "triangle", "star", "ring", "cross", "crescent"]


def check_plain_name(name: str) -> str:
    """The name; ValueError where it could not be that of a folder and of a registered model everywhere."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a plain name: letters, digits, . _ - only, not first . _ or -")
    return name


class SyntheticSource(Config):
    """Pictures that maskray draws itself, in COCO format (platform/data/synthetic/dataset.py)."""

    kind: Literal["synthetic"] = "synthetic"
    num_images: Positive
    seed: int = Field(0, ge=0, lt=2**63)
    height: int = Field(192, ge=64, description="Pixels.")
    width: int = Field(256, ge=64, description="Pixels.")
    max_objects: Positive = Field(8, description="Most instances in a picture.")
    classes: tuple[SyntheticClass, ...] = Field((), description="What is drawn and annotated; empty is every class.")
    keypoints: bool = Field(
        False, description="Persons alone are annotated, with keypoints; every other object is one."
    )

    @model_validator(mode="after")
    def _persons(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes: one stands twice in {', '.join(self.classes)}")
        if self.keypoints and self.classes and "person" not in self.classes:
            raise ValueError("classes has no person, which alone has keypoints: set keypoints to false")
        return self


class CocoSource(Config):
    """A COCO annotation file and the folder of its photographs."""

    kind: Literal["coco"] = "coco"
    annotations: str = Field(description="Annotation JSON; a relative path starts at the working directory.")
    images: str = Field(description="Folder of the photographs.")


class ShardSource(Config):
    """Parquet shards that `maskray data shard` wrote, at a path or any file-system URI of pyarrow."""

    kind: Literal["shards"] = "shards"
    path: str


Source = Annotated[SyntheticSource | CocoSource | ShardSource, Field(discriminator="kind")]


class DataConfig(Config):
    """Where samples come from and what is done to them on the way to the model."""

    train: Source
    val: Source
    rows_per_shard: Positive = 256
    shorter_edge_train: tuple[Positive, ...] = Field(
        (), description="Shorter edges to draw from in training; empty takes input.shorter_edge."
    )
    flip: Fraction = Field(0.5, description="Probability of a horizontal flip in training.")
    batch_by_aspect_ratio: bool = True
    min_box_pixels: float = Field(1.0, ge=0, description="Objects with a smaller side after resizing are dropped.")
    skip_images_without_objects: bool = Field(False, description="Leave images without annotations out of training.")
    decode: Literal["collate", "map"] = Field(
        "collate", description="Decode in the training process (fast on one machine) or in Ray Data tasks (CPU nodes)."
    )
    max_bad_images: int = Field(0, ge=0, description="Unreadable images that may be skipped, counted and listed.")


class TrainConfig(Config):
    """SGD with warm-up and steps (paper, section 3.1). One step is one batch of all workers together."""

    scheme: Literal["joint", "stage_wise", "alternating"] = Field(
        "joint",
        description="joint: all at once. stage_wise: the RPN with a backbone of its own, then the detector on its "
        "stored proposals. alternating: the four steps of Ren et al. 2015 that end with shared features.",
    )
    steps: Positive = Field(description="Of each stage of the scheme; the schedule begins anew with each.")
    images_per_batch: Positive = Field(16, description="Of all workers and accumulation steps together.")
    base_lr: LearningRate = Field(0.02, description="For reference_images_per_batch images.")
    reference_images_per_batch: Positive = Field(
        16, description="The linear scaling rule: lr = base_lr * images_per_batch / reference_images_per_batch."
    )
    momentum: Fraction = 0.9
    weight_decay: float = Field(1e-4, ge=0)
    weight_decay_norm: float = Field(0.0, ge=0, description="Weight decay of normalisation parameters.")
    warmup_steps: int = Field(500, ge=0)
    warmup_factor: Fraction = 0.001
    decay_at: tuple[Positive, ...] = Field((), description="Steps after which the rate is multiplied by decay.")
    decay: Fraction = 0.1
    precision: Literal["float32", "bfloat16"] = "float32"
    clip_gradient_norm: float | None = Field(None, gt=0)
    accumulate_steps: Positive = 1
    initial_weights: str | None = Field(
        None, description="torchvision:NAME for its ImageNet weights, or a .safetensors, .pth or model folder path."
    )
    checkpoint_every: Positive = Field(1000, description="Steps between checkpoints; the last step always has one.")
    evaluate_every: int = Field(0, ge=0, description="Steps between evaluations in training, at checkpoints; 0 none.")
    keep_checkpoints: Positive = Field(2, description="Newest checkpoints kept; the best is kept besides.")
    best_metric: str = Field("segm/AP", description="Named as evaluation logs it; larger is better.")
    log_every: Positive = 10

    @model_validator(mode="after")
    def _schedule(self) -> Self:
        if list(self.decay_at) != sorted(set(self.decay_at)):
            raise ValueError(f"decay_at must increase, not {list(self.decay_at)}")
        if self.decay_at and self.decay_at[-1] >= self.steps:
            raise ValueError(f"decay_at {self.decay_at[-1]} is not before the last step {self.steps}")
        if self.evaluate_every % self.checkpoint_every:
            raise ValueError("evaluate_every must be a multiple of checkpoint_every: what is evaluated is kept")
        return self

    @property
    def num_stages(self) -> int:
        """Stages that the scheme trains one after the other."""
        return {"joint": 1, "stage_wise": 2, "alternating": 4}[self.scheme]

    @property
    def total_steps(self) -> int:
        """Steps of all stages together."""
        return self.steps * self.num_stages

    @property
    def lr(self) -> float:
        """Learning rate after warm-up, by the linear scaling rule."""
        return self.base_lr * self.images_per_batch / self.reference_images_per_batch


class ResourceConfig(Config):
    """What the run asks of the Ray cluster."""

    address: str | None = Field(None, description="Ray cluster; none starts one on this machine.")
    local_cpus: Positive = Field(4, description="Logical CPUs of the cluster started on this machine.")
    num_workers: Positive = Field(2, description="Training workers (DDP).")
    cpus_per_worker: float = Field(1.0, gt=0)
    gpus_per_worker: float = Field(0.0, ge=0, description="1 trains on GPU with nccl; 0 on CPU with gloo.")
    num_evaluators: Positive = Field(2, description="Ray Data actors that hold the model.")
    max_failures: int = Field(3, ge=0, description="Worker failures that training survives by resuming.")


class EvaluationConfig(Config):
    """COCO figures on data.val."""

    iou_types: tuple[Literal["bbox", "segm", "keypoints"], ...] = ("bbox", "segm")
    images_per_batch: Positive = 4
    report_images: int = Field(12, ge=0, description="Pictures in the HTML report.")
    paper_row: str | None = Field(None, description="Published row to print beside, as table/row of the paper.")
    expect: dict[str, float] = Field(
        default_factory=dict, description="Least value of named figures, e.g. segm/AP50: 0.5; the run fails below it."
    )


class LatencyLimit(Config):
    """How long one picture may take: noise of a given size through the whole path, on the machine that promotes."""

    seconds: float = Field(gt=0, description="Most that the median picture may take.")
    height: Positive = Field(480, description="Pixels.")
    width: Positive = Field(640, description="Pixels.")
    pictures: Positive = Field(5, description="Timed one by one, after one that is not.")
    device: Literal["cpu", "cuda"] = "cpu"


class GateConfig(Config):
    """What a version must show before it takes an alias from the version that has it."""

    evaluation_set: str = Field(description="Name of the set that both were evaluated on, as `models show` prints it.")
    metrics: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        min_length=1,
        max_length=30,
        description="How far a figure, a fraction, may be below the present holder's, e.g. segm/AP: 0.005.",
    )
    latency: LatencyLimit | None = None
    max_bytes: Positive | None = Field(None, description="Most that the weights may take.")


class TrackingConfig(Config):
    """MLflow tracking server and registry."""

    uri: str | None = Field(None, description="Server URI; none is a sqlite file in the output folder.")
    experiment: str = "maskray"
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


class JobConfig(Config):
    """One run: data, model, training, evaluation, registration."""

    name: str = Field(description="Folder of the run below `output`; must be new.")
    kind: Literal["train"] = "train"
    seed: int = Field(0, ge=0, lt=2**63)
    output: str = Field("outputs", description="Folder of all runs.")
    data: DataConfig
    input: InputConfig = InputConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig
    resources: ResourceConfig = ResourceConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()
    serve: ServeConfig = ServeConfig()

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        return check_plain_name(name)

    @model_validator(mode="after")
    def _scheme(self) -> Self:
        own = self.model.rpn.own_backbone
        if self.train.scheme == "stage_wise" and not own:
            raise ValueError("train.scheme stage_wise ends with two backbones: set model.rpn.own_backbone to true")
        if self.train.scheme == "alternating" and own:
            raise ValueError("train.scheme alternating ends with shared features: set model.rpn.own_backbone to false")
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
