"""What a model is: its architecture, the input it wants and its label map, frozen and complete before it is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

# "as": who configures a model finds every part of it here.
from maskray.model.backbone_config import BackboneConfig as BackboneConfig
from maskray.model.combinations import check_combination, with_defaults
from maskray.model.config_base import Channels, Count, EdgePixels, GridSide, HeadNorm, Layers
from maskray.model.config_base import Config as Config
from maskray.model.config_base import Fraction as Fraction
from maskray.model.config_base import Positive as Positive
from maskray.model.label_map import MOST_CATEGORIES as MOST_CATEGORIES
from maskray.model.label_map import Category as Category
from maskray.model.label_map import LabelMap as LabelMap


class RoIOpConfig(Config):
    """How features are pooled for a region (paper, section 3 and Table 2c)."""

    name: Literal["roi_align", "roi_warp", "roi_pool"] = Field(
        "roi_align", description="The operator; the paper proposes roi_align."
    )
    reduction: Literal["mean", "max"] = Field(
        "mean", description="How the samples in a bin become one value; roi_pool is always max."
    )
    sampling_ratio: int = Field(
        0, ge=0, le=100, description="Samples per bin and axis; 0 adapts to the size of the box."
    )
    aligned: bool = Field(True, description="Half-pixel shift of RoIAlign; False is the legacy form.")
    level_rule: Literal["detectron2", "torchvision"] = Field(
        "detectron2", description="Where the small number stands that decides the level of a box of 112, 224, 448 px."
    )

    @model_validator(mode="after")
    def _pool_is_max(self) -> Self:
        if self.name == "roi_pool" and self.reduction != "max":
            raise ValueError("roi_pool takes the maximum: set reduction to max")
        return self


class AnchorConfig(Config):
    """One anchor size per pyramid level P2..P6, or all of them on one map, each with every aspect ratio (h / w)."""

    sizes: tuple[float, ...] = Field(
        (32.0, 64.0, 128.0, 256.0, 512.0),
        min_length=1,
        max_length=100,
        description="Square roots of the areas of anchors, in pixels: five for a pyramid, one for each level from P2 "
        "on; any number where there is one map.",
    )
    aspect_ratios: tuple[float, ...] = Field(
        (0.5, 1.0, 2.0), min_length=1, max_length=100, description="Height over width of the anchors of each size."
    )
    offset: float = Field(0.5, ge=0, lt=1, description="Centre of the first anchor, in cells.")
    rounded: bool = Field(False, description="Corners around the centre in whole pixels, as torchvision has them.")
    strides: Literal["exact", "from_map_size"] = Field(
        "exact", description="from_map_size: image size // map size, as torchvision; differs at P6 alone."
    )


class RPNConfig(Config):
    """Region proposal network (Ren et al. 2015; Lin et al. 2017)."""

    num_convs: Layers = Field(1, description="3x3 convolutions before its two outputs.")
    own_backbone: bool = Field(
        False, description="A second backbone for the proposals, which shares no features with the detector."
    )
    positive_iou: Fraction = Field(
        0.7,
        description="An anchor whose IoU with an object is this or more is positive; so is the best one of each "
        "object, however low.",
    )
    negative_iou: Fraction = Field(
        0.3,
        description="An anchor whose IoU with every object is below this is background; those between the two do not "
        "count.",
    )
    samples_per_image: Count = Field(256, description="Anchors of an image that the loss is of.")
    positive_fraction: Fraction = Field(0.5, description="Largest share of positive anchors among samples_per_image.")
    pre_nms_top_n_train: Count = Field(2000, description="Proposals kept per level and image before NMS, in training.")
    pre_nms_top_n_test: Count = Field(1000, description="Proposals kept per level and image before NMS, at inference.")
    post_nms_top_n_train: Count = Field(1000, description="Proposals kept per image after NMS, in training.")
    post_nms_top_n_test: Count = Field(1000, description="Proposals kept per image after NMS, at inference.")
    nms_iou: Fraction = Field(
        0.7, description="Of two proposals of one level whose IoU is above this the one of lower score goes."
    )
    min_size_pixels: float = Field(
        0.0, ge=0, description="Proposals with a side of this or less are dropped; 0 drops those without area."
    )
    box_loss: Literal["l1", "smooth_l1"] = Field(
        "l1", description="Loss of box offsets; smooth_l1 is squared near zero."
    )
    smooth_l1_beta: float = Field(1.0 / 9.0, gt=0, description="Where smooth_l1 goes from squared to linear.")


class BoxHeadConfig(Config):
    """Classification and box regression (paper, Figure 4): fully connected layers, or res5 of a c4 backbone."""

    name: Literal["fc", "res5"] = Field("fc", description="res5 belongs to backbone.features c4 and to it alone.")
    pool_size: GridSide = Field(7, description="Side of the grid that a region is pooled to.")
    num_convs: int = Field(0, ge=0, le=256, description="3x3 convolutions before the fully connected layers.")
    conv_channels: Channels = Field(256, description="Channels of the num_convs convolutions.")
    norm: HeadNorm = Field("none", description="Normalisation after each of the num_convs convolutions.")
    num_fcs: Layers = Field(2, description="Fully connected layers.")
    hidden_channels: Channels = Field(1024, description="Width of the fully connected layers.")
    res5_stride: Literal[1, 2] = Field(
        1, description="Stride of res5 as the head: 1 on a grid of 7x7 (paper), 2 on 14x14."
    )
    samples_per_image: Count = Field(512, description="Proposals of an image that the loss is of.")
    positive_fraction: Fraction = Field(
        0.25, description="Largest share of positive proposals among samples_per_image; the paper has 1:3."
    )
    positive_iou: Fraction = Field(
        0.5, description="A proposal whose IoU with an object is this or more is positive, any other is background."
    )
    box_weights: tuple[float, float, float, float] = Field(
        (10.0, 10.0, 5.0, 5.0),
        description="The head learns the four offsets (x, y, width, height) times these factors; its answers are "
        "divided by them.",
    )
    box_loss: Literal["l1", "smooth_l1"] = Field(
        "l1", description="Loss of box offsets; smooth_l1 is squared near zero."
    )
    smooth_l1_beta: float = Field(1.0 / 9.0, gt=0, description="Where smooth_l1 goes from squared to linear.")
    class_agnostic: bool = Field(False, description="One box for all classes, not one for each.")


class MaskHeadConfig(Config):
    """Mask branch: convolutions and a deconvolution (Figure 4), or fully connected layers (Table 2e)."""

    name: Literal["fcn", "mlp"] = Field("fcn", description="fcn: convolutions. mlp: fully connected layers.")
    pool_size: GridSide = Field(
        14, description="Side of the grid that a region is pooled to; res5 as the head brings its own."
    )
    channels: Channels = Field(256, description="Channels of the convolutions of the fcn.")
    num_convs: int = Field(4, ge=0, le=256, description="3x3 convolutions of the fcn.")
    norm: HeadNorm = Field("none", description="Normalisation after each convolution.")
    mlp_channels: tuple[Channels, ...] = Field(
        (1024, 1024), min_length=1, max_length=256, description="Hidden layers of the mlp."
    )
    output: Literal["per_class_sigmoid", "class_agnostic", "softmax"] = Field(
        "per_class_sigmoid", description="Table 2b: a mask per class, one mask, or classes that compete for each pixel."
    )
    targets: Literal["binary", "soft"] = Field(
        "binary", description="Ground truth by aligned RoIAlign, cut at one half; soft: legacy RoIAlign as it is."
    )


class KeypointHeadConfig(Config):
    """Keypoint branch: convolutions, deconvolution, 2x bilinear; a one-hot heat map per keypoint (section 5)."""

    num_keypoints: Channels = Field(17, description="Keypoints of an object; COCO has 17.")
    pool_size: GridSide = Field(14, description="Side of the grid that a region is pooled to.")
    channels: Channels = Field(512, description="Channels of the convolutions.")
    num_convs: Layers = Field(8, description="3x3 convolutions.")
    score: Literal["probability", "logit"] = Field(
        "probability",
        description="Score of a keypoint: its value in the softmax over positions, or its logit (torchvision).",
    )
    half_pixel: bool = Field(True, description="Annotated whole numbers are centres of pixels: +0.5 in, -0.5 out.")


class HardNMSConfig(Config):
    """A box goes whose IoU with a better one of its class is above inference.nms_iou."""

    name: Literal["hard"] = Field("hard", description="hard: a box that overlaps a better one is dropped.")


class SoftNMSConfig(Config):
    """Boxes that overlap a better one of their class lose score and stay (Bodla et al. 2017, equations 2 and 3)."""

    name: Literal["soft"] = Field(description="soft: a box that overlaps a better one loses score.")
    method: Literal["linear", "gaussian"] = Field(
        "linear", description="Scores x (1 - IoU) where IoU is above nms_iou, or x exp(-IoU^2 / sigma) everywhere."
    )
    sigma: float = Field(0.5, gt=0, description="Of method gaussian: the smaller, the more score is lost.")
    least_score: Fraction = Field(
        0.001, description="A box stays whose score ends above this; score_threshold is of scores before NMS."
    )


def _named(nms: Any) -> Any:
    """Keys without a name are those of hard NMS, the default."""
    return {"name": "hard", **nms} if isinstance(nms, Mapping) else nms


class InferenceConfig(Config):
    """What is kept of the raw detections (paper, section 3.1; NMS 0.5 of the enhanced baseline)."""

    score_threshold: Fraction = Field(0.05, description="Detections whose score is not above it are dropped.")
    nms_iou: Fraction = Field(0.5, description="IoU above which NMS acts on boxes of a class.")
    nms: Annotated[HardNMSConfig | SoftNMSConfig, Field(discriminator="name"), BeforeValidator(_named)] = Field(
        HardNMSConfig(), description="What becomes of boxes that overlap a better one."
    )
    detections_per_image: Count = Field(100, description="Most detections of an image; the best stay.")
    mask_threshold: float = Field(
        0.5, gt=0, le=1, description="A pixel whose probability is this or more belongs to the object."
    )
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="Numbers that convolutions and products at inference are computed in; boxes, scores and NMS stay "
        "float32. auto: bfloat16 where the machine that computes is at least 1.2 times as fast with it, "
        "which is measured there once.",
    )
    min_size_pixels: float = Field(
        0.0, ge=0, description="Detections with a side below this, or without area, are dropped."
    )
    mask_paste: Literal["exact", "torchvision"] = Field(
        "exact", description="torchvision: a rim of zeros around the mask, corners of the box cut to whole pixels."
    )


class ModelConfig(Config):
    """Mask R-CNN; `masks: false` is Faster R-CNN with RoIAlign (Table 3), `keypoints: true` adds poses (Table 4).

    backbone.features and keypoints choose what other values are by default: see model/combinations.py.
    """

    backbone: BackboneConfig = Field(BackboneConfig(), description="The network that makes features of an image.")
    anchors: AnchorConfig = Field(AnchorConfig(), description="Boxes that proposals start from.")
    rpn: RPNConfig = Field(RPNConfig(), description="The network that proposes regions.")
    roi_op: RoIOpConfig = Field(RoIOpConfig(), description="How features are pooled for a region.")
    box_head: BoxHeadConfig = Field(BoxHeadConfig(), description="Classes and boxes.")
    masks: bool = Field(True, description="Whether masks are predicted.")
    mask_head: MaskHeadConfig = Field(MaskHeadConfig(), description="Masks; without effect where masks is false.")
    keypoints: bool = Field(False, description="Whether keypoints are predicted.")
    keypoint_head: KeypointHeadConfig = Field(
        KeypointHeadConfig(), description="Keypoints; without effect where keypoints is false."
    )
    inference: InferenceConfig = Field(InferenceConfig(), description="What is kept of the raw detections.")

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        return with_defaults(values)

    @model_validator(mode="after")
    def _combination(self) -> ModelConfig:
        check_combination(self)
        return self


class InputConfig(Config):
    """The image the model wants: RGB, shorter edge resized with antialiasing, normalised. Stored with the weights."""

    shorter_edge: EdgePixels = Field(800, description="Pixels of the shorter edge at inference.")
    longer_edge_max: EdgePixels = Field(1333, description="Cap of the longer edge in pixels.")
    resize: Literal["antialias", "bilinear"] = Field(
        "antialias", description="antialias: on whole numbers; bilinear: without, in float, as torchvision does."
    )
    channel_order: Literal["rgb", "bgr"] = Field(
        "rgb",
        description="Order in which the first convolution takes the channels, and in which pixel_mean and pixel_std "
        "name them.",
    )
    pixel_mean: tuple[float, float, float] = Field(
        (123.675, 116.28, 103.53), description="Subtracted from the channels, which are 0..255."
    )
    pixel_std: tuple[float, float, float] = Field(
        (58.395, 57.12, 57.375), description="Divisors of the channels, after pixel_mean is subtracted."
    )

    @model_validator(mode="after")
    def _edges(self) -> Self:
        if self.longer_edge_max < self.shorter_edge:
            raise ValueError(f"longer_edge_max {self.longer_edge_max} is below shorter_edge {self.shorter_edge}")
        return self


class ModelSpec(Config):
    """All that is needed to rebuild a model and to read its answers; `model.json` beside `model.safetensors`."""

    format: Literal[1] = Field(1, description="Version of this format.")
    model: ModelConfig = Field(description="The network.")
    input: InputConfig = Field(description="The image that it wants.")
    labels: LabelMap = Field(description="What its classes are.")
