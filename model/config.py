"""What a model is: its architecture, the input it wants and its label map, frozen and complete before it is built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, FailFast, Field, model_validator

# "as": who configures a model finds every part of it here.
from maskray.model.backbone_config import BackboneConfig as BackboneConfig
from maskray.model.combinations import check_combination, with_defaults
from maskray.model.config_base import Channels, Count, EdgePixels, GridSide, HeadNorm, Layers, Name
from maskray.model.config_base import Config as Config
from maskray.model.config_base import Fraction as Fraction
from maskray.model.config_base import Positive as Positive

MOST_CATEGORIES = 100_000


class RoIOpConfig(Config):
    """How features are pooled for a region (paper, section 3 and Table 2c)."""

    name: Literal["roi_align", "roi_warp", "roi_pool"] = "roi_align"
    reduction: Literal["mean", "max"] = Field("mean", description="Of the samples in a bin; roi_pool is always max.")
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

    sizes: tuple[float, ...] = Field((32.0, 64.0, 128.0, 256.0, 512.0), min_length=1, max_length=100)
    aspect_ratios: tuple[float, ...] = Field((0.5, 1.0, 2.0), min_length=1, max_length=100)
    offset: float = Field(0.5, ge=0, lt=1, description="Centre of the first anchor, in cells.")
    rounded: bool = Field(False, description="Corners around the centre in whole pixels, as torchvision has them.")
    strides: Literal["exact", "from_map_size"] = Field(
        "exact", description="from_map_size: image size // map size, as torchvision; differs at P6 alone."
    )


class RPNConfig(Config):
    """Region proposal network (Ren et al. 2015; Lin et al. 2017)."""

    num_convs: Layers = 1
    own_backbone: bool = Field(
        False, description="A second backbone for the proposals, which shares no features with the detector."
    )
    positive_iou: Fraction = 0.7
    negative_iou: Fraction = 0.3
    samples_per_image: Count = 256
    positive_fraction: Fraction = 0.5
    pre_nms_top_n_train: Count = Field(2000, description="Proposals kept per level and image before NMS.")
    pre_nms_top_n_test: Count = 1000
    post_nms_top_n_train: Count = Field(1000, description="Proposals kept per image after NMS.")
    post_nms_top_n_test: Count = 1000
    nms_iou: Fraction = 0.7
    min_size_pixels: float = Field(0.0, ge=0)
    box_loss: Literal["l1", "smooth_l1"] = "l1"
    smooth_l1_beta: float = Field(1.0 / 9.0, gt=0)


class BoxHeadConfig(Config):
    """Classification and box regression (paper, Figure 4): fully connected layers, or res5 of a c4 backbone."""

    name: Literal["fc", "res5"] = Field("fc", description="res5 belongs to backbone.features c4 and to it alone.")
    pool_size: GridSide = 7
    num_convs: int = Field(0, ge=0, le=256, description="3x3 convolutions before the fully connected layers.")
    conv_channels: Channels = 256
    norm: HeadNorm = Field("none", description="Of those convolutions.")
    num_fcs: Layers = 2
    hidden_channels: Channels = Field(1024, description="Of the fully connected layers.")
    res5_stride: Literal[1, 2] = Field(1, description="Of res5 as the head: 1 on 7x7 (paper), 2 on 14x14.")
    samples_per_image: Count = 512
    positive_fraction: Fraction = 0.25
    positive_iou: Fraction = 0.5
    box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    box_loss: Literal["l1", "smooth_l1"] = "l1"
    smooth_l1_beta: float = Field(1.0 / 9.0, gt=0)
    class_agnostic: bool = False


class MaskHeadConfig(Config):
    """Mask branch: convolutions and a deconvolution (Figure 4), or fully connected layers (Table 2e)."""

    name: Literal["fcn", "mlp"] = "fcn"
    pool_size: GridSide = Field(14, description="Side of the pooled grid; res5 as the head brings its own.")
    channels: Channels = 256
    num_convs: int = Field(4, ge=0, le=256)
    norm: HeadNorm = "none"
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

    num_keypoints: Channels = 17
    pool_size: GridSide = 14
    channels: Channels = 512
    num_convs: Layers = 8
    score: Literal["probability", "logit"] = Field(
        "probability", description="Of a keypoint: its value in the softmax over positions, or its logit (torchvision)."
    )
    half_pixel: bool = Field(True, description="Annotated whole numbers are centres of pixels: +0.5 in, -0.5 out.")


class HardNMSConfig(Config):
    """A box goes whose IoU with a better one of its class is above inference.nms_iou."""

    name: Literal["hard"] = "hard"


class SoftNMSConfig(Config):
    """Boxes that overlap a better one of their class lose score and stay (Bodla et al. 2017, equations 2 and 3)."""

    name: Literal["soft"]
    method: Literal["linear", "gaussian"] = Field(
        "linear", description="Scores x (1 - IoU) where IoU is above nms_iou, or x exp(-IoU^2 / sigma) everywhere."
    )
    sigma: float = Field(0.5, gt=0, description="Of gaussian.")
    least_score: Fraction = Field(0.001, description="A box stays whose score ends above; score_threshold is before.")


def _named(nms: Any) -> Any:
    """Keys without a name are those of hard NMS, the default."""
    return {"name": "hard", **nms} if isinstance(nms, Mapping) else nms


class InferenceConfig(Config):
    """What is kept of the raw detections (paper, section 3.1; NMS 0.5 of the enhanced baseline)."""

    score_threshold: Fraction = 0.05
    nms_iou: Fraction = 0.5
    nms: Annotated[HardNMSConfig | SoftNMSConfig, Field(discriminator="name"), BeforeValidator(_named)] = (
        HardNMSConfig()
    )
    detections_per_image: Count = 100
    mask_threshold: Fraction = 0.5
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="Of convolutions and products at inference; boxes, scores and NMS stay float32. auto: bfloat16 "
        "where the machine that computes is at least 1.2 times as fast with it, which is measured there once.",
    )
    min_size_pixels: float = Field(0.0, ge=0, description="Detections with a side below are dropped.")
    mask_paste: Literal["exact", "torchvision"] = Field(
        "exact", description="torchvision: a rim of zeros around the mask, corners of the box cut to whole pixels."
    )


class ModelConfig(Config):
    """Mask R-CNN; `masks: false` is Faster R-CNN with RoIAlign (Table 3), `keypoints: true` adds poses (Table 4).

    backbone.features and keypoints choose what other values are by default: see combinations.py.
    """

    backbone: BackboneConfig = BackboneConfig()
    anchors: AnchorConfig = AnchorConfig()
    rpn: RPNConfig = RPNConfig()
    roi_op: RoIOpConfig = RoIOpConfig()
    box_head: BoxHeadConfig = BoxHeadConfig()
    masks: bool = True
    mask_head: MaskHeadConfig = MaskHeadConfig()
    keypoints: bool = False
    keypoint_head: KeypointHeadConfig = KeypointHeadConfig()
    inference: InferenceConfig = InferenceConfig()

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
        "rgb", description="In which the first convolution takes the channels and the statistics below stand."
    )
    pixel_mean: tuple[float, float, float] = Field((123.675, 116.28, 103.53), description="Of values 0..255.")
    pixel_std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    @model_validator(mode="after")
    def _edges(self) -> Self:
        if self.longer_edge_max < self.shorter_edge:
            raise ValueError(f"longer_edge_max {self.longer_edge_max} is below shorter_edge {self.shorter_edge}")
        return self


class Category(Config):
    id: int = Field(description="Id in the annotation file; COCO's have gaps.")
    name: Name
    keypoints: tuple[Name, ...] = Field(
        (), max_length=1000, description="Names; those of a mirrored pair begin with left and right."
    )
    skeleton: tuple[tuple[int, int], ...] = Field(
        (), max_length=10_000, description="Pairs of keypoints, from 1, that lines join."
    )

    @model_validator(mode="after")
    def _joined(self) -> Self:
        if len(set(self.keypoints)) != len(self.keypoints):
            raise ValueError(f"category {self.id}: a keypoint stands twice in {', '.join(self.keypoints)}")
        if not all(1 <= end <= len(self.keypoints) for pair in self.skeleton for end in pair):
            raise ValueError(f"category {self.id}: its skeleton joins keypoints other than 1..{len(self.keypoints)}")
        return self


class LabelMap(Config):
    """The categories in class order: class index k of the model is `categories[k]`; there is no background entry."""

    categories: Annotated[tuple[Category, ...], FailFast()] = Field(min_length=1, max_length=MOST_CATEGORIES)

    @model_validator(mode="after")
    def _unique(self) -> Self:
        counts = Counter(category.id for category in self.categories)
        twice = sorted(category_id for category_id, count in counts.items() if count > 1)
        if twice:
            raise ValueError(f"category ids are not unique: {twice[:10]}")
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
