"""The part of the configuration that says where samples come from and what is done to them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from maskray.model.config import Config, Fraction, Positive

ROWS_PER_SHARD = 256
MAX_BAD_ANNOTATIONS = 0.01

SyntheticClass = Literal["person", "circle", "square", "triangle", "star", "ring", "cross", "crescent"]


class SyntheticSource(Config):
    """Images that maskray draws itself: shapes and persons in COCO format, or streets as Cityscapes is distributed.

    See platform/data/synthetic (dataset.py and street_tree.py).
    """

    kind: Literal["synthetic"] = Field("synthetic", description="synthetic: images that maskray draws.")
    scene: Literal["shapes", "street"] = Field(
        "shapes", description="shapes: shapes and persons; street: the eight classes of Cityscapes."
    )
    num_images: Positive = Field(description="How many pictures are drawn.")
    seed: int = Field(0, ge=0, lt=2**63, description="Another seed draws other pictures.")
    height: int = Field(192, ge=64, description="Height of an image in pixels.")
    width: int = Field(256, ge=64, description="Width of an image in pixels.")
    max_objects: Positive = Field(8, description="Most instances in an image.")
    classes: tuple[SyntheticClass, ...] = Field((), description="What is drawn and annotated; empty is every class.")
    keypoints: bool = Field(
        False, description="Persons alone are annotated, with keypoints; every other object is one."
    )

    @model_validator(mode="after")
    def _street(self) -> Self:
        if self.scene == "street" and (self.classes or self.keypoints):
            raise ValueError("scene street has the classes of Cityscapes: leave out classes and keypoints")
        if self.scene == "street" and self.max_objects < 2:
            raise ValueError("max_objects of scene street is at least 2")
        return self

    @model_validator(mode="after")
    def _persons(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes: one stands twice in {', '.join(self.classes)}")
        if self.keypoints and self.classes and "person" not in self.classes:
            raise ValueError("classes has no person, which alone has keypoints: set keypoints to false")
        return self


class CocoSource(Config):
    """A COCO annotation file and the folder of its images."""

    kind: Literal["coco"] = Field("coco", description="coco: an annotation file of COCO.")
    annotations: str = Field(description="Annotation JSON; a relative path starts at the working directory.")
    images: str = Field(description="Folder of the images that the annotation file names.")


DataFormat = Literal[
    "auto", "coco", "roboflow", "yolo", "labelme", "cvat", "voc", "lvis", "instance_masks", "cityscapes"
]
Split = Literal["train", "val", "test"]


class FilesSource(Config):
    """Images and annotations as a tool wrote them: a folder or a file in a format of docs/data.md."""

    kind: Literal["files"] = Field("files", description="files: a folder or file in a format of docs/data.md.")
    path: str = Field(description="Folder or annotation file; a relative path starts at the working directory.")
    format: DataFormat = Field("auto", description="auto: as the files that are there tell.")
    split: Split | None = Field(None, description="The part of the data to take; none takes all of it.")
    images: str | None = Field(None, description="Folder of the images, where they lie elsewhere.")


class ShardSource(Config):
    """Parquet shards that `maskray data shard` wrote, at a path or any file-system URI of pyarrow."""

    kind: Literal["shards"] = Field("shards", description="shards: what `maskray data shard` wrote.")
    path: str = Field(description="Folder or URI of the shards.")


class ImagesSource(Config):
    """Images without annotations: a folder with all below it, or a text file that lists them."""

    kind: Literal["images"] = Field("images", description="images: images without annotations.")
    path: str = Field(description="Folder, or a .txt file with the path of an image a line.")
    images: str | None = Field(None, description="Folder that paths of a list start at; none is that of the list.")


ScaleFactor = Annotated[float, Field(gt=0, le=16)]
Source = Annotated[SyntheticSource | CocoSource | FilesSource | ShardSource, Field(discriminator="kind")]
UnlabelledSource = Annotated[
    ImagesSource | SyntheticSource | CocoSource | FilesSource | ShardSource, Field(discriminator="kind")
]


class AugmentationConfig(Config):
    """What training does to images beside resizing and flipping, each off by default (platform/data/augmentation.py).

    In this order: scale_range, random_crop, data.flip, vertical_flip, quarter_turns, copy_paste, color_jitter.
    """

    scale_range: tuple[ScaleFactor, ScaleFactor] | None = Field(
        None,
        description="Large-scale jitter: least and greatest factor of the size that fits into crop_size, e.g. 0.1, 2.",
    )
    crop_size: Positive | None = Field(
        None, description="Side in pixels of the square that scale_range cuts and pads to; batches are of this size."
    )
    random_crop: Fraction = Field(0.0, description="Probability of a crop that keeps at least one object whole.")
    random_crop_smallest: float = Field(0.3, gt=0, le=1, description="Least share of a side that a random_crop keeps.")
    vertical_flip: Fraction = Field(0.0, description="Probability to turn rows upside down: where no side is up.")
    quarter_turns: bool = Field(False, description="Turn by 0 to 3 quarters, each alike often: where no side is up.")
    copy_paste: Fraction = Field(
        0.0, description="Probability to paste objects of another training image, of those that have masks."
    )
    color_jitter: Fraction = Field(
        0.0, description="Most that brightness, contrast and saturation change, as a share of what they are."
    )
    min_visible: Fraction = Field(
        0.1, description="Objects of whose mask less than this share is left by a crop or a pasted object are dropped."
    )

    @model_validator(mode="after")
    def _jitter(self) -> Self:
        if (self.scale_range is None) != (self.crop_size is None):
            raise ValueError("scale_range and crop_size go together: set both or neither")
        if self.scale_range is not None and self.scale_range[0] > self.scale_range[1]:
            raise ValueError(f"scale_range falls from {self.scale_range[0]:g} to {self.scale_range[1]:g}")
        return self

    @property
    def moves_pixels(self) -> bool:
        """Whether boxes on the resized image, mirrored or not, are wrong on the one that is trained on."""
        drawn = self.random_crop or self.vertical_flip or self.quarter_turns or self.copy_paste
        return bool(self.scale_range is not None or drawn)


class DataConfig(Config):
    """Where samples come from and what is done to them on the way to the model."""

    train: Source = Field(description="Images to learn from.")
    val: Source = Field(description="Images to evaluate on.")
    rows_per_shard: Positive = Field(ROWS_PER_SHARD, description="Images in a file of shards.")
    shorter_edge_train: tuple[Positive, ...] = Field(
        (), description="Shorter edges to draw from in training; empty takes input.shorter_edge."
    )
    flip: Fraction = Field(0.5, description="Probability of a horizontal flip in training.")
    augmentation: AugmentationConfig = Field(AugmentationConfig(), description="Random changes of training images.")
    batch_by_aspect_ratio: bool = Field(
        True, description="Put upright and wide images into batches of their own, so that less is padded."
    )
    order: Literal["permutation", "windowed"] = Field(
        "permutation",
        description="Rows of an epoch by a permutation of all, each read by itself; or shards in a drawn order and "
        "rows drawn within windows, which are read with few requests: for stores where a request takes long.",
    )
    shuffle_window: Positive = Field(
        2048, description="Rows that order: windowed draws from at a time; all workers together hold them in memory."
    )
    min_box_pixels: float = Field(1.0, ge=0, description="Objects with a smaller side after resizing are dropped.")
    skip_images_without_objects: bool = Field(False, description="Leave images without annotations out of training.")
    repeat_factor_threshold: Fraction = Field(
        0.0,
        description="Images with a category that fewer than this share of the images have come more than once in an "
        "epoch (LVIS takes 0.001); 0 is off.",
    )
    labelled_per_batch: Positive | None = Field(
        None,
        description="Of shards in two parts, as a distill job leaves them: images of every batch that people have "
        "labelled; the others are of those that a model has. None makes no difference between them.",
    )
    decode: Literal["collate", "map"] = Field(
        "collate", description="Decode in the training process (fast on one machine) or in Ray Data tasks (CPU nodes)."
    )
    max_bad_images: int = Field(0, ge=0, description="Unreadable images that may be skipped, counted and listed.")
    max_bad_annotations: float = Field(
        MAX_BAD_ANNOTATIONS,
        ge=0,
        allow_inf_nan=False,
        description="Unreadable annotations that may be left out, counted and listed: below 1 a share of all (one in "
        "any case), from 1 on a number; 0 none.",
    )
    objects_without_masks: Literal["error", "drop", "boxes_only"] = Field(
        "error",
        description="Where masks are wanted and an object has no segmentation: the run does not start, or such objects "
        "are left out, or they train boxes alone.",
    )

    @property
    def mirrors(self) -> bool:
        """Whether training may see mirror images, in which left and right keypoints change places."""
        return self.flip > 0 or self.augmentation.vertical_flip > 0

    @model_validator(mode="after")
    def _one_scale(self) -> Self:
        if self.shorter_edge_train and self.augmentation.scale_range is not None:
            raise ValueError("shorter_edge_train and augmentation.scale_range both say how large images are: set one")
        return self
