"""Which parts of its model a job trains, and which it leaves as they are."""

from __future__ import annotations

from maskray.model.config import ModelConfig
from maskray.model.parts import model_parts
from maskray.platform.job.train_config import TrainConfig


def check_frozen(train: TrainConfig, model: ModelConfig) -> None:
    """ValueError where train.freeze names a part that the model does not have, or leaves nothing to train."""
    parts = model_parts(model)
    absent = [part for part in train.freeze if part not in parts]
    if absent:
        raise ValueError(f"train.freeze: the model has no {', '.join(absent)}; its parts are {', '.join(parts)}")
    if not set(parts) - set(train.freeze) - ({"backbone"} if _whole_backbone(model) else set()):
        raise ValueError("train.freeze and model.backbone.freeze_stages freeze all there is: nothing is left to train")


def describe_trained(train: TrainConfig, model: ModelConfig) -> str:
    """What is trained and what is not, as one line."""
    parts = [part for part in model_parts(model) if part not in train.freeze]
    frozen: list[str] = list(train.freeze)
    stages = model.backbone.freeze_stages
    if "backbone" in parts and _whole_backbone(model):
        parts.remove("backbone")
        frozen.insert(0, "backbone")
    elif "backbone" in parts and stages:
        frozen.insert(0, f"first {stages} stages of the backbone" if stages > 1 else "stem of the backbone")
    return ", ".join(parts) + (f"; frozen: {', '.join(frozen)}" if frozen else "")


def _whole_backbone(model: ModelConfig) -> bool:
    """Whether freeze_stages are all that the backbone has; res5 of a C4 model is a part of its head."""
    return model.backbone.freeze_stages >= (4 if model.backbone.features == "c4" else 5)
