"""Matches of single images to the file that an evaluation writes of columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maskray.platform.evaluation.matches_file import write_match_columns
from maskray.platform.evaluation.matching import ImageMatches, join_images


def write_matches(path: str | Path, parts: Sequence[ImageMatches]) -> None:
    """Write the parts of single images, of one IoU type or several."""
    columns = []
    for iou_type in dict.fromkeys(part.iou_type for part in parts):
        images = [part for part in parts if part.iou_type == iou_type]
        ids = np.unique(np.concatenate([[*part.categories, *part.gt_categories] for part in images])).astype(np.int64)
        columns.append(join_images(images, ids.tolist(), iou_type))
    write_match_columns(path, columns)
