"""The part of the configuration that says where samples come from and what is done to them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from maskray.model.config import Config, Fraction, Positive

ROWS_PER_SHARD = 256

SyntheticClass = Literal["person", "circle", "square", "triangle", "star", "ring", "cross", "crescent"]


class SyntheticSource(Config):
    """Images that maskray draws itself, in COCO format (platform/data/synthetic/dataset.py)."""

    kind: Literal["synthetic"] = "synthetic"
    num_images: Positive
    seed: int = Field(0, ge=0, lt=2**63)
    height: int = Field(192, ge=64, description="Pixels.")
    width: int = Field(256, ge=64, description="Pixels.")
    max_objects: Positive = Field(8, description="Most instances in an image.")
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
    """A COCO annotation file and the folder of its images."""

    kind: Literal["coco"] = "coco"
    annotations: str = Field(description="Annotation JSON; a relative path starts at the working directory.")
    images: str = Field(description="Folder of the original image.")


class ShardSource(Config):
    """Parquet shards that `maskray data shard` wrote, at a path or any file-system URI of pyarrow."""

    kind: Literal["shards"] = "shards"
    path: str


Source = Annotated[SyntheticSource | CocoSource | ShardSource, Field(discriminator="kind")]


class DataConfig(Config):
    """Where samples come from and what is done to them on the way to the model."""

    train: Source
    val: Source
    rows_per_shard: Positive = ROWS_PER_SHARD
    shorter_edge_train: tuple[Positive, ...] = Field(
        (), description="Shorter edges to draw from in training; empty takes input.shorter_edge."
    )
    flip: Fraction = Field(0.5, description="Probability of a horizontal flip in training.")
    batch_by_aspect_ratio: bool = True
    min_box_pixels: float = Field(1.0, ge=0, description="Objects with a smaller side after resizing are dropped.")
    skip_images_without_objects: bool = Field(False, description="Leave images without annotations out of training.")
    repeat_factor_threshold: Fraction = Field(
        0.0,
        description="Images with a category that fewer than this share of the images have come more than once in an "
        "epoch (LVIS takes 0.001); 0 is off.",
    )
    decode: Literal["collate", "map"] = Field(
        "collate", description="Decode in the training process (fast on one machine) or in Ray Data tasks (CPU nodes)."
    )
    max_bad_images: int = Field(0, ge=0, description="Unreadable images that may be skipped, counted and listed.")
