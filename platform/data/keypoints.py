"""Keypoints of COCO annotations as targets: read, scaled, mirrored, and whether a label map has those of a model.

Letters: M objects of one image, K keypoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.model.config import KeypointHeadConfig, LabelMap, ModelConfig

HALF_PIXEL = 0.5  # from the whole number that names a pixel to the pixel's centre


def read_keypoints(
    annotations: Sequence[Mapping[str, Any]], config: KeypointHeadConfig, scale: tuple[float, float]
) -> NDArray[np.float32]:
    """Keypoints of COCO annotations, (M, K, 3) float32: x y in pixels times scale (x, y), and visibility 0, 1 or 2.

    What is not labelled is all zeros, and so are the keypoints of an annotation that has none. ValueError naming the
    annotation that has another number of them than config.
    """
    keypoints = np.zeros((len(annotations), config.num_keypoints, 3), dtype=np.float64)
    for row, annotation in zip(keypoints, annotations):
        values = annotation.get("keypoints")
        if values is None:
            continue
        if len(values) != row.size:
            raise ValueError(
                f"annotation {annotation['id']}: {len(values) / 3:g} keypoints, "
                f"model.keypoint_head.num_keypoints is {config.num_keypoints}"
            )
        row[:] = np.reshape(values, (-1, 3))
    keypoints[..., :2] = (keypoints[..., :2] + (HALF_PIXEL if config.half_pixel else 0.0)) * scale
    return np.where(keypoints[..., 2:] > 0, keypoints, 0.0).astype(np.float32)


def flip_keypoints(
    keypoints: NDArray[np.float32], width: int, orders: Sequence[NDArray[np.int64]]
) -> NDArray[np.float32]:
    """Mirror (M, K, 3) keypoints in an image of a width in pixels; orders are mirrored_order of each object."""
    flipped = np.zeros_like(keypoints)
    for row, source, order in zip(flipped, keypoints, orders, strict=True):
        row[:] = source[order]
    flipped[..., 0] = np.where(flipped[..., 2] > 0, width - flipped[..., 0], 0)
    return flipped


def mirrored_order(names: Sequence[str]) -> NDArray[np.int64]:
    """Which keypoint takes the place of each in a mirrored image, (K,): left_x and right_x change places.

    ValueError naming a keypoint of one side that has no counterpart.
    """
    order = np.arange(len(names))
    for index, name in enumerate(names):
        for side, other in (("left", "right"), ("right", "left")):
            if name.startswith(side):
                partner = other + name.removeprefix(side)
                if partner not in names:
                    raise ValueError(f"keypoint {name} has no counterpart {partner} to be flipped to")
                order[index] = list(names).index(partner)
    return order


def check_keypoints(model: ModelConfig, labels: LabelMap, flip: bool) -> None:
    """ValueError where a model with keypoints does not fit the keypoints of a label map, or they cannot be flipped."""
    if not model.keypoints:
        return
    with_keypoints = [category for category in labels.categories if category.keypoints]
    if not with_keypoints:
        raise ValueError(
            "model.keypoints is true, but no category names keypoints (shards that do not know them must be made anew)"
        )
    for category in with_keypoints:
        if len(category.keypoints) != model.keypoint_head.num_keypoints:
            raise ValueError(
                f"category {category.name} has {len(category.keypoints)} keypoints, "
                f"model.keypoint_head.num_keypoints is {model.keypoint_head.num_keypoints}"
            )
        if flip:
            try:
                mirrored_order(category.keypoints)
            except ValueError as error:
                raise ValueError(f"category {category.name}: {error} (data.flip)") from None
