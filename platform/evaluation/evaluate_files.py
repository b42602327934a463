"""Evaluation of a results file against an annotation file, in this process or in tasks of Ray.

Neither torch nor pydantic is imported for files that are plain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskray.ops.match_images import RegionColumns
from maskray.platform.evaluation.coco_ap import CocoMetrics, merge_columns
from maskray.platform.evaluation.file_columns import TruthColumns, read_result_columns, read_truth_columns
from maskray.platform.evaluation.matching import MatchColumns, match_columns, of_images
from maskray.platform.evaluation.protocols import CITYSCAPES, COCO, Protocol, find_protocol
from maskray.platform.evaluation.rules import IOU_TYPES, IouType

if TYPE_CHECKING:  # pydantic is imported with it
    from maskray.platform.evaluation.cityscapes_ap import CityscapesMetrics


def evaluate_files(
    gt_path: str | Path, dt_path: str | Path, iou_type: IouType, partitions: int = 1, protocol: str = "coco"
) -> CocoMetrics | CityscapesMetrics:
    """Metrics of a COCO results file against an annotation file (or a tree of Cityscapes), by one of PROTOCOLS.

    With more than one partition the images are divided among as many Ray tasks (a cluster is joined or started); the
    metrics are the same to the last bit. ValueError naming the file and the entry where one is malformed, or where a
    detection is of an image that the ground truth lacks.
    """
    if iou_type not in IOU_TYPES:
        raise ValueError(f"IoU type {iou_type!r}: there are {', '.join(IOU_TYPES)}")
    if partitions < 1:
        raise ValueError(f"{partitions} partitions: at least 1")
    by = find_protocol(protocol, iou_type)
    if by is CITYSCAPES:
        from maskray.platform.evaluation.cityscapes_files import evaluate_cityscapes

        return evaluate_cityscapes(gt_path, dt_path, partitions)
    truth = read_truth_columns(gt_path, iou_type)
    detections = read_result_columns(dt_path, truth, iou_type)
    groups: Mapping[str, tuple[int, ...]] = {}
    if by.federated:
        from maskray.platform.evaluation.federation import federate, read_federation

        federation = read_federation(truth)
        objects, detections = federate(truth.objects, detections, federation, len(truth.category_ids))
        truth, groups = replace(truth, objects=objects), federation.groups
    if partitions == 1:
        parts = [match_part(truth, detections, iou_type, by)]
    else:
        parts = _match_on_ray(truth, detections, iou_type, by, partitions)
    return merge_columns(parts, truth.category_ids.tolist(), iou_type, by, groups)


def match_part(
    truth: TruthColumns,
    detections: RegionColumns,
    iou_type: IouType,
    protocol: Protocol = COCO,
    part: int = 0,
    parts: int = 1,
) -> MatchColumns:
    """Match one of so many parts of the images of a data set."""
    edges = np.linspace(0, len(truth.image_ids), parts + 1).astype(int)
    of = slice(edges[part], edges[part + 1])
    objects, found = (of_images(columns, of.start, of.stop) for columns in (truth.objects, detections))
    return match_columns(truth.image_ids[of], truth.sizes[of], objects, found, truth.category_ids, iou_type, protocol)


def _match_on_ray(
    truth: TruthColumns, detections: RegionColumns, iou_type: IouType, protocol: Protocol, partitions: int
) -> list[MatchColumns]:
    import ray

    from maskray.platform.machine.ray_cluster import connect

    connect()
    task = ray.remote(match_part)
    stored = ray.put(truth), ray.put(detections)  # once, and shared by the tasks of a machine
    return ray.get([task.remote(*stored, iou_type, protocol, part, partitions) for part in range(partitions)])
