"""Evaluation as a user asks for it: of a results file, of rows while training, of a model on a whole data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskray.platform.evaluation.coco_ap import CocoFigures, evaluate_images, merge
from maskray.platform.evaluation.matching import ImageMatches, IouType
from maskray.platform.evaluation.results import GroundTruth, read_ground_truth, read_results

ImageEvaluation = tuple[int, tuple[int, int], list[dict[str, Any]], list[dict[str, Any]]]


def evaluate_files(gt_path: str | Path, dt_path: str | Path, iou_type: IouType, partitions: int = 1) -> CocoFigures:
    """Figures of a COCO results file against an annotation file.

    With more than one partition the images are divided among as many Ray tasks (a cluster is joined or started); the
    figures are the same to the last bit. ValueError naming the file and the entry where one is malformed, or where a
    detection is of an image that the ground truth lacks.
    """
    if iou_type not in ("bbox", "segm"):
        raise ValueError(f"IoU type {iou_type!r}: bbox or segm")
    if partitions < 1:
        raise ValueError(f"{partitions} partitions: at least 1")
    ground_truth = read_ground_truth(gt_path, iou_type)
    images = _pair_images(ground_truth, read_results(dt_path, ground_truth, iou_type))
    groups = [images[i::partitions] for i in range(partitions)]
    if partitions == 1:
        parts = [evaluate_images(images, ground_truth.category_ids, iou_type)]
    else:
        parts = _evaluate_on_ray([group for group in groups if group], ground_truth.category_ids, iou_type)
    return merge([part for group in parts for part in group], ground_truth.category_ids, iou_type)


def _pair_images(ground_truth: GroundTruth, detections: dict[int, list[dict[str, Any]]]) -> list[ImageEvaluation]:
    """Every image of the ground truth with what was annotated and what was detected."""
    return [
        (image_id, size, ground_truth.annotations.get(image_id, []), detections.get(image_id, []))
        for image_id, size in ground_truth.image_sizes.items()
    ]


def _evaluate_on_ray(
    groups: list[list[ImageEvaluation]], category_ids: tuple[int, ...], iou_type: IouType
) -> list[list[ImageMatches]]:
    import ray

    from maskray.platform.ray_cluster import connect

    connect()
    task = ray.remote(evaluate_images)
    return ray.get([task.remote(group, category_ids, iou_type) for group in groups])
