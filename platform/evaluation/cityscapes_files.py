"""Evaluation of a results file by the rules of Cityscapes, in this process or in tasks of Ray."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from maskray.model.config import LabelMap
from maskray.platform.data.formats.coco import annotation_dicts, read_file
from maskray.platform.data.formats.coco_tree import Reading, read_tree
from maskray.platform.data.formats.reading import read_annotated
from maskray.platform.evaluation.cityscapes_ap import CityscapesMetrics, merge_regions
from maskray.platform.evaluation.cityscapes_matching import RegionImage, match_regions
from maskray.platform.evaluation.results import GroundTruth, read_results
from maskray.platform.job.data_config import MAX_BAD_ANNOTATIONS

logger = logging.getLogger(__name__)


def evaluate_cityscapes(gt_path: str | Path, dt_path: str | Path, partitions: int = 1) -> CityscapesMetrics:
    """Metrics of a COCO results file against a tree of Cityscapes, a split in it, or the JSON that it was converted to.

    The metrics do not depend on the partitions. ValueError as evaluate_files.
    """
    images, labels = read_region_images(Path(gt_path), Path(dt_path))
    edges = np.linspace(0, len(images), partitions + 1).astype(int).tolist()
    pieces = [images[start:end] for start, end in pairwise(edges)]
    ids = labels.category_ids
    if partitions == 1:
        return merge_regions([match_regions(images, ids)], labels.names)
    import ray

    from maskray.platform.machine.ray_cluster import connect

    connect()
    task = ray.remote(match_regions)
    return merge_regions(ray.get([task.remote(piece, ids) for piece in pieces]), labels.names)


def read_region_images(gt_path: Path, dt_path: Path) -> tuple[Sequence[RegionImage], LabelMap]:
    """The images of a ground truth with what a results file found in them, by ascending id, and the classes."""
    reading = read_truth(gt_path)
    labels = reading.accept(MAX_BAD_ANNOTATIONS)
    if not any(record.ignore_region for record in reading.images):
        logger.warning("%s: no image has an ignore_region: void pixels, if there are any, are not ignored", gt_path)
    sizes = {record.image_id: (record.height, record.width) for record in reading.images}
    found = read_results(dt_path, GroundTruth(gt_path, sizes, {}, labels.category_ids), "segm")
    images = [
        RegionImage(
            record.image_id,
            sizes[record.image_id],
            annotation_dicts(record),
            found.get(record.image_id, []),
            record.ignore_region,
        )
        for record in sorted(reading.images, key=lambda record: record.image_id)
    ]
    return images, labels


def read_truth(path: Path) -> Reading:
    """Everything that is in an annotation file, or in a folder of any format."""
    if not path.is_dir():
        return read_file(path, None)
    found = read_annotated(path, need_images=False)
    return read_tree(found.name, found.tree, found.images)
