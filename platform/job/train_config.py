"""The part of the configuration that says what is trained, how, and for how long."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from maskray.model.config import Config, Fraction, Positive
from maskray.model.parts import Part

LearningRate = Annotated[float, Field(gt=0)]
Epochs = Annotated[float, Field(gt=0, le=1e6)]


class SGDConfig(Config):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = Field("sgd", description="sgd: stochastic gradient descent.")
    momentum: Fraction | None = Field(None, description="Momentum; none takes train.momentum.")
    nesterov: bool = Field(False, description="Nesterov's momentum (Sutskever et al. 2013).")


class AdamWConfig(Config):
    """Adam with weight decay beside the gradient and not in it (Loshchilov & Hutter 2019)."""

    name: Literal["adamw"] = Field("adamw", description="adamw: Adam with decoupled weight decay.")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.999), description="Decay of the averages of the gradient and of its square, by step."
    )
    eps: float = Field(1e-8, gt=0, description="Added to the divisor, against division by zero.")


OptimizerConfig = Annotated[SGDConfig | AdamWConfig, Field(discriminator="name")]


class AverageConfig(Config):
    """An exponential moving average of the weights (Polyak & Juditsky 1992)."""

    decay: float = Field(0.9998, ge=0, lt=1, description="Share of the average so far in that after another step.")
    warmup: bool = Field(True, description="A smaller share at first, (1 + n) / (10 + n) after n steps.")


class TrainConfig(Config):
    """SGD with warm-up and steps (paper, section 3.1) unless told otherwise.

    One step is one batch of all workers together, one epoch as many images as take part in training.
    """

    scheme: Literal["joint", "stage_wise", "alternating"] = Field(
        "joint",
        description="joint: all at once. stage_wise: the RPN with a backbone of its own, then the detector on its "
        "stored proposals. alternating: the four steps of Ren et al. 2015 that end with shared features.",
    )
    freeze: tuple[Part, ...] = Field(
        (),
        description="Parts that stay as they are, beside model.backbone.freeze_stages: no gradient, and batch norm "
        "keeps its statistics.",
    )
    steps: Positive | None = Field(
        None, description="Steps of each stage of the scheme; the schedule begins anew with each. Set steps or epochs."
    )
    epochs: Epochs | None = Field(
        None, description="Length of each stage as passes over the images that take part, instead of steps."
    )
    images_per_batch: Positive = Field(
        16, description="Images in a batch, of all workers and accumulation steps together."
    )
    optimizer: OptimizerConfig = Field(SGDConfig(), description="The rule by which a gradient changes the weights.")
    base_lr: LearningRate = Field(
        0.02, description="Learning rate where a batch has reference_images_per_batch images."
    )
    reference_images_per_batch: Positive = Field(
        16,
        description="Images of the batch that base_lr is for: lr = base_lr * images_per_batch / "
        "reference_images_per_batch.",
    )
    backbone_lr_factor: float = Field(
        1.0, gt=0, le=100, description="Learning rate of the backbone as a multiple of that of the rest."
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Further factor of the learning rate of the last stage of the backbone, once more for the one "
        "before it, and so on (Clark et al. 2020).",
    )
    momentum: Fraction = Field(0.9, description="Momentum of optimizer sgd.")
    weight_decay: float = Field(1e-4, ge=0, description="Pull of the weights towards zero; 0.0001 in the paper.")
    weight_decay_norm: float = Field(0.0, ge=0, description="Weight decay of normalisation parameters.")
    weight_decay_bias: float | None = Field(None, ge=0, description="Weight decay of biases; none is weight_decay.")
    warmup_steps: int = Field(500, ge=0, description="Steps in which the learning rate rises to its full height.")
    warmup_factor: Fraction = Field(0.001, description="Share of the full learning rate at the first step.")
    schedule: Literal["steps", "cosine"] = Field(
        "steps",
        description="After warm-up: steps multiplies by decay at each of decay_at; cosine falls to final_factor at "
        "the end (Loshchilov & Hutter 2017).",
    )
    decay_at: tuple[Positive, ...] = Field(
        (), description="Steps after which the learning rate is multiplied by decay."
    )
    decay_at_epochs: tuple[Epochs, ...] = Field(
        (), description="Epochs after which the learning rate is multiplied by decay, instead of decay_at."
    )
    decay: Fraction = Field(0.1, description="Factor of the learning rate at each of decay_at.")
    final_factor: Fraction = Field(0.0, description="Share of the full learning rate that schedule cosine ends with.")
    ema: AverageConfig | None = Field(
        None, description="Evaluate and keep an average of the weights over the steps; none keeps the last ones."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Numbers that training computes with; weights stay float32."
    )
    clip_gradient_norm: float | None = Field(
        None, gt=0, description="A longer gradient is cut to this norm; null cuts none."
    )
    accumulate_steps: Positive = Field(1, description="Batches whose gradients are added up for one step.")
    initial_weights: str | None = Field(
        None,
        description="torchvision:NAME, of ImageNet (resnet50) or a detector (maskrcnn_resnet50_fpn); a model folder or "
        "checkpoint, models:/NAME@alias, or a .safetensors, .pth or .pkl file.",
    )
    class_names: dict[str, str] = Field(
        default_factory=dict,
        description="Names of classes in initial_weights where they are others than those of the data: {mine: theirs}.",
    )
    checkpoint_every: Positive = Field(1000, description="Steps between checkpoints; the last step always has one.")
    checkpoint_every_epochs: Epochs | None = Field(
        None, description="Epochs between checkpoints, instead of checkpoint_every."
    )
    checkpoint_every_minutes: float | None = Field(
        None, gt=0, description="A checkpoint is written too where the last one is that old."
    )
    evaluate_every: int = Field(0, ge=0, description="Steps between evaluations in training, at checkpoints; 0 none.")
    evaluate_every_epochs: Epochs | None = Field(
        None,
        description="Epochs between evaluations, instead of evaluate_every; a multiple of checkpoint_every_epochs.",
    )
    patience: int = Field(
        0, ge=0, description="Evaluations without a better best_metric after which training ends; 0 goes to the end."
    )
    keep_checkpoints: Positive = Field(2, description="Newest checkpoints kept; the best is kept besides.")
    best_metric: str = Field(
        "segm/AP",
        description="Metric that the best checkpoint is chosen by, named as evaluation logs it; larger is better.",
    )
    log_every: Positive = Field(10, description="Steps between two lines of figures.")

    @field_validator("optimizer", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"name": "sgd"} | value if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _length(self) -> Self:
        if self.steps is None and self.epochs is None:
            raise ValueError("set steps or epochs: how long is it to train?")
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"steps {self.steps} and epochs {self.epochs:g} say the same: set one of them to null")
        return self

    @model_validator(mode="after")
    def _schedule(self) -> Self:
        for name, times, end in (
            ("decay_at", self.decay_at, self.steps),
            ("decay_at_epochs", self.decay_at_epochs, self.epochs),
        ):
            unit = "step" if name == "decay_at" else "epoch"
            if list(times) != sorted(set(times)):
                raise ValueError(f"{name} must increase, not {list(times)}")
            if times and end is not None and times[-1] >= end:
                raise ValueError(f"{name} {times[-1]:g} is not before the last {unit} {end:g}")
        if self.decay_at and self.decay_at_epochs:
            raise ValueError("decay_at and decay_at_epochs say the same: set one of them to []")
        if self.schedule == "cosine" and (self.decay_at or self.decay_at_epochs):
            raise ValueError("schedule cosine has no steps: set decay_at and decay_at_epochs to []")
        if self.schedule == "steps" and self.final_factor:
            raise ValueError(f"final_factor {self.final_factor:g} has no effect: schedule is steps")
        return self

    @model_validator(mode="after")
    def _evaluations(self) -> Self:
        fields = type(self).model_fields
        for name in ("checkpoint_every", "evaluate_every"):
            steps = getattr(self, name)
            if getattr(self, f"{name}_epochs") is not None and steps != fields[name].default:
                raise ValueError(f"{name} {steps} and {name}_epochs say the same: set one of them alone")
        checkpoints, evaluations = self.checkpoint_every_epochs, self.evaluate_every_epochs
        if evaluations is not None and (checkpoints is None or not _divides(checkpoints, evaluations)):
            raise ValueError(
                "evaluate_every_epochs must be a multiple of checkpoint_every_epochs: what is evaluated is kept"
            )
        if checkpoints is not None and self.evaluate_every:
            raise ValueError(
                "evaluate_every must be in epochs as checkpoint_every_epochs is: set evaluate_every_epochs"
            )
        if self.evaluate_every % self.checkpoint_every:
            raise ValueError("evaluate_every must be a multiple of checkpoint_every: what is evaluated is kept")
        if self.patience and not self.evaluates:
            raise ValueError(f"patience {self.patience} counts evaluations in training: set evaluate_every")
        return self

    @model_validator(mode="after")
    def _optimizer(self) -> Self:
        optimizer, default = self.optimizer, type(self).model_fields["momentum"].default
        if optimizer.name == "adamw":
            if self.momentum != default:
                raise ValueError(f"momentum {self.momentum:g} has no effect: optimizer.name is adamw")
            return self
        if optimizer.momentum is not None and self.momentum not in (default, optimizer.momentum):
            raise ValueError(f"momentum {self.momentum:g} and optimizer.momentum {optimizer.momentum:g} differ")
        if optimizer.nesterov and not self.sgd_momentum:
            raise ValueError("optimizer.nesterov needs a momentum above 0")
        return self

    @property
    def sgd_momentum(self) -> float:
        """Momentum of optimizer sgd."""
        own = self.optimizer.momentum if self.optimizer.name == "sgd" else None
        return self.momentum if own is None else own

    @property
    def evaluates(self) -> bool:
        """Whether there are evaluations in training."""
        return self.evaluate_every > 0 or self.evaluate_every_epochs is not None

    @property
    def in_epochs(self) -> bool:
        """Whether some length is known only along with the number of images: see resolve_schedule."""
        return (
            self.epochs is not None
            or bool(self.decay_at_epochs)
            or self.checkpoint_every_epochs is not None
            or self.evaluate_every_epochs is not None
        )

    @property
    def num_steps(self) -> int:
        """Steps of each stage, of a schedule that is in steps."""
        assert self.steps is not None, "resolve_schedule comes first"
        return self.steps

    @property
    def num_stages(self) -> int:
        """Stages that the scheme trains one after the other."""
        return {"joint": 1, "stage_wise": 2, "alternating": 4}[self.scheme]

    @property
    def total_steps(self) -> int:
        """Steps of all stages together, of a schedule that is in steps."""
        return self.num_steps * self.num_stages

    @property
    def lr(self) -> float:
        """Learning rate after warm-up, by the linear scaling rule."""
        return self.base_lr * self.images_per_batch / self.reference_images_per_batch


def _divides(part: float, whole: float) -> bool:
    """Whether a whole is 1, 2, 3, ... parts, but for rounding."""
    ratio = whole / part
    return round(ratio) >= 1 and abs(ratio - round(ratio)) < 1e-6
