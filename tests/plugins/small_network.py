"""A network that trains in seconds on images of 96 x 64 pixels, as keys of a job: for tests of whole runs."""

from __future__ import annotations

from typing import Any

SMALL_INPUT: dict[str, Any] = {"shorter_edge": 64, "longer_edge_max": 96}
# Scores of nothing in particular, so the threshold lets a few detections through.
SMALL_MODEL: dict[str, Any] = {
    "backbone": {"name": "resnet18", "norm": "group_norm", "freeze_stages": 0, "fpn_channels": 16},
    "anchors": {"sizes": [8, 16, 32, 64, 128]},
    "rpn": {"pre_nms_top_n_train": 50, "post_nms_top_n_train": 20, "post_nms_top_n_test": 20},
    "box_head": {"hidden_channels": 16, "samples_per_image": 8},
    "mask_head": {"channels": 16, "num_convs": 1},
    "inference": {"score_threshold": 0.01, "detections_per_image": 10},
}
