"""The parts of a detector by the names of its tensors: what is frozen, taken over or begun anew as one."""

from __future__ import annotations

PARTS = ("backbone", "pyramid", "rpn_backbone", "rpn", "res5", "box_head", "mask_head", "keypoint_head")
_PREFIXES = {
    "backbone.lateral.": "pyramid",
    "backbone.output.": "pyramid",
    "backbone.": "backbone",
    "rpn_backbone.": "rpn_backbone",
    "rpn.": "rpn",
    "roi_heads.res5.": "res5",
    "roi_heads.box_head.": "box_head",
    "roi_heads.mask_head.": "mask_head",
    "roi_heads.keypoint_head.": "keypoint_head",
}


def part_of(name: str) -> str | None:
    """The part (one of PARTS) that a parameter or buffer belongs to; None for a name that is not of a detector."""
    return next((part for prefix, part in _PREFIXES.items() if name.startswith(prefix)), None)
