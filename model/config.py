"""What a model is: its architecture, the input it wants and its label map, frozen and complete before it is built."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]


class Config(BaseModel):
    """Base of every configuration: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BackboneConfig(Config):
    """ResNet with a feature pyramid (paper, section 3; Lin et al. 2017)."""

    name: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet50"
    norm: Literal["frozen_batch_norm", "batch_norm", "sync_batch_norm", "group_norm"] = Field(
        "frozen_batch_norm", description="Normalisation of the backbone; group_norm is what trains from nothing."
    )
    norm_eps: float = Field(1e-5, gt=0, description="Epsilon of the normalisation, stored with the weights.")
    stem_channels: Positive = Field(64, description="Channels of the stem.")
    res2_channels: Positive = Field(
        64, description="Width of res2, doubled by each later stage; a bottleneck puts out four times as many."
    )
    stride_in_1x1: bool = Field(False, description="Stride in the first 1x1 of a bottleneck (MSRA weights).")
    freeze_stages: int = Field(
        2, ge=0, le=5, description="Stages without gradient, from the stem: 0 none, 1 stem, 2 stem and res2, ..."
    )
    fpn_channels: Positive = 256
    fpn_norm: Literal["none", "batch_norm", "sync_batch_norm", "group_norm"] = "none"


class RoIOpConfig(Config):
    """How features are pooled for a region (paper, section 3 and Table 2c)."""

    name: Literal["roi_align", "roi_warp", "roi_pool"] = "roi_align"
    reduction: Literal["mean", "max"] = Field("mean", description="Of the samples in a bin; roi_pool is always max.")
    sampling_ratio: int = Field(0, ge=0, description="Samples per bin and axis; 0 adapts to the size of the box.")
    aligned: bool = Field(True, description="Half-pixel shift of RoIAlign; False is the legacy form.")

    @model_validator(mode="after")
    def _pool_is_max(self) -> Self:
        if self.name == "roi_pool" and self.reduction != "max":
            raise ValueError("roi_pool takes the maximum: set reduction to max")
        return self


class AnchorConfig(Config):
    """One anchor size per pyramid level P2..P6, each with every aspect ratio (height / width)."""

    sizes: tuple[float, ...] = Field((32.0, 64.0, 128.0, 256.0, 512.0), min_length=5, max_length=5)
    aspect_ratios: tuple[float, ...] = Field((0.5, 1.0, 2.0), min_length=1)
    offset: float = Field(0.5, ge=0, lt=1, description="Centre of the first anchor, in cells.")


class RPNConfig(Config):
    """Region proposal network (Ren et al. 2015; Lin et al. 2017)."""

    positive_iou: Fraction = 0.7
    negative_iou: Fraction = 0.3
    samples_per_image: Positive = 256
    positive_fraction: Fraction = 0.5
    pre_nms_top_n_train: Positive = Field(2000, description="Proposals kept per level and image before NMS.")
    pre_nms_top_n_test: Positive = 1000
    post_nms_top_n_train: Positive = Field(1000, description="Proposals kept per image after NMS.")
    post_nms_top_n_test: Positive = 1000
    nms_iou: Fraction = 0.7
    min_size_pixels: float = Field(0.0, ge=0)
    box_loss: Literal["l1", "smooth_l1"] = "l1"
    smooth_l1_beta: float = Field(1.0 / 9.0, gt=0)


class BoxHeadConfig(Config):
    """Two fully connected layers, classification and box regression (paper, Figure 4 right)."""

    pool_size: Positive = 7
    hidden_channels: Positive = 1024
    samples_per_image: Positive = 512
    positive_fraction: Fraction = 0.25
    positive_iou: Fraction = 0.5
    box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    box_loss: Literal["l1", "smooth_l1"] = "l1"
    smooth_l1_beta: float = Field(1.0 / 9.0, gt=0)
    class_agnostic: bool = False


class MaskHeadConfig(Config):
    """Fully convolutional mask branch: convolutions, a deconvolution, one sigmoid mask per class (Figure 4 right)."""

    pool_size: Positive = 14
    channels: Positive = 256
    num_convs: Positive = 4
    norm: Literal["none", "group_norm"] = "none"


class InferenceConfig(Config):
    """What is kept of the raw detections (paper, section 3.1; NMS 0.5 of the enhanced baseline)."""

    score_threshold: Fraction = 0.05
    nms_iou: Fraction = 0.5
    detections_per_image: Positive = 100
    mask_threshold: Fraction = 0.5


class ModelConfig(Config):
    """Mask R-CNN with a feature pyramid backbone; `masks: false` is Faster R-CNN with RoIAlign (Table 3)."""

    backbone: BackboneConfig = BackboneConfig()
    anchors: AnchorConfig = AnchorConfig()
    rpn: RPNConfig = RPNConfig()
    roi_op: RoIOpConfig = RoIOpConfig()
    box_head: BoxHeadConfig = BoxHeadConfig()
    masks: bool = True
    mask_head: MaskHeadConfig = MaskHeadConfig()
    inference: InferenceConfig = InferenceConfig()


class InputConfig(Config):
    """The picture the model wants: RGB, shorter edge resized with antialiasing, normalised. Stored with the weights."""

    shorter_edge: Positive = Field(800, description="Pixels of the shorter edge at inference.")
    longer_edge_max: Positive = Field(1333, description="Cap of the longer edge in pixels.")
    pixel_mean: tuple[float, float, float] = Field((123.675, 116.28, 103.53), description="RGB, of values 0..255.")
    pixel_std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    @model_validator(mode="after")
    def _edges(self) -> Self:
        if self.longer_edge_max < self.shorter_edge:
            raise ValueError(f"longer_edge_max {self.longer_edge_max} is below shorter_edge {self.shorter_edge}")
        return self


class Category(Config):
    id: int = Field(description="Id in the annotation file; COCO's have gaps.")
    name: str


class LabelMap(Config):
    """The categories in class order: class index k of the model is `categories[k]`; there is no background entry."""

    categories: tuple[Category, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> Self:
        ids = [category.id for category in self.categories]
        if len(set(ids)) != len(ids):
            raise ValueError(f"category ids are not unique: {sorted(i for i in set(ids) if ids.count(i) > 1)}")
        return self

    @property
    def num_classes(self) -> int:
        """Number of classes without background."""
        return len(self.categories)

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Annotation-file id of every class index."""
        return tuple(category.id for category in self.categories)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every class index."""
        return tuple(category.name for category in self.categories)

    @property
    def class_indices(self) -> dict[int, int]:
        """Class index of every annotation-file id."""
        return {category.id: index for index, category in enumerate(self.categories)}


class ModelSpec(Config):
    """All that is needed to rebuild a model and to read its answers; `model.json` beside `model.safetensors`."""

    format: Literal[1] = 1
    model: ModelConfig
    input: InputConfig
    labels: LabelMap
