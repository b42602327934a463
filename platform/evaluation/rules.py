"""What COCO counts for each kind of overlap: areas, limits on detections, and the metrics that are made of them.

Source: pycocotools 2.0.11, cocoeval.py (Params and COCOeval.summarize).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

IouType = Literal["bbox", "segm", "keypoints"]
IOU_TYPES: tuple[IouType, ...] = ("bbox", "segm", "keypoints")


@dataclass(frozen=True)
class Metric:
    """One metric: precision or final recall at an overlap (None: mean of 0.50:0.95), of an area, within a limit.

    Of the categories of a group, where it names one.
    """

    name: str
    of: Literal["precision", "recall"]
    overlap: float | None
    area: str
    limit: int
    group: str | None = None


@dataclass(frozen=True)
class Rules:
    """Area ranges in square pixels, both ends included; most detections per image and category; the metrics in order.

    by_category names the metrics that are told of every category.
    """

    areas: dict[str, tuple[float, float]]
    limits: tuple[int, ...]
    metrics: tuple[Metric, ...]
    by_category: tuple[str, ...]


_MEDIUM, _LARGE = (32.0**2, 96.0**2), (96.0**2, 1e5**2)
REGION_RULES = Rules(
    areas={"all": (0.0, 1e5**2), "small": (0.0, 32.0**2), "medium": _MEDIUM, "large": _LARGE},
    limits=(1, 10, 100),
    metrics=(
        Metric("AP", "precision", None, "all", 100),
        Metric("AP50", "precision", 0.5, "all", 100),
        Metric("AP75", "precision", 0.75, "all", 100),
        Metric("APs", "precision", None, "small", 100),
        Metric("APm", "precision", None, "medium", 100),
        Metric("APl", "precision", None, "large", 100),
        Metric("AR1", "recall", None, "all", 1),
        Metric("AR10", "recall", None, "all", 10),
        Metric("AR100", "recall", None, "all", 100),
        Metric("ARs", "recall", None, "small", 100),
        Metric("ARm", "recall", None, "medium", 100),
        Metric("ARl", "recall", None, "large", 100),
    ),
    by_category=("AP", "AP50", "AP75", "AR100"),
)
_KEYPOINTS = Rules(
    areas={"all": (0.0, 1e5**2), "medium": _MEDIUM, "large": _LARGE},
    limits=(20,),
    metrics=(
        Metric("AP", "precision", None, "all", 20),
        Metric("AP50", "precision", 0.5, "all", 20),
        Metric("AP75", "precision", 0.75, "all", 20),
        Metric("APm", "precision", None, "medium", 20),
        Metric("APl", "precision", None, "large", 20),
        Metric("AR", "recall", None, "all", 20),
        Metric("AR50", "recall", 0.5, "all", 20),
        Metric("AR75", "recall", 0.75, "all", 20),
        Metric("ARm", "recall", None, "medium", 20),
        Metric("ARl", "recall", None, "large", 20),
    ),
    by_category=("AP", "AP50", "AP75", "AR"),
)
RULES: dict[IouType, Rules] = {"bbox": REGION_RULES, "segm": REGION_RULES, "keypoints": _KEYPOINTS}
# Of LVIS (lvis 0.5.3, eval.py); 300 detections of an image, so of a category as many.
LVIS_RULES = Rules(
    areas=REGION_RULES.areas,
    limits=(300,),
    metrics=(
        Metric("AP", "precision", None, "all", 300),
        Metric("AP50", "precision", 0.5, "all", 300),
        Metric("AP75", "precision", 0.75, "all", 300),
        Metric("APs", "precision", None, "small", 300),
        Metric("APm", "precision", None, "medium", 300),
        Metric("APl", "precision", None, "large", 300),
        Metric("APr", "precision", None, "all", 300, "rare"),
        Metric("APc", "precision", None, "all", 300, "common"),
        Metric("APf", "precision", None, "all", 300, "frequent"),
        Metric("AR@300", "recall", None, "all", 300),
        Metric("ARs@300", "recall", None, "small", 300),
        Metric("ARm@300", "recall", None, "medium", 300),
        Metric("ARl@300", "recall", None, "large", 300),
    ),
    by_category=("AP", "AP50", "AP75", "AR@300"),
)

# Of Cityscapes (cityscapesscripts 2.3.0): one number for objects of 100 pixels and more, however many detections.
NO_LIMIT = 2**31 - 1
CITYSCAPES_RULES = Rules(
    areas={"100 pixels and more": (100.0, 1e5**2)},
    limits=(NO_LIMIT,),
    metrics=(
        Metric("AP", "precision", None, "100 pixels and more", NO_LIMIT),
        Metric("AP50", "precision", 0.5, "100 pixels and more", NO_LIMIT),
    ),
    by_category=("AP", "AP50"),
)


def metric_names(iou_type: IouType) -> tuple[str, ...]:
    """Names of the metrics of an IoU type, in the order of pycocotools' stats."""
    return tuple(metric.name for metric in RULES[iou_type].metrics)
